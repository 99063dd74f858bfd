// Pictures that wait for their moment: decoded frames, ordered by the time they belong to.
// Times are samples on the session's time line.

import { RATE } from "./protocol.js";

// A picture that comes later than this after its sound is seen to be out of step (ITU-R BT.1359).
const LATEST = 0.125 * RATE;
// But a picture that stands still this long is worse.
const STILL = 0.5 * RATE;
const MOST = 24; // pictures that wait; a decoder that holds back more of them would stall

/** Decoded pictures by session time. Whoever takes a picture closes it. */
export class PictureQueue {
  constructor() {
    this.waiting = []; // { time, image, ... }, oldest first
    this.dropped = 0;
    this.last = -Infinity; // time of the newest picture taken
    this.seen = -Infinity; // when it was taken
  }

  /** Add a picture (anything with `close()`) that belongs to `time`, and what is known of it. */
  add(time, image, facts = {}) {
    if (time <= this.last) {
      this.dropped += 1; // too late: a newer one is on the screen
      image.close();
      return;
    }
    let place = this.waiting.length;
    while (place > 0 && this.waiting[place - 1].time > time) place -= 1;
    this.waiting.splice(place, 0, { time, image, ...facts });
    if (this.waiting.length > MOST) this.drop();
  }

  /** The newest picture that belongs to `time` or before, or null. Older ones are dropped. */
  take(time) {
    while (this.waiting.length > 1 && this.waiting[1].time <= time) this.drop();
    if (!this.waiting.length || this.waiting[0].time > time) return null;
    const [{ time: own }] = this.waiting;
    if (time - own > LATEST && time - this.seen < STILL) {
      this.drop();
      return null;
    }
    this.last = own;
    this.seen = time;
    return this.waiting.shift();
  }

  /** Let go of the pictures that nobody could see, because the page is hidden. */
  skip(time) {
    const { dropped } = this;
    this.take(time)?.image.close();
    this.dropped = dropped;
  }

  /** Drop all pictures without counting them: their sound was cut too. */
  clear() {
    for (const { image } of this.waiting) image.close();
    this.waiting = [];
  }

  /** Begin a new time line: what was taken says nothing about it. */
  restart() {
    this.clear();
    this.last = this.seen = -Infinity;
  }

  drop() {
    this.waiting.shift().image.close();
    if (this.last > -Infinity) this.dropped += 1; // before the first one nothing is missed
  }
}
