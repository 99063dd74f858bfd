// Pose and expression of each frame: the pose loop goes back and forth, expressions move smoothly.

const EASE_FRAMES = 10; // in which an expression changes

/** The pose of each frame; it waits while a plate is not decoded yet. */
export class PoseLoop {
  constructor(poses) {
    this.poses = poses;
    this.period = Math.max(1, 2 * (poses - 1));
    this.phase = 0;
  }

  at(phase) {
    return Math.min(phase, this.period - phase);
  }

  get pose() {
    return this.poses > 1 ? this.at(this.phase) : 0;
  }

  /** The pose of the next frame, and where the loop goes from there (1 or -1). */
  get next() {
    const phase = (this.phase + 1) % this.period;
    return { pose: this.poses > 1 ? this.at(phase) : 0, towards: phase < this.poses - 1 ? 1 : -1 };
  }

  advance() {
    this.phase = (this.phase + 1) % this.period;
  }
}

/** The expression of each frame: that of the pose plus what was asked for. */
export class Expression {
  /** channels: { names, least, most }. values: Float32Array [P, E], of the poses. */
  constructor(channels, values) {
    this.channels = channels;
    this.values = values;
    this.width = channels.names.length;
    this.from = new Float64Array(this.width);
    this.target = new Float64Array(this.width);
    this.step = EASE_FRAMES;
    this.result = new Float64Array(this.width);
  }

  /** Move to expressions by name; others go back to nothing. Throws for an unknown name. */
  set(wanted) {
    const target = new Float64Array(this.width);
    for (const [name, value] of Object.entries(wanted)) {
      const k = this.channels.names.indexOf(name);
      if (k < 0) {
        throw new RangeError(
          `the avatar has no expression "${name}". It has: ${this.channels.names.join(", ")}`,
        );
      }
      if (!Number.isFinite(value)) throw new RangeError(`the expression "${name}" is ${value}`);
      target[k] = value;
    }
    this.from = Float64Array.from(this.target, (_, k) => this.added(k));
    this.target = target;
    this.step = 0;
  }

  added(k) {
    const share = this.step / EASE_FRAMES;
    return this.from[k] + (this.target[k] - this.from[k]) * share * share * (3 - 2 * share);
  }

  advance() {
    this.step = Math.min(this.step + 1, EASE_FRAMES);
  }

  /** The expression (Float64Array [E], used again) at a pose. */
  at(pose) {
    const { least, most } = this.channels;
    for (let k = 0; k < this.width; k++) {
      const value = this.values[pose * this.width + k] + this.added(k);
      this.result[k] = Math.min(Math.max(value, least[k]), most[k]);
    }
    return this.result;
  }
}
