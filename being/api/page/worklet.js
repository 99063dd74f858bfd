// The two audio worklets: one plays the session's sound, one takes the microphone's.

import { AudioRing } from "./ring.js";

const REPORT_EVERY = 8; // blocks of 128 samples
const RETURN = 1 / 16; // of the loudness, with each block after a duck

/** Plays what the page sends and reports the position of the blocks where something changes. */
class SessionPlayer extends AudioWorkletProcessor {
  constructor({ processorOptions }) {
    super();
    this.ring = new AudioRing(sampleRate, processorOptions.delay);
    this.cutting = null; // the number of a cut that is not silent yet
    this.cuts = 0; // the number of the last cut that is silent
    this.fading = false;
    this.running = false;
    this.blocks = 0;
    this.late = []; // messages that came after a cut, before its silent block
    this.ducked = false; // the sound is lowered to nothing
    this.gain = 1;
    this.port.onmessage = ({ data }) => this.take(data);
  }

  take(message) {
    if (message.duck !== undefined) {
      // A cut ends the duck by itself, once it is silent: nothing of the old sound comes back.
      this.ducked = message.duck || (this.ducked && this.cutting !== null);
    } else if (message.cut !== undefined) {
      this.fading ||= this.cutting === null;
      this.cutting = message.cut;
      this.late = [];
    } else if (this.cutting !== null) {
      this.late.push(message);
    } else {
      this.ring.push(message.position, message.samples, message.length);
    }
  }

  process(inputs, [[out]]) {
    if (this.cutting !== null && !this.fading) this.finishCut();
    const before = this.ring.position;
    this.ring.read(out);
    if (this.fading) {
      for (let i = 0; i < out.length; i++) out[i] *= 1 - (i + 1) / out.length;
      this.fading = false;
    }
    if (this.ducked || this.gain < 1) this.soften(out);
    const running = this.ring.position > before;
    if (running !== this.running || this.blocks % REPORT_EVERY === 0) this.report(before, running);
    this.running = running;
    this.blocks += 1;
    return true;
  }

  /** Go to silence within this block, or come back from it within some. */
  soften(out) {
    const goal = this.ducked ? 0 : Math.min(1, this.gain + RETURN);
    const step = (goal - this.gain) / out.length;
    for (let i = 0; i < out.length; i++) out[i] *= this.gain + step * (i + 1);
    this.gain = goal;
  }

  /** This block is the first silent one. */
  finishCut() {
    this.ducked = false;
    this.gain = 1;
    this.port.postMessage({ silent: this.cutting, at: Date.now() });
    this.ring.cut();
    this.cuts = this.cutting;
    this.cutting = null;
    for (const message of this.late) this.take(message);
    this.late = [];
  }

  report(position, running) {
    const { cuts } = this;
    const { buffered, dry, begun } = this.ring;
    this.port.postMessage({ time: currentTime, position, running, buffered, dry, begun, cuts });
  }
}

/** Hands the microphone's samples to the page in pieces of `seconds`. */
class Microphone extends AudioWorkletProcessor {
  constructor({ processorOptions }) {
    super();
    this.length = Math.round(sampleRate * processorOptions.seconds);
    this.renew();
  }

  renew() {
    this.piece = new Float32Array(this.length);
    this.filled = 0;
  }

  process([[input]]) {
    for (const sample of input ?? []) {
      this.piece[this.filled++] = sample;
      if (this.filled < this.piece.length) continue;
      this.port.postMessage(this.piece, [this.piece.buffer]);
      this.renew();
    }
    return true;
  }
}

registerProcessor("session-player", SessionPlayer);
registerProcessor("microphone", Microphone);
