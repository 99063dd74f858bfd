// The live page: joins the session with what is seen, heard and clicked.

import { CaptionLines } from "./captions.js";
import { Conversation } from "./conversation.js";
import { canDecodeH264 } from "./decoders.js";
import { canDraw, Drawing } from "./drawing.js";
import { canListen, Microphone } from "./microphone.js";
import { hideError, showError, showNotice, showSecureNote } from "./notes.js";
import { Panel } from "./panel.js";
import { PictureQueue } from "./pictures.js";
import { isPlaced } from "./placement.js";
import { RATE } from "./protocol.js";
import { LiveSession } from "./session.js";
import { Settings } from "./settings.js";
import { Sound } from "./sound.js";
import { canDrawMatte, Stage } from "./stage.js";
import { TalkView } from "./talk_view.js";

const $ = (id) => document.getElementById(id);
const STORE = "being.session"; // what a reload of the page goes on from
const PAUSE_AFTER = 60_000; // ms that a page is hidden before its session pauses
const LONGEST_FRAME = 1 / 30; // s: the time to the next picture on the screen, at most

const query = new URLSearchParams(location.search);
const kept = readStore();
const pictures = new PictureQueue();
const captions = new CaptionLines();
const stage = new Stage($("canvas"));
const panel = new Panel((name) => $(`stat-${name}`));
const sound = new Sound(RATE, {
  changed: () => showSoundButton(),
  failed: ({ message }) => showError({ what: "The sound does not start", why: message }),
  moved: (dry) => session.report(dry), // where sound ran out, the server must send further ahead
});
const settings = new Settings({
  avatar: (name) => changeAvatar(name),
  mood: (mood) => session.express({ mood }),
  voice: (voice) => (session.options.voice = voice),
  values: (values) => session.express({ values }),
  background: (name) => session.restart({ background: name, matte: false }),
  render: (way) => chooseRender(way),
});
const session = new LiveSession(document.baseURI, sound, pictures, await firstOptions(), {
  link: showLink,
  ready: showReady,
  error: takeError,
  utterance: (text) => captions.begin(text),
  words: (words) => captions.add(words),
  change: showState,
  talk: (message) => conversation.take(message),
  cut: () => conversation.cut(),
  transcript: () => conversation.transcript(),
  notice: showNotice,
  render: showRender,
  frame: (pose) => {
    if (!drawing) return;
    drawing.prepare(pose);
    drawing.pace.came += 1;
  },
});
const talkView = new TalkView($("talk"), () => session.ready?.avatar ?? "Avatar");
const conversation = new Conversation(session, sound, {
  change: showState,
  line: (line) => talkView.write(line),
});
let microphone = null;
let wanted = query.get("render") === "client" ? "client" : "server"; // who is to draw
let drawing = null; // the Drawing of the avatar, once it is loaded
let drawn = null; // address of its bundle
let hiding; // the timer of a hidden page
let errorUntil = Infinity; // a picture of a later time ends the error that is shown
let lastFrame = performance.now();
let interval = 1 / 60; // s between pictures on the screen

/** What was kept for a reload; {} where there is nothing, or the page lies in a closed frame. */
function readStore() {
  try {
    return JSON.parse(sessionStorage.getItem(STORE) ?? "{}");
  } catch {
    return {};
  }
}

function writeStore(content) {
  try {
    sessionStorage.setItem(STORE, JSON.stringify(content));
  } catch {
    // Without a store a reload begins anew.
  }
}

async function firstOptions() {
  const avatar = query.get("avatar");
  const same = !avatar || avatar === kept.avatar;
  return {
    token: query.get("token") ?? "",
    avatar,
    mood: same ? kept.mood : undefined,
    resume: same ? kept.resume : undefined,
    matte: query.get("background") === "none" && canDrawMatte(),
    video: (await canDecodeH264()) ? "h264" : "jpeg",
    placed: await isPlaced(document.baseURI),
  };
}

// What the user does

$("composer").onsubmit = (event) => {
  event.preventDefault();
  const text = $("text").value.trim();
  if (!text) return $("text").focus();
  const most = session.ready?.limits.text_characters ?? Infinity;
  if (text.length > most) return showError(tooLong(text.length, most));
  hideError();
  sound.start();
  if (session.ready?.conversation) session.ask(text);
  else {
    stopMicrophone();
    session.speak(text);
  }
  $("text").value = "";
  $("text").oninput();
};

$("text").onkeydown = (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $("composer").requestSubmit();
};

// Browsers without `field-sizing` keep one line: let the box grow with its text.
$("text").oninput = () => {
  if (CSS.supports("field-sizing", "content")) return;
  $("text").style.height = "auto";
  $("text").style.height = `${$("text").scrollHeight}px`;
};

$("interrupt").onclick = () => {
  interrupt();
  $("text").focus();
};

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  if (session.busy || conversation.thinking) interrupt();
  else if (settings.shown) settings.toggle(false);
});

// The first gesture turns the sound on, so that the first words need not wait for it.
for (const gesture of ["pointerup", "keydown"]) {
  document.addEventListener(gesture, () => {
    if (navigator.userActivation?.isActive ?? true) sound.start();
  });
}

$("microphone").onclick = () => (microphone ? stopMicrophone() : startMicrophone());

$("captions-toggle").onclick = () => {
  const on = $("captions-toggle").getAttribute("aria-pressed") !== "true";
  $("captions-toggle").setAttribute("aria-pressed", String(on));
  showCaptions();
};

$("stats-toggle").onclick = () => {
  $("stats").hidden = !$("stats").hidden;
  $("stats-toggle").setAttribute("aria-expanded", String(!$("stats").hidden));
};

$("full-toggle").onclick = $("full-exit").onclick = () => toggleFull();
$("stage").ondblclick = () => toggleFull();
document.addEventListener("fullscreenchange", () => showFull(Boolean(document.fullscreenElement)));

// A page that nobody sees gives its place on the server back after a while.
document.addEventListener("visibilitychange", () => {
  clearTimeout(hiding);
  if (!document.hidden) session.wake();
  else if (!query.has("only")) hiding = setTimeout(() => session.pause(), PAUSE_AFTER);
});

addEventListener("pagehide", () => {
  const { avatar } = session.ready ?? kept;
  const { resume } = session;
  writeStore({ resume, avatar, mood: session.options.mood });
});

function tooLong(length, most) {
  return {
    what: "The text is too long",
    why: `it has ${length} characters, and ${most} are allowed at once`,
    fix: "Shorten it, or say it in parts",
  };
}

async function interrupt() {
  if (!conversation.listening) stopMicrophone();
  panel.silence = await session.interrupt();
}

function changeAvatar(name) {
  stopMicrophone();
  settings.forgetValues();
  session.options.mood = undefined;
  session.outbox.clear();
  session.restart({ avatar: name });
}

async function startMicrophone() {
  if (!canListen()) return showSecureNote(location);
  hideError();
  $("microphone").disabled = true;
  const converses = Boolean(session.ready?.conversation?.listens);
  try {
    await sound.start();
    if (converses) {
      microphone = await Microphone.open((pcm) => conversation.hear(pcm), 0.01);
      conversation.listen(true);
    } else {
      microphone = await Microphone.open((pcm) => session.sendSound(pcm));
      session.openSound();
    }
  } catch (error) {
    showError(microphoneError(error));
    if (converses) conversation.listen(false, `${error.name}: ${error.message}`.slice(0, 300));
  }
  $("microphone").disabled = false;
  showState();
}

function stopMicrophone() {
  if (!microphone) return;
  microphone.close();
  microphone = null;
  if (conversation.listening) conversation.listen(false);
  else session.closeSound();
  showState();
}

function microphoneError({ name, message }) {
  if (name === "NotAllowedError") {
    return {
      what: "The microphone is not allowed",
      why: "the browser or you refused it",
      fix: "Allow it in the browser's settings for this page",
    };
  }
  if (name === "NotFoundError") return { what: "There is no microphone", fix: "Connect one" };
  return { what: "The microphone does not start", why: message, fix: "Try again" };
}

async function toggleFull() {
  if (document.fullscreenElement) return document.exitFullscreen();
  if (document.body.hasAttribute("data-full")) return showFull(false);
  try {
    await document.documentElement.requestFullscreen();
  } catch {
    showFull(true); // not possible on an iPhone or in a frame: at least the whole window
  }
}

// Who draws

/** The server renders, or this page draws. */
function chooseRender(way) {
  wanted = way;
  if (way === "client") startDrawing();
  else session.askRender("server");
}

/** Load the avatar, then ask for its coefficients. Until they come the server renders. */
async function startDrawing() {
  const bundle = session.ready?.drawing?.bundle;
  if (!bundle || wanted !== "client") return;
  const address = new URL(bundle, document.baseURI);
  if (session.options.token) address.searchParams.set("token", session.options.token);
  try {
    if (drawn !== address.href) {
      drawing = null;
      drawn = address.href;
      const loaded = await Drawing.open(address.href);
      if (drawn !== address.href) return;
      drawing = loaded;
    }
    if (drawing && wanted === "client") session.askRender("client");
  } catch (error) {
    drawn = null;
    stopDrawing(`This machine cannot draw the avatar: ${error.message}`);
  }
}

/** The server renders from here on, and the page says why. */
function stopDrawing(why) {
  wanted = "server";
  showNotice(`${why}. Pictures come from the server`);
  session.askRender("server");
  settings.showRender(drawable(), wanted);
}

/** Whether this page could draw the avatar of the session. */
function drawable() {
  return Boolean(session.ready?.drawing?.bundle) && !session.options.placed && canDraw();
}

function showRender(way) {
  document.body.dataset.render = way;
  if (way === "server") drawing?.rest();
  settings.showRender(drawable(), way);
}

function drawFrame(frame) {
  try {
    drawing?.draw(frame, stage);
  } catch (error) {
    drawing = drawn = null;
    stopDrawing(`This machine cannot draw the avatar: ${error.message}`);
  }
}

/** Let the server render where this machine does not keep up. */
function checkPace() {
  if (session.render !== "client" || !drawing) return;
  if (drawing.pace.tooSlow(performance.now(), !document.hidden)) {
    stopDrawing("This machine draws too slowly");
  }
}

// What the user sees

function showLink(link, detail) {
  document.body.dataset.link = link;
  const texts = {
    connecting: "Connecting",
    open: "Connected",
    lost: `Lost, next try in ${detail} s`,
    closed: "Not connected",
    paused: "Paused",
  };
  $("link-text").textContent = texts[link];
  if (link === "closed") {
    const fault = session.fatal ?? { what: "The connection is closed" };
    showError(fault, { label: "Connect again", run: () => session.connect() });
  }
  showState();
}

function showReady(ready) {
  hideError();
  $("name").textContent = document.title = ready.avatar;
  stage.canvas.setAttribute("aria-label", `${ready.avatar}, generated by AI`);
  $("badge").title = ready.notice ?? "This person is generated by AI";
  settings.offer(ready, session.options.mood ?? "neutral");
  talkView.offer(ready);
  conversation.ready();
  document.body.dataset.background = ready.video.matte ? "none" : "filmed";
  showRender("server");
  startDrawing();
  settings.showBackgrounds(ready.backgrounds ?? [], ready.background, canDrawMatte());
  if (session.options.matte && !ready.video.matte) {
    session.options.matte = false;
    showError({ what: "This avatar has no transparent background" });
  }
}

function takeError(error) {
  errorUntil = error.code === "render_lost" ? session.lastHeard + RATE / 2 : Infinity;
  if (error.text && !$("text").value) $("text").value = error.text;
  if (!error.fatal || error.code === "full") showError(error);
}

function showState() {
  const { busy, ready } = session;
  const state = ready ? session.state : "lost";
  document.body.dataset.state = ready || stage.stacked !== null ? state : "connecting";
  const shown = state !== "speaking" && conversation.thinking ? "thinking" : state;
  const names = { speaking: "speaking", listening: "listening", thinking: "thinking" };
  $("state").textContent = names[shown] ?? "";
  $("interrupt").disabled = !busy && !conversation.thinking;
  $("microphone").setAttribute("aria-pressed", String(Boolean(microphone)));
  $("text").placeholder = placeholder(ready);
  showSoundButton();
}

function placeholder(ready) {
  if (ready?.conversation) {
    return microphone ? `Speak with ${ready.avatar}` : `Write to ${ready.avatar}`;
  }
  return microphone ? "Speak: the avatar repeats it" : "Type something to say";
}

function showSoundButton() {
  $("unmute").hidden = sound.audible || !session.busy;
}

function showCaptions(heard = session.lastHeard) {
  const on = $("captions-toggle").getAttribute("aria-pressed") === "true";
  const line = on && heard !== null ? captions.at(heard) : null;
  const text = line ? `${line.said}\n${line.coming}` : "";
  if (text === showCaptions.last) return;
  showCaptions.last = text;
  const parts = line ? [part(line.said, "said"), " ", part(line.coming, "coming")] : [];
  $("captions").replaceChildren(...parts);
}

function part(text, name) {
  const element = document.createElement("span");
  element.className = name;
  element.textContent = text;
  return element;
}

/** Screen readers get each line once, not each word. */
function tellCaptions(heard) {
  if ($("captions-toggle").getAttribute("aria-pressed") !== "true") return;
  for (const text of captions.fresh(heard)) {
    const line = document.createElement("p");
    line.textContent = text;
    $("spoken").append(line);
    while ($("spoken").childElementCount > 20) $("spoken").firstElementChild.remove();
  }
}

function showFull(on) {
  document.body.toggleAttribute("data-full", on);
  $("full-toggle").setAttribute("aria-pressed", String(on));
}

// The clock of the page

function tick() {
  const heard = session.hear();
  if (heard === null) return;
  if (document.hidden) pictures.skip(heard);
  tellCaptions(heard);
}

function draw(now) {
  requestAnimationFrame(draw);
  interval += (Math.min(LONGEST_FRAME, (now - lastFrame) / 1000) - interval) / 20;
  lastFrame = now;
  const heard = session.hear();
  if (heard === null) return;
  const seen = heard + interval * RATE; // what is heard when this picture reaches the screen
  const picture = pictures.take(seen);
  if (picture) {
    if (picture.drawn) drawFrame(picture.image);
    else stage.draw(picture.image, picture.matte);
    picture.image.close();
    panel.count(seen - picture.time);
    session.seen(picture);
    if (picture.time > errorUntil) {
      hideError();
      errorUntil = Infinity;
    }
    if (document.body.dataset.state === "connecting") showState();
  }
  showCaptions(heard);
}

function showPanel() {
  if ($("stats").hidden) return;
  const coded = session.ready?.video.codec === "h264" ? "H.264" : "JPEG";
  const kind = session.render === "client" ? "drawn here" : coded;
  const way = sound.context?.audioWorklet ? "worklet" : "buffers";
  panel.show(session.asked, pictures, sound, `${kind}, ${sound.audible ? way : "off"}`);
}

document.body.toggleAttribute("data-only", query.has("only"));
document.body.dataset.background = query.get("background") === "none" ? "none" : "filmed";
if (!isSecureContext) showSecureNote(location);
if (!canListen()) $("microphone").setAttribute("aria-disabled", "true");
setInterval(tick, 100);
setInterval(showPanel, 500);
setInterval(checkPace, 500);
requestAnimationFrame(draw);
session.connect();

const currentDrawing = () => drawing;

export { conversation, currentDrawing, pictures, session, sound };
