// The settings: avatar, mood, voice, expression, background, and who draws.

const $ = (id) => document.getElementById(id);

const BACKGROUNDS = { filmed: "As filmed", transparent: "Transparent", source: "Whole recording" };

/** The form of settings. It shows what `ready` offers and calls back what is chosen. */
export class Settings {
  /** on: callbacks avatar(name), mood(name), voice(name), values(object), background(name), render(way). */
  constructor(on) {
    this.on = on;
    this.values = {}; // expression values by name
    $("avatar").onchange = () => on.avatar($("avatar").value);
    $("voice").onchange = () => on.voice($("voice").value);
    $("expression").onchange = () => this.showStrength();
    $("strength").oninput = () => this.change();
    $("moods").onchange = ({ target }) => on.mood(target.value);
    $("backgrounds").onchange = ({ target }) => on.background(target.value);
    $("renders").onchange = ({ target }) => on.render(target.value);
    $("settings-toggle").onclick = () => this.toggle($("settings").hidden);
    $("settings-close").onclick = () => this.toggle(false);
  }

  get shown() {
    return !$("settings").hidden;
  }

  /** Show or hide the settings; the focus follows. */
  toggle(show) {
    $("settings").hidden = !show;
    $("settings-toggle").setAttribute("aria-expanded", String(show));
    (show ? $("avatar") : $("settings-toggle")).focus();
  }

  /** Offer what the server offers. mood: the one that is set. */
  offer({ avatar, avatars, moods, voices, expressions, consent, notice }, mood) {
    options($("avatar"), avatars, avatar);
    options($("voice"), voices, $("voice").value);
    $("voice").parentElement.hidden = voices.length < 2;
    options($("expression"), expressions, $("expression").value);
    $("expression").parentElement.hidden = $("strength").parentElement.hidden = !expressions.length;
    $("moods").hidden = !moods.length;
    $("moods")
      .querySelector(".choices")
      .replaceChildren(...moods.map((name) => choice("mood", name, name === mood)));
    $("consent").textContent = [notice, consentText(consent)].filter(Boolean).join(" ");
    this.showStrength();
  }

  /** Another avatar begins with a calm face. */
  forgetValues() {
    this.values = {};
  }

  /** Offer backgrounds; chosen: the one that is shown, drawable: whether a matte can be drawn. */
  showBackgrounds(names, chosen, drawable) {
    const choices = names.map((name) => {
      const label = choice("background", name, name === chosen);
      label.lastChild.textContent = BACKGROUNDS[name] ?? name;
      label.querySelector("input").disabled = name === "transparent" && !drawable;
      return label;
    });
    $("backgrounds")
      .querySelector(".choices")
      .replaceChildren(...choices);
    $("backgrounds").hidden = names.length < 2;
  }

  /** Offer who draws, where this page can; way: "server" or "client", who does now. */
  showRender(drawable, way) {
    $("renders").hidden = !drawable;
    const names = { server: "The server", client: "This machine" };
    $("renders")
      .querySelector(".choices")
      .replaceChildren(
        ...Object.entries(names).map(([value, text]) => {
          const label = choice("render", value, value === way);
          label.lastChild.textContent = text;
          return label;
        }),
      );
  }

  change() {
    const value = Number($("strength").value) / 100;
    this.values = { ...this.values, [$("expression").value]: value };
    if (!value) delete this.values[$("expression").value];
    this.showStrength();
    this.on.values(this.values);
  }

  showStrength() {
    const percent = Math.round((this.values[$("expression").value] ?? 0) * 100);
    $("strength").value = String(percent);
    $("strength-value").textContent = `${percent} %`;
  }
}

function options(select, names, chosen) {
  select.replaceChildren(
    ...names.map((name) => new Option(readable(name), name, false, name === chosen)),
  );
}

function choice(group, name, checked) {
  const label = document.createElement("label");
  const input = document.createElement("input");
  Object.assign(input, { type: "radio", name: group, value: name, checked });
  label.append(input, readable(name));
  return label;
}

function readable(name) {
  const words = name.replaceAll("_", " ");
  return words.charAt(0).toUpperCase() + words.slice(1);
}

function consentText(consent) {
  if (!consent) return "";
  if (consent.note) return `Consent of the person: ${consent.note.replace(/\.$/, "")}.`;
  return consent.given ? "The person has given consent." : "Consent of the person: not recorded.";
}
