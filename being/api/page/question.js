// How soon the avatar answers: from the request to the first sound and the first picture.

const NOISE_FLOOR = 0.01; // amplitude (-40 dBFS) over which sound counts as begun

/** One request to speak. `firstSound` and `firstFrame` are ms from the request, or null. */
export class Question {
  constructor() {
    this.at = performance.now();
    this.soundAt = null; // on the session's time line: its first audible sample
    this.firstSound = this.firstFrame = null;
  }

  /** Speech (Float32Array) that begins at `time` has come. */
  answered(time, samples) {
    if (this.soundAt !== null) return;
    const place = samples.findIndex((sample) => Math.abs(sample) > NOISE_FLOOR);
    if (place >= 0) this.soundAt = time + place;
  }

  /** This position is heard now. */
  heard(position) {
    if (this.soundAt === null || position < this.soundAt) return;
    this.firstSound ??= performance.now() - this.at;
  }

  /** A picture of speech from `time` on, for `length` samples, is on the screen. */
  seen(time, length) {
    if (this.soundAt === null || time + length <= this.soundAt) return;
    this.firstFrame ??= performance.now() - this.at;
  }
}
