// A conversation with the avatar: the user's microphone, ducking, and what both have said.

import { toFloat } from "./resampler.js";

const LOUDER = 1.6; // times the noise: 4 dB. Speech often begins softly
const LEAST = 0.004; // amplitude (rms) under which nothing counts as a sound
// The level of the noise: the least mean of SMOOTH pieces in the last BLOCKS blocks of BLOCK pieces.
const SMOOTH = 5;
const BLOCK = 50;
const BLOCKS = 4;
const PIECES = 2; // loud pieces of 10 ms in a row that are a sound
// How long the sound stays low where the server hears no speech: at most, ms, and after the last
// loud piece, in pieces.
const DUCK_MOST = 1500;
const DUCK_AFTER = 30;
const KEPT = 40; // lines that a new link is told

/**
 * Tells the first sound of the user from noise: pieces of about 10 ms go in. The noise is the least
 * level of the last BLOCKS blocks of BLOCK pieces, so it is known soon after a change.
 */
export class SoundGate {
  constructor() {
    this.levels = []; // rms of the last SMOOTH pieces
    this.least = []; // of each block, the newest first
    this.count = 0; // pieces
    this.loud = 0; // pieces in a row
  }

  /** pcm: Int16Array. Returns true while there is a sound over the noise. */
  push(pcm) {
    const samples = toFloat(pcm);
    const power = samples.reduce((sum, sample) => sum + sample * sample, 0);
    const level = Math.sqrt(power / Math.max(1, samples.length));
    const noise = Math.min(...this.least);
    const over = this.count > BLOCK && level > Math.max(LEAST, LOUDER * noise);
    this.loud = over ? this.loud + 1 : 0;
    this.learn(level);
    return this.loud >= PIECES;
  }

  learn(level) {
    this.levels = [level, ...this.levels].slice(0, SMOOTH);
    const smooth = this.levels.reduce((sum, one) => sum + one, 0) / this.levels.length;
    if (this.count % BLOCK === 0) this.least = [Infinity, ...this.least].slice(0, BLOCKS);
    this.least[0] = Math.min(this.least[0], smooth);
    this.count += 1;
  }
}

/**
 * Ducking and the transcript of one page.
 *
 * session: a LiveSession; sound: a Sound. on: callbacks change(), line(entry) for a line that is new
 * or has changed.
 */
export class Conversation {
  constructor(session, sound, on) {
    Object.assign(this, { session, sound, on });
    this.gate = new SoundGate();
    this.lines = []; // { turn, role, text }
    this.phase = "idle";
    this.listening = false; // the microphone is open for it
    this.ducked = null; // the timer of a duck
    this.quiet = 0; // pieces since the last loud one
    this.half = null; // 10 ms that wait to be sent with the next 10 ms
  }

  /** True while an answer is being made. */
  get thinking() {
    return this.phase === "transcribing" || this.phase === "thinking";
  }

  /** The microphone is open, or closed. problem: why it does not open. */
  listen(on, problem) {
    this.listening = on;
    this.gate = new SoundGate();
    this.half = null;
    if (!on) this.release();
    this.session.send({ type: "converse", on, ...(problem && { problem }) });
  }

  /** A piece of 10 ms of the microphone. */
  hear(pcm) {
    const loud = this.gate.push(pcm);
    this.quiet = loud ? 0 : this.quiet + 1;
    if (loud && !this.ducked && this.session.state === "speaking") this.duck();
    else if (this.ducked && this.quiet >= DUCK_AFTER) this.release(true);
    if (!this.half) return (this.half = pcm);
    const both = new Int16Array(this.half.length + pcm.length);
    both.set(this.half);
    both.set(pcm, this.half.length);
    this.half = null;
    this.session.sendMicrophone(both);
  }

  /** Lower the sound: the user may be speaking. The server decides whether it is speech. */
  duck() {
    const samples = this.session.hear();
    this.sound.duck(true);
    if (samples !== null) {
      const heard = { epoch: this.session.epoch, samples };
      this.session.send({ type: "duck", on: true, heard });
    }
    this.ducked = setTimeout(() => this.release(true), DUCK_MOST);
  }

  /** The sound comes back. */
  release(tell = false) {
    if (!this.ducked) return;
    clearTimeout(this.ducked);
    this.ducked = null;
    this.sound.duck(false);
    if (tell) this.session.send({ type: "duck", on: false });
  }

  // What the server says

  /** A link begins: the server knows nothing of the microphone. */
  ready() {
    this.phase = "idle";
    this.release();
    if (this.listening) this.session.send({ type: "converse", on: true });
  }

  take({ type, ...message }) {
    if (type === "turn") this.phase = message.phase;
    if (type === "transcript") this.write(message);
    this.on.change();
  }

  /** The avatar was cut: the server has heard speech, or the user has stopped it. */
  cut() {
    this.release();
  }

  write({ turn, role, text, final }) {
    let line = this.lines.findLast((other) => other.turn === turn && other.role === role);
    if (!line) {
      line = { turn, role, text: "" };
      this.lines.push(line);
      if (this.lines.length > KEPT) this.lines.shift();
    }
    line.text = final ? text : line.text + text;
    this.on.line(line);
  }

  /** What the server of a new link is told, so that it remembers. Its turns have other numbers. */
  transcript() {
    this.lines = this.lines.filter(({ text }) => text.trim()).map((line) => ({ ...line, turn: null }));
    return this.lines.map(({ role, text }) => ({ role, text: text.slice(0, 6000) }));
  }
}
