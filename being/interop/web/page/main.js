// The page of an exported avatar: a file or the microphone speaks through it.

import "./being-avatar.js";
import { openMicrophone } from "./microphone.js";

const avatar = document.querySelector("being-avatar");
const part = (id) => document.getElementById(id);
const say = (text) => {
  part("status").textContent = text;
};
let microphone = null;

avatar.addEventListener("failed", ({ detail }) => say(detail.message));
avatar.addEventListener("ready", () => {
  const { name, mark } = avatar.bundle.manifest;
  part("name").textContent = name;
  document.title = name;
  part("consent").textContent = `AI-generated. ${mark.consent.note}`;
  part("file").disabled = part("microphone").disabled = !avatar.speaks;
  say(
    avatar.speaks
      ? "Rendered in this browser. Choose a sound file, or speak"
      : "Rendered in this browser. This avatar needs a server that sends its coefficients to speak",
  );
});
avatar.addEventListener("speechstart", () => {
  part("stop").disabled = false;
  say("Speaking");
});
avatar.addEventListener("speechend", () => {
  part("stop").disabled = !microphone;
  say("Rendered in this browser");
});

part("file").addEventListener("change", async ({ target }) => {
  const [file] = target.files;
  if (!file) return;
  try {
    await avatar.speak(file);
  } catch (error) {
    say(`${file.name} cannot be played: ${error.message}`);
  }
});

async function closeMicrophone() {
  microphone?.close();
  microphone = null;
  part("microphone").setAttribute("aria-pressed", "false");
}

part("microphone").addEventListener("click", async () => {
  if (microphone) {
    await closeMicrophone();
    await avatar.end();
    return;
  }
  try {
    microphone = await openMicrophone((samples, rate) => {
      avatar.push(samples, rate).catch((error) => say(error.message));
    });
    part("microphone").setAttribute("aria-pressed", "true");
    part("stop").disabled = false;
    say("The avatar repeats what you say. Headphones keep its voice out of the microphone");
  } catch (error) {
    say(`no microphone: ${error.message}`);
  }
});

part("stop").addEventListener("click", async () => {
  await closeMicrophone();
  avatar.interrupt();
  part("stop").disabled = true;
});

part("background").addEventListener("change", ({ target }) => {
  avatar.setAttribute("background", target.value);
});
