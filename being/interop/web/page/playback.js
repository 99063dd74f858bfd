// Plays pieces of sound one after the other, and tells what moment of them is heard.

const LEAD = 0.05; // s from the first piece to its sound
const FADE = 0.004; // s of a cut
const START_WAIT = 1; // s that a context has to start before it counts as forbidden

/** One utterance's sound. Its time is 0 at its first sample and waits where sound is late. */
export class Playback {
  constructor(context) {
    this.context = context;
    this.gain = context.createGain();
    this.gain.connect(context.destination);
    this.sources = new Set();
    this.stretches = []; // { at: time of the context, from: time of the utterance, length }, s
    this.end = 0; // of the utterance so far, s
    this.held = []; // pieces that wait for `begin`
    this.begun = false;
    this.stopped = false;
  }

  /** Add samples (Float32Array, mono) of `rate` samples/s. */
  push(samples, rate) {
    if (this.stopped || !samples.length) return;
    const buffer = this.context.createBuffer(1, samples.length, rate);
    buffer.copyToChannel(samples, 0);
    if (this.begun) this.schedule(buffer);
    else this.held.push(buffer);
  }

  /** Start to play; before that pieces are only kept. */
  begin() {
    if (this.begun) return;
    this.begun = true;
    for (const buffer of this.held.splice(0)) this.schedule(buffer);
  }

  schedule(buffer) {
    const now = this.context.currentTime;
    const last = this.stretches.at(-1);
    const free = last ? last.at + last.length : 0;
    const late = free < now;
    const at = late ? now + LEAD : free;
    const source = this.context.createBufferSource();
    source.buffer = buffer;
    source.connect(this.gain);
    source.onended = () => this.sources.delete(source);
    source.start(at);
    this.sources.add(source);
    if (last && !late) last.length += buffer.duration;
    else this.stretches.push({ at, from: this.end, length: buffer.duration });
    this.end += buffer.duration;
  }

  /** The moment that is heard now, s; below 0 before the first sample. */
  heard() {
    const { context } = this;
    const now = context.currentTime - (context.outputLatency || context.baseLatency || 0);
    let stretch = null;
    for (const next of this.stretches) {
      if (next.at > now) break;
      stretch = next;
    }
    if (!stretch) return -1;
    return stretch.from + Math.min(now - stretch.at, stretch.length);
  }

  /** Whether everything that was pushed has been heard. */
  get done() {
    return this.begun && this.heard() >= this.end - 1e-3;
  }

  /** Silence within 4 ms. */
  stop() {
    this.stopped = true;
    this.held = [];
    const now = this.context.currentTime;
    this.gain.gain.setValueAtTime(1, now);
    this.gain.gain.linearRampToValueAtTime(0, now + FADE);
    for (const source of this.sources) source.stop(now + FADE);
    setTimeout(() => this.gain.disconnect(), 100);
  }
}

/** Let a context sound. Throws where the browser forbids it before a click or a key. */
export async function started(context) {
  if (context.state === "running") return;
  const wait = new Promise((resolve) => setTimeout(resolve, START_WAIT * 1000));
  await Promise.race([context.resume(), wait]);
  if (context.state !== "running") {
    throw new Error("the browser lets a page sound only after a click or a key");
  }
}
