// Something that the avatar says: frames in step with sound, or with the clock of the page.

const FPS = 25;

/** Frames (mouth codes or coefficients) by time. */
export class Utterance {
  /** playback: of its sound, or null: the frames go by the page's clock from the first one on. */
  constructor(playback) {
    this.playback = playback;
    this.frames = [];
    this.start = null; // s, of the page's clock
    this.complete = false; // no frame follows
    this.ended = new Promise((resolve) => {
      this.settle = resolve;
    });
  }

  add(frames) {
    this.frames.push(...frames);
  }

  /** The frame of now (s, the page's clock), or null before the first. The last one stays. */
  frame(now) {
    if (this.start === null && this.frames.length) this.start = now;
    const time = this.playback ? this.playback.heard() : now - (this.start ?? now);
    const number = Math.min(Math.floor(time * FPS + 1e-6), this.frames.length - 1);
    return number < 0 ? null : { number, values: this.frames[number] };
  }

  /** Whether everything has been shown and heard. */
  finished(now) {
    if (!this.complete) return false;
    if (this.playback?.end) return this.playback.done;
    return !this.frames.length || now - this.start >= this.frames.length / FPS;
  }
}
