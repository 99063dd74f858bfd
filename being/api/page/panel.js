// The panel of measurements: how soon, how smooth, and how well picture and sound go together.

import { RATE } from "./protocol.js";

const SPAN = 2000; // ms over which pictures are counted

/** Counts pictures and writes the figures into their places. */
export class Panel {
  /** find(name): the element of a figure. */
  constructor(find) {
    this.find = find;
    this.drawn = []; // { at, late } of the last pictures: ms, samples
    this.silence = null; // of the last interrupt, ms
  }

  /** A picture was drawn that reaches the screen `late` samples after its sound. */
  count(late) {
    const at = performance.now();
    this.drawn.push({ at, late });
    while (this.drawn[0].at < at - SPAN) this.drawn.shift();
  }

  /** Write the figures. asked: the newest question of the session, or null. */
  show(asked, pictures, sound, path) {
    const recent = this.drawn.filter(({ at }) => at > performance.now() - SPAN);
    const late = recent.reduce((sum, picture) => sum + picture.late, 0) / recent.length;
    if (asked?.firstFrame) this.write("first", `${Math.round(asked.firstFrame)} ms`);
    if (asked?.firstSound) this.write("sound", `${Math.round(asked.firstSound)} ms`);
    this.write("rate", ((recent.length * 1000) / SPAN).toFixed(1));
    this.write("dropped", String(pictures.dropped));
    this.write("sync", recent.length ? `${signed((late * 1000) / RATE)} ms` : "–");
    this.write("buffer", `${Math.round((sound.state.buffered * 1000) / RATE)} ms`);
    if (this.silence !== null) this.write("silence", `${Math.round(this.silence)} ms`);
    this.write("path", path);
  }

  write(name, text) {
    const place = this.find(name);
    if (place.textContent !== text) place.textContent = text;
  }
}

function signed(value) {
  const rounded = Math.round(value);
  return rounded < 0 ? `−${-rounded}` : `+${rounded}`;
}
