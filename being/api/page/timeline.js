// Which moment of the session is heard now: the audio clock's time, mapped to session time.

/** Session positions, in samples, by time of the audio clock, in s. Forgets what is long past. */
export class Timeline {
  constructor(keep = 1) {
    this.keep = keep;
    this.marks = [];
  }

  /** From `time` on, the position is `position`; where `running` it moves on at `rate`. */
  add(time, position, running, rate) {
    while (this.marks.length && this.marks[this.marks.length - 1].time >= time) this.marks.pop();
    this.marks.push({ time, position, pace: running ? rate : 0 });
    while (this.marks.length > 1 && this.marks[1].time < time - this.keep) this.marks.shift();
  }

  /** The position at `time`, or null where nothing is known. Before the first mark it stands. */
  at(time) {
    if (!this.marks.length) return null;
    let mark = this.marks[0];
    for (const next of this.marks) {
      if (next.time > time) break;
      mark = next;
    }
    return mark.position + mark.pace * Math.max(0, time - mark.time);
  }

  /** Forget everything. */
  clear() {
    this.marks = [];
  }
}

/**
 * A clock that moves in steps (the audio clock moves by whole buffers), read without the steps.
 *
 * Its distance to a fine clock is averaged over about `memory` readings. A jump of more than
 * `jump` s is taken over at once.
 */
export class SmoothClock {
  constructor(memory = 30, jump = 0.05) {
    this.memory = memory;
    this.jump = jump;
    this.offset = null;
  }

  /** coarse, fine: the two clocks' readings, s. Returns the smooth reading. */
  read(coarse, fine) {
    const offset = coarse - fine;
    if (this.offset === null || Math.abs(offset - this.offset) > this.jump) this.offset = offset;
    else this.offset += (offset - this.offset) / this.memory;
    return fine + this.offset;
  }
}
