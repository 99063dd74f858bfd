// Mouth codes of live audio: the causal encoder, then the mapping from a voice to this person's mouth.
// The same as being/model/voice_to_mouth.py on the windows of being/audio/feature_windows.py.

import { CausalConformer } from "./conformer.js";
import { Dense } from "./dense.js";

const SAMPLES_PER_FRAME = 640; // 16 kHz, 25 frames/s
const SAMPLES_PER_STEP = 320;
const STEPS_PER_FRAME = 2;
const FEATURE_WINDOW = 16; // steps
const PAST = 4; // windows before a frame's own that it reads
const FUTURE = 3; // and after it
const STRIP = FEATURE_WINDOW + STEPS_PER_FRAME * (PAST + FUTURE); // steps
const SHIFT = 8; // steps by which windows lie earlier
const SAMPLES_AHEAD = 5 * SAMPLES_PER_STEP + 200; // after a step's own that determine it
const OPENING_WEIGHT = 0.5;
const ANTICIPATION = 0.5;
const PAUSE_RAMP = 6;
const PAUSE_LEAD = 2;
const RANGE_MARGIN = 0.15;
const CHANNEL_MAX = 8;
const MOST_QUIET = 1000;

const clamp = (x, low, high) => Math.min(Math.max(x, low), high);

/** Beyond the first and last quantile the map goes on with slope 1. */
function matchQuantiles(value, before, after, from, count) {
  const last = from + count - 1;
  if (value <= before[from]) return after[from] + value - before[from];
  if (value >= before[last]) return after[last] + value - before[last];
  let low = from;
  let high = last;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (before[middle] <= value) low = middle;
    else high = middle;
  }
  const span = before[high] - before[low];
  const share = span > 0 ? (value - before[low]) / span : 1;
  return after[low] + share * (after[high] - after[low]);
}

/** The mapping of one person, without state. */
export class VoiceToMouth {
  /**
   * tensors: { values, shape } by name, as in voice.safetensors. facts: { least, most, gamma,
   * closure_step, pause_wait }.
   */
  constructor(tensors, facts) {
    const values = (name) => tensors[name].values;
    this.facts = facts;
    this.channels = values("code_mean").length;
    [this.stepWidth, this.components] = tensors.step_basis.shape;
    this.stepMean = values("step_mean");
    this.stepBasis = new Dense(transposed(tensors.step_basis), null, this.components);
    this.window = values("window");
    this.stripMean = values("strip_mean");
    this.stripBasis = new Dense(transposed(tensors.strip_basis), null, tensors.strip_basis.shape[1]);
    this.centres = new Dense(values("centres"), null, tensors.centres.shape[0]);
    this.squares = rowSquares(tensors.centres);
    this.weights = new Dense(transposed(tensors.weights), values("code_mean"), this.channels);
    this.codeMean = values("code_mean");
    this.before = values("predicted_quantiles");
    this.after = values("true_quantiles");
    this.quantiles = tensors.true_quantiles.shape[1];
    this.closed = values("closed");
    this.closing = values("closing");
    this.faceShare = values("face_share");
    this.speed = values("speed");
    this.readout = values("pause_readout");
    this.strip = new Float64Array(STRIP * this.components);
    this.kernel = new Float64Array(this.squares.length);
    this.outside = this.prepare(new Float64Array(this.stepWidth));
    this.outside.quiet = 1;
  }

  /** What codes read of a step: its components, its articulation channels, how quiet it is. */
  prepare(step) {
    const centred = Float64Array.from(step, (x, i) => x - this.stepMean[i]);
    const components = Float64Array.from(this.stepBasis.apply(centred));
    let quiet = 0;
    if (this.readout.length) {
      let score = this.readout[step.length];
      for (let i = 0; i < step.length; i++) score += step[i] * this.readout[i];
      quiet = 1 / (1 + Math.exp(-clamp(score, -30, 30)));
    }
    const [closure, opening] = [step.at(-2), step.at(-1)];
    return { components, closure, opening, quiet };
  }

  /** The code (Float64Array [M]) of a strip: 30 prepared steps. */
  code(steps) {
    const { strip, components, kernel, facts } = this;
    for (let s = 0; s < STRIP; s++) {
      const from = steps[s].components;
      for (let p = 0; p < components; p++) {
        const at = s * components + p;
        strip[at] = from[p] * this.window[s] - this.stripMean[at];
      }
    }
    const reduced = this.stripBasis.apply(strip);
    let square = 0;
    for (const x of reduced) square += x * x;
    const products = this.centres.apply(reduced);
    for (let n = 0; n < kernel.length; n++) {
      kernel[n] = Math.exp(-facts.gamma * Math.max(0, square + this.squares[n] - 2 * products[n]));
    }
    const code = Float64Array.from(this.weights.apply(kernel), (value, k) => {
      const own = matchQuantiles(value, this.before, this.after, k * this.quantiles, this.quantiles);
      const mean = this.codeMean[k];
      const margin = RANGE_MARGIN * (facts.most[k] - facts.least[k]);
      const enlarged = mean + (own - mean) / this.faceShare[k];
      return clamp(enlarged, facts.least[k] - margin, facts.most[k] + margin);
    });
    if (facts.closure_step >= 0) {
      const now = this.closure(steps, 0);
      const soon = this.closure(steps, STEPS_PER_FRAME);
      this.close(code, Math.max(now, ANTICIPATION * soon));
    }
    return code;
  }

  /** How surely p, b or m closes the lips so many steps after the frame. */
  closure(steps, later) {
    const step = Math.min(this.facts.closure_step + later, STRIP - 1);
    const near = [steps[step - 1], steps[step]];
    const closure = (near[0].closure + near[1].closure) / (2 * CHANNEL_MAX);
    const opening = (near[0].opening + near[1].opening) / (2 * CHANNEL_MAX);
    return clamp(closure - OPENING_WEIGHT * opening, 0, 1);
  }

  close(code, amount) {
    for (let k = 0; k < code.length; k++) {
      code[k] += amount * this.closing[k] * (this.closed[k] - code[k]);
    }
  }

  /** The code with pauses and limited speed. state: { code, quiet } of the frame before; changed. */
  follow(code, steps, state) {
    const now = this.facts.closure_step;
    if (this.readout.length && now >= STEPS_PER_FRAME) {
      for (let s = now - STEPS_PER_FRAME; s < now; s++) {
        state.quiet = Math.min((state.quiet + 1) * steps[s].quiet, MOST_QUIET);
      }
      let ahead = 0;
      let row = 1;
      for (let s = now; s < STRIP; s++) ahead += row *= steps[s].quiet;
      const ramp = Math.max(1, Math.min(PAUSE_RAMP, STRIP - now - PAUSE_LEAD));
      const closing = clamp((state.quiet - this.facts.pause_wait) / PAUSE_RAMP, 0, 1);
      this.close(code, closing * clamp((ahead - PAUSE_LEAD) / ramp, 0, 1));
    }
    if (state.code) this.limit(code, state.code);
    state.code = code;
    return code;
  }

  /** Let no channel be farther from its last value than this person's moves in a frame. */
  limit(code, last) {
    for (let k = 0; k < code.length; k++) {
      code[k] = clamp(code[k], last[k] - this.speed[k], last[k] + this.speed[k]);
    }
  }
}

function transposed({ values, shape: [rows, columns] }) {
  const out = new Float32Array(values.length);
  for (let r = 0; r < rows; r++) {
    for (let c = 0; c < columns; c++) out[c * rows + r] = values[r * columns + c];
  }
  return out;
}

function rowSquares({ values, shape: [rows, columns] }) {
  const out = new Float64Array(rows);
  for (let r = 0; r < rows; r++) {
    for (let c = 0; c < columns; c++) out[r] += values[r * columns + c] ** 2;
  }
  return out;
}

/** Mouth codes of one utterance: samples in, codes of its frames out. */
export class MouthStream {
  /** state: { code } that the mouth shows before the first frame, or nothing. */
  constructor(conformerTensors, voice, state = {}) {
    this.conformer = new CausalConformer(conformerTensors);
    this.voice = voice;
    this.state = { code: state.code ?? null, quiet: MOST_QUIET };
    this.steps = []; // prepared, from step `first` on
    this.first = 0;
    this.frame = 0; // the next one to come out
    this.received = 0; // samples
    this.finished = false;
  }

  /** The codes (Float64Array [M] each) that samples (Float32Array at 16 kHz) complete. */
  push(samples) {
    this.received += samples.length;
    this.take(samples, Infinity);
    return this.codes(Infinity);
  }

  /** The remaining codes, one for each frame that the audio begins. Silence follows. */
  finish() {
    this.finished = true;
    const frames = Math.ceil(this.received / SAMPLES_PER_FRAME);
    const end = frames * SAMPLES_PER_FRAME + SAMPLES_AHEAD;
    this.take(new Float32Array(Math.max(0, end - this.received)), STEPS_PER_FRAME * frames);
    return this.codes(frames);
  }

  /** Steps after `count` of them belong to no frame. */
  take(samples, count) {
    for (const step of this.conformer.push(samples)) {
      if (this.first + this.steps.length < count) this.steps.push(this.voice.prepare(step));
    }
    if (count < Infinity) this.steps.length = Math.min(this.steps.length, count - this.first);
  }

  codes(frames) {
    const found = [];
    const own = STEPS_PER_FRAME * PAST + FEATURE_WINDOW / 2 + SHIFT; // of a strip before a frame
    for (; this.frame < frames; this.frame++) {
      const begin = STEPS_PER_FRAME * this.frame - own;
      if (!this.finished && this.first + this.steps.length < begin + STRIP) break;
      const strip = Array.from({ length: STRIP }, (_, s) => {
        const window = s < FEATURE_WINDOW ? -PAST : 1 - PAST + ((s - FEATURE_WINDOW) >> 1);
        const inside = this.frame + window >= 0 && this.frame + window < frames;
        const at = begin + s - this.first;
        return (inside && at >= 0 && this.steps[at]) || this.voice.outside;
      });
      found.push(this.voice.follow(this.voice.code(strip), strip, this.state));
      const done = Math.max(0, begin - this.first);
      this.steps.splice(0, done);
      this.first += done;
    }
    return found;
  }
}
