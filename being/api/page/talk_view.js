// Shows the transcript of a conversation, and words the controls for it.

const $ = (id) => document.getElementById(id);
const MOST = 40; // lines that stay
const WRITE_AFTER = 50; // ms

/** The list of what both have said. Lines are written again as they grow. */
export class TalkView {
  /** element: the list. name(): the avatar's name. */
  constructor(element, name) {
    Object.assign(this, { element, name });
    this.shown = new WeakMap(); // line -> its paragraph
    this.changed = new Set(); // lines that are written soon
  }

  /** Word the controls for what the server offers. */
  offer({ avatar, conversation }) {
    const listens = Boolean(conversation?.listens);
    $("composer").setAttribute("aria-label", conversation ? `Talk with ${avatar}` : "What the avatar says");
    $("text-label").textContent = conversation ? `Write to ${avatar}` : "Text for the avatar to say";
    $("speak").querySelector("span").textContent = conversation ? "Ask" : "Speak";
    $("text-help").textContent =
      `Enter ${conversation ? "sends" : "speaks"}. Shift and Enter begins a new line. Escape interrupts.`;
    $("microphone").title = listens
      ? `Speak with ${avatar}. Speaking interrupts`
      : "The avatar repeats what you say";
  }

  /** A line is new or has changed. A reply may come in hundreds of pieces at once. */
  write(line) {
    if (!this.changed.size) setTimeout(() => this.writeAll(), WRITE_AFTER);
    this.changed.add(line);
  }

  writeAll() {
    for (const line of this.changed) this.show(line);
    this.changed.clear();
    this.element.hidden = false;
    this.element.scrollTop = this.element.scrollHeight;
  }

  show(line) {
    let place = this.shown.get(line);
    if (!place) {
      place = document.createElement("p");
      const who = document.createElement("strong");
      who.textContent = line.role === "user" ? "You" : this.name();
      place.append(who, " ", document.createElement("span"));
      place.dataset.role = line.role;
      this.shown.set(line, place);
      this.element.append(place);
      while (this.element.childElementCount > MOST) this.element.firstElementChild.remove();
    }
    place.lastElementChild.textContent = line.text;
    place.hidden = !line.text.trim();
  }
}
