// The ring buffer between the socket and the sound card. It is also the clock of the session.

// Longest sound that the ring holds, s. The server stays at most about 0.3 s ahead.
const CAPACITY = 4;
// More than this, s, is buffered only where the page or the network stood still.
const MOST = 0.45;

/**
 * Mono samples addressed by their place on the session's time line, in samples.
 *
 * The position of the next sample to play moves on with every sample that is read. Where sound is
 * late, silence is read and the position waits: going on would skip it.
 */
export class AudioRing {
  /** rate: samples/s. delay: what must be buffered before the first sound, and after a gap, s. */
  constructor(rate, delay) {
    this.delay = Math.round(rate * delay);
    this.most = Math.round(rate * MOST);
    this.store = new Float32Array(Math.ceil(rate * CAPACITY));
    this.dry = 0; // how many times the ring ran out of sound
    this.position = 0; // of the next sample to play
    this.cut();
  }

  /** Forget all sound. The next push begins a new stretch, at its own position. */
  cut() {
    this.begun = false;
    this.waiting = true;
    this.waited = 0; // samples of silence since something was there to play
    this.finish = this.position; // after the last sample that is stored
    this.sound = { begin: 0, end: 0 }; // what is no silence, from the first that is not played
  }

  /** Samples that are stored and not played yet. */
  get buffered() {
    return this.finish - this.position;
  }

  /**
   * Store what belongs at `position`: samples (Float32Array), or null for `length` samples of
   * silence. A gap is filled with silence. Of an overlap, what came first stays. Where the ring is
   * full, what is oldest gives way.
   */
  push(position, samples, length = samples.length) {
    if (!this.begun) this.position = this.finish = position;
    this.begun = true;
    const end = position + length;
    this.position = Math.max(this.position, end - this.store.length);
    for (let i = Math.max(this.finish, this.position); i < end; i++) {
      const sample = samples && i >= position ? samples[i - position] : 0;
      this.store[i % this.store.length] = sample;
    }
    if (samples && this.position >= this.sound.end) this.sound.begin = position;
    if (samples) this.sound.end = end;
    this.finish = Math.max(this.finish, end);
    if (this.buffered > this.most) this.catchUp();
  }

  /** Fill `out` (Float32Array) with the next samples, or with silence where they are late. */
  read(out) {
    if (this.waiting) this.mayGoOn(out.length);
    const count = this.waiting ? 0 : Math.min(out.length, this.buffered);
    for (let i = 0; i < count; i++) out[i] = this.store[(this.position + i) % this.store.length];
    out.fill(0, count);
    this.position += count;
    if (count === out.length || this.waiting) return;
    this.dry += 1;
    this.waiting = true;
  }

  /** What is stored and not played: { position, samples }, or null. */
  rest() {
    if (!this.begun) return null;
    const samples = new Float32Array(this.buffered);
    for (let i = 0; i < samples.length; i++) {
      samples[i] = this.store[(this.position + i) % this.store.length];
    }
    return { position: this.position, samples };
  }

  /** Skip silence that lies further ahead than it must. */
  catchUp() {
    const { begin, end } = this.sound;
    const speech = this.position < end ? begin : Infinity;
    this.position = Math.max(this.position, Math.min(this.finish - this.delay, speech));
  }

  /** Wait for `delay` to be buffered, but not longer than `delay` once something is there. */
  mayGoOn(length) {
    if (this.buffered > 0) this.waited += length;
    if (this.buffered < this.delay && this.waited <= this.delay) return;
    this.waiting = false;
    this.waited = 0;
  }
}
