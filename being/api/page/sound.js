// Plays the session's sound and tells which moment of the session is heard: the session's clock.

import { AudioRing } from "./ring.js";
import { SmoothClock, Timeline } from "./timeline.js";

// What is buffered before sound begins, s: more than the jitter of a local network.
const DELAY = 0.07;
// The browser's own figure for what is audible is not believed when it is off by more than this, s.
const UNLIKELY = 0.25;
// A cut fades over this time, s.
const FADE = 0.004;
// Scheduled buffers: their length, and how far ahead of the clock they are scheduled, s.
const PIECE = 0.02;
const AHEAD = 0.06;
const AHEAD_HIDDEN = 1.6; // timers of a hidden page run once a second
// How long speech waits for the sound card to start, s.
const START_WAIT = 2;

const seconds = () => performance.now() / 1000;

/** Sound by an AudioWorklet, on secure pages. */
class WorkletOutput {
  constructor(context, report) {
    this.context = context;
    this.node = new AudioWorkletNode(context, "session-player", {
      numberOfInputs: 0,
      outputChannelCount: [1],
      processorOptions: { delay: DELAY },
    });
    this.node.connect(context.destination);
    this.cuts = []; // what waits for the first silent block
    this.count = 0; // cuts so far
    this.node.port.onmessage = ({ data }) => {
      if (data.silent !== undefined) {
        for (const resolve of this.cuts.splice(0)) resolve(data.at);
      } else if (data.cuts === this.count) {
        report(data); // others were on their way when the sound was cut
      }
    };
  }

  get time() {
    return this.context.currentTime;
  }

  push(position, samples, length) {
    const transfer = samples ? [samples.buffer] : [];
    this.node.port.postMessage({ position, samples, length }, transfer);
  }

  /** Resolves with the time of the first silent block, ms since 1970. */
  cut() {
    this.count += 1;
    this.node.port.postMessage({ cut: this.count });
    return new Promise((resolve) => this.cuts.push(resolve));
  }

  duck(on) {
    this.node.port.postMessage({ duck: on });
  }

  close() {
    this.node.disconnect();
  }
}

/** What the two outputs share that read the ring by a timer of the page. */
class PumpedOutput {
  constructor(rate, report) {
    this.rate = rate;
    this.report = report;
    this.ring = new AudioRing(rate, DELAY);
    this.length = Math.round(PIECE * rate);
    this.frame = 0; // when the next piece begins, in samples of the clock
    this.timer = setInterval(() => this.pump(), 10);
  }

  /** Read the pieces up to some time ahead of the clock. */
  pump() {
    const now = this.time;
    this.frame = Math.max(this.frame, Math.ceil((now + this.lead) * this.rate));
    while (this.frame < (now + this.ahead) * this.rate) {
      const position = this.ring.position;
      const piece = new Float32Array(this.length);
      this.ring.read(piece);
      const time = this.frame / this.rate;
      this.play(piece, time);
      const { buffered, dry, begun } = this.ring;
      const running = this.ring.position > position;
      this.report({ time, position, running, buffered, dry, begun });
      this.frame += this.length;
    }
  }

  push(position, samples, length) {
    this.ring.push(position, samples, length);
  }

  close() {
    clearInterval(this.timer);
  }
}

/** Sound by scheduled buffers, where there is no AudioWorklet. */
class BufferOutput extends PumpedOutput {
  constructor(context, report) {
    super(context.sampleRate, report);
    this.context = context;
    this.sources = new Set();
    this.lead = 0.01;
    this.openGain();
  }

  get time() {
    return this.context.currentTime;
  }

  get ahead() {
    return document.hidden ? AHEAD_HIDDEN : AHEAD;
  }

  openGain() {
    this.gain = this.context.createGain();
    this.gain.connect(this.context.destination);
  }

  play(piece, time) {
    if (this.context.state !== "running" || piece.every((sample) => sample === 0)) return;
    const source = this.context.createBufferSource();
    source.buffer = this.context.createBuffer(1, piece.length, this.rate);
    source.buffer.copyToChannel(piece, 0);
    source.connect(this.gain);
    source.onended = () => this.sources.delete(source);
    source.start(time);
    this.sources.add(source);
  }

  /** Resolves with the time of silence, ms since 1970. */
  async cut() {
    const now = this.context.currentTime;
    this.gain.gain.setValueAtTime(1, now);
    this.gain.gain.linearRampToValueAtTime(0, now + FADE);
    for (const source of this.sources) source.stop(now + FADE);
    this.sources.clear();
    this.openGain();
    this.ring.cut();
    this.frame = 0; // what was scheduled is gone
    return Date.now() + FADE * 1000;
  }

  close() {
    super.close();
    this.gain.disconnect();
  }
}

/** The best output that this page can have. */
async function openOutput(context, report) {
  if (!context.audioWorklet) return new BufferOutput(context, report);
  await context.audioWorklet.addModule(new URL("./worklet.js", import.meta.url));
  return new WorkletOutput(context, report);
}

/** No sound, before the first gesture and while the sound card is away: only the clock. */
class MuteOutput extends PumpedOutput {
  lead = 0;
  ahead = PIECE;
  held = false; // speech waits for the sound card

  get time() {
    return seconds();
  }

  pump() {
    if (!this.held) return super.pump();
    const { position, buffered, dry, begun } = this.ring;
    this.report({ time: this.time, position, running: false, buffered, dry, begun });
  }

  play() {}

  async cut() {
    this.ring.cut();
    return Date.now();
  }
}

/**
 * The session's sound and clock. Positions are in samples on the session's time line.
 *
 * A browser lets no page sound before a gesture of its user. Until `start` is called from one, and
 * while the sound card is away, the clock is the page's own.
 */
export class Sound {
  /**
   * rate: samples/s. on: callbacks changed(), when `audible` has changed, and moved(dry), some times
   * a second, also on a hidden page, where dry says that sound has just run out; failed(error).
   */
  constructor(rate, on) {
    this.rate = rate;
    this.on = on;
    this.pushed = 0; // the end of all sound that was pushed
    this.use(new MuteOutput(rate, (report) => this.take(report)));
  }

  /** True while the sound card is the clock. */
  get audible() {
    return !(this.output instanceof MuteOutput);
  }

  /** The delay from the output to the ear, s. */
  get latency() {
    if (!this.audible) return 0;
    return this.context.outputLatency || this.context.baseLatency || 0;
  }

  /** Turn the sound on. Call it in the handler of a click or a key. */
  async start() {
    if (this.audible || this.starting) return;
    const mute = this.output;
    this.starting = true;
    mute.held = !this.late;
    try {
      await Promise.race([this.open(), new Promise((done) => setTimeout(done, START_WAIT * 1000))]);
      this.late = !this.audible; // a sound card that is so late is not waited for again
    } catch (error) {
      this.context?.close();
      this.context = null;
      this.on.failed(error);
    } finally {
      this.starting = false;
      mute.held = false;
    }
  }

  async open() {
    if (!this.context) {
      this.context = new AudioContext({ sampleRate: this.rate, latencyHint: "interactive" });
      this.opening = openOutput(this.context, (report) => this.take(report));
      this.context.onstatechange = () => this.stateChanged();
    }
    await this.context.resume();
    this.real = await this.opening;
    this.stateChanged();
  }

  /** Which sample is heard now, or null where the session has no sound yet. */
  heard(now = seconds()) {
    const position = this.timeline.at(this.audibleTime(now));
    if (position === null) return null;
    // A busy page hears late that the sound waits. It never passes what was pushed.
    return Math.floor(Math.min(position, this.pushed));
  }

  /** The time of the output's clock that is audible at `now`. */
  audibleTime(now) {
    const plain = this.smooth.read(this.output.time, now) - this.latency;
    if (!this.audible) return plain;
    // The browser knows it better, without steps, where it tells it.
    const { contextTime, performanceTime } = this.context.getOutputTimestamp();
    const exact = contextTime + now - performanceTime / 1000;
    return contextTime > 0 && Math.abs(exact - plain) < UNLIKELY ? exact : plain;
  }

  /** Sound (Float32Array), or null for `length` samples of silence, that belongs at `position`. */
  push(position, samples, length) {
    this.pushed = position + length;
    this.output.push(position, samples, length);
  }

  /** Lower the sound to nothing while the user may be speaking; its clock goes on. */
  duck(on) {
    this.output.duck?.(on);
  }

  /** Silence at once. Resolves with the ms from now until no sound reaches the ear. */
  async cut() {
    const began = performance.timeOrigin + performance.now();
    this.timeline.clear();
    this.pushed = 0;
    const silent = await this.output.cut();
    return Math.max(0, silent - began) + this.latency * 1000;
  }

  take(report) {
    if (!report.begun) return;
    const dry = report.dry > this.state.dry;
    this.state = report;
    this.timeline.add(report.time, report.position, report.running, this.rate);
    this.on.moved(dry);
  }

  /** The sound card started or stopped. */
  stateChanged() {
    const running = this.context.state === "running" && this.real;
    if (running && !this.audible) {
      const rest = this.output.ring.rest();
      this.output.close();
      this.use(this.real);
      this.on.changed();
      if (rest) this.output.push(rest.position, rest.samples, rest.samples.length);
    } else if (!running && this.audible) {
      this.real.cut();
      this.use(new MuteOutput(this.rate, (report) => this.take(report)));
      this.on.changed();
    }
  }

  use(output) {
    this.output = output;
    this.timeline = new Timeline();
    this.smooth = new SmoothClock();
    this.state = { buffered: 0, dry: 0 };
  }
}
