// The causal speech encoder: samples in, feature steps of 20 ms out, as soon as they are determined.
// The same network as being/audio/causal_conformer.py.

import { Dense, sigmoid, siluInPlace } from "./dense.js";

const MEL_WINDOW = 400; // samples
const MEL_HOP = 160;
const MEL_FLOOR = 1e-10;
const MEL_FRAMES = 3; // that a step reads
const SUBSAMPLING = 2; // mel frames a step
const AHEAD = [2, 3]; // later steps that the convolution of each block reads
const MEMORY = 100; // steps that attention reads
const HEADS = 4;
const HEAD_KERNEL = 5; // steps that the articulation head reads
const CHANNEL_MAX = 8;
const EPSILON = 1e-5;

/** Rows with mean 0 and deviation 1; `out` is filled and returned. */
function normalized(x, out) {
  let mean = 0;
  for (let i = 0; i < x.length; i++) mean += x[i];
  mean /= x.length;
  let power = 0;
  for (let i = 0; i < x.length; i++) power += (x[i] - mean) ** 2;
  const scale = 1 / Math.sqrt(power / x.length + EPSILON);
  for (let i = 0; i < x.length; i++) out[i] = (x[i] - mean) * scale;
  return out;
}

/** x + share * y, into x. */
function add(x, y, share = 1) {
  for (let i = 0; i < x.length; i++) x[i] += share * y[i];
}

/** The layers of a convolution [outputs, inputs, taps] over taps steps side by side. */
function convolution(tensors, name) {
  const { values, shape } = tensors[`${name}.weight`];
  const [outputs, inputs, taps] = shape;
  const weight = new Float32Array(values.length);
  for (let o = 0; o < outputs; o++) {
    for (let i = 0; i < inputs; i++) {
      for (let k = 0; k < taps; k++) {
        weight[(o * taps + k) * inputs + i] = values[(o * inputs + i) * taps + k];
      }
    }
  }
  return new Dense(weight, tensors[`${name}.bias`].values, outputs);
}

function linear(tensors, name) {
  const bias = tensors[`${name}.bias`].values;
  return new Dense(tensors[`${name}.weight`].values, bias, bias.length);
}

function afterNorm(layer, tensors, norm) {
  return layer.afterNorm(tensors[`${norm}.weight`].values, tensors[`${norm}.bias`].values);
}

/** Log power in mel bands, a frame every 10 ms. */
class MelFrames {
  constructor(bank) {
    this.bands = bank.shape[0];
    this.bins = bank.shape[1];
    this.bank = new Dense(bank.values, null, this.bands);
    // A Fourier transform as a product, with the window in it. It is symmetric, so that the sums
    // and differences of samples at both sides of the middle are enough.
    const half = MEL_WINDOW / 2;
    const cosine = new Float32Array(this.bins * (half + 1));
    const sine = new Float32Array(this.bins * (half + 1));
    for (let b = 0; b < this.bins; b++) {
      for (let i = 0; i <= half; i++) {
        const angle = (2 * Math.PI * ((b * i) % MEL_WINDOW)) / MEL_WINDOW;
        cosine[b * (half + 1) + i] = Math.cos(angle);
        sine[b * (half + 1) + i] = Math.sin(angle);
      }
    }
    this.window = Float64Array.from(
      { length: MEL_WINDOW },
      (_, i) => Math.fround(0.5 - 0.5 * Math.cos((2 * Math.PI * i) / MEL_WINDOW)),
    );
    this.cosine = new Dense(cosine, null, this.bins);
    this.sine = new Dense(sine, null, this.bins);
    this.even = new Float64Array(half + 1);
    this.odd = new Float64Array(half + 1);
    this.power = new Float64Array(this.bins);
    this.samples = new Float32Array(half); // from the first of the next frame on
  }

  /** The frames (Float64Array each) that the next samples complete. */
  push(samples) {
    const all = new Float32Array(this.samples.length + samples.length);
    all.set(this.samples);
    all.set(samples, this.samples.length);
    const frames = [];
    let at = 0;
    for (; at + MEL_WINDOW <= all.length; at += MEL_HOP) frames.push(this.frame(all, at));
    this.samples = all.slice(at);
    return frames;
  }

  frame(samples, at) {
    const { even, odd, window, power } = this;
    const half = MEL_WINDOW / 2;
    even[0] = samples[at] * window[0];
    even[half] = samples[at + half] * window[half];
    for (let i = 1; i < half; i++) {
      const one = samples[at + i] * window[i];
      const other = samples[at + MEL_WINDOW - i] * window[MEL_WINDOW - i];
      even[i] = one + other;
      odd[i] = one - other;
    }
    const real = this.cosine.apply(even);
    const imaginary = this.sine.apply(odd);
    for (let b = 0; b < this.bins; b++) power[b] = real[b] ** 2 + imaginary[b] ** 2;
    return Float64Array.from(this.bank.apply(power), (x) => Math.log(Math.max(x, MEL_FLOOR)));
  }
}

/** A block with the state of its stream: keys, values, and the tail of its convolution. */
class Block {
  constructor(tensors, number) {
    const at = `blocks.${number}`;
    this.fc1 = afterNorm(linear(tensors, `${at}.ffn1.fc1`), tensors, `${at}.ffn1.norm`);
    this.fc2 = linear(tensors, `${at}.ffn1.fc2`);
    this.inProj = afterNorm(linear(tensors, `${at}.attn.in_proj`), tensors, `${at}.attn_norm`);
    this.outProj = linear(tensors, `${at}.attn.out_proj`);
    const pointwise = convolution(tensors, `${at}.conv.pointwise1`);
    this.pointwise1 = afterNorm(pointwise, tensors, `${at}.conv.norm`);
    this.pointwise2 = convolution(tensors, `${at}.conv.pointwise2`);
    this.fc3 = afterNorm(linear(tensors, `${at}.ffn2.fc1`), tensors, `${at}.ffn2.norm`);
    this.fc4 = linear(tensors, `${at}.ffn2.fc2`);
    this.gain = tensors[`${at}.norm.weight`].values;
    this.offset = tensors[`${at}.norm.bias`].values;

    const { values, shape } = tensors[`${at}.conv.depthwise.weight`];
    this.width = shape[0];
    this.ahead = AHEAD[number];
    this.kernelBias = tensors[`${at}.conv.depthwise.bias`].values;
    const taps = Math.floor(shape[2] / 2) + 1 + this.ahead;
    this.kernel = Array.from({ length: taps }, (_, k) =>
      Float64Array.from({ length: this.width }, (__, c) => values[c * shape[2] + k]),
    );
    this.tail = Array.from({ length: taps - 1 - this.ahead }, () => new Float64Array(this.width));
    this.waiting = [];
    this.keys = [];
    this.values = [];
    this.norm = new Float64Array(this.width);
    this.read = new Float64Array(this.width);
    this.scores = new Float64Array(MEMORY);
    this.sum = new Float64Array(this.width);
  }

  /** The output (Float64Array) that the next input determines, `ahead` steps earlier; or null. */
  push(input) {
    const x = Float64Array.from(input);
    const { norm, width } = this;
    add(x, this.fc2.apply(siluInPlace(this.fc1.apply(normalized(x, norm)))), 0.5);
    add(x, this.outProj.apply(this.attend(this.inProj.apply(normalized(x, norm)))));

    // The depthwise convolution. A step waits until `ahead` later ones are there.
    const both = this.pointwise1.apply(normalized(x, norm));
    const gated = new Float64Array(width);
    for (let c = 0; c < width; c++) gated[c] = both[c] * sigmoid(both[width + c]);
    this.tail.push(gated);
    this.waiting.push(x);
    if (this.tail.length < this.kernel.length) return null;
    const { sum } = this;
    sum.set(this.kernelBias);
    this.kernel.forEach((weights, k) => {
      const step = this.tail[k];
      for (let c = 0; c < width; c++) sum[c] += weights[c] * step[c];
    });
    this.tail.shift();
    const y = this.waiting.shift();
    add(y, this.pointwise2.apply(siluInPlace(sum)));

    add(y, this.fc4.apply(siluInPlace(this.fc3.apply(normalized(y, norm)))), 0.5);
    const out = normalized(y, new Float64Array(width));
    for (let c = 0; c < width; c++) out[c] = out[c] * this.gain[c] + this.offset[c];
    return out;
  }

  /** Attention of a step to the last MEMORY ones, itself included. */
  attend(projected) {
    const { width, keys, values, scores, read } = this;
    keys.push(projected.slice(width, 2 * width));
    values.push(projected.slice(2 * width));
    if (keys.length > MEMORY) {
      keys.shift();
      values.shift();
    }
    const depth = width / HEADS;
    const scale = depth ** -0.5;
    read.fill(0);
    for (let from = 0; from < width; from += depth) {
      let most = -Infinity;
      for (let j = 0; j < keys.length; j++) {
        let score = 0;
        for (let c = from; c < from + depth; c++) score += projected[c] * keys[j][c];
        scores[j] = score * scale;
        if (scores[j] > most) most = scores[j];
      }
      let total = 0;
      for (let j = 0; j < keys.length; j++) total += scores[j] = Math.exp(scores[j] - most);
      for (let j = 0; j < keys.length; j++) {
        const share = scores[j] / total;
        for (let c = from; c < from + depth; c++) read[c] += share * values[j][c];
      }
    }
    return read;
  }
}

/** One stream of the encoder. A step is C hidden channels and two articulation channels. */
export class CausalConformer {
  /** tensors: { values: Float32Array, shape } by name, as in causal_conformer.safetensors. */
  constructor(tensors) {
    this.mel = new MelFrames(tensors.mel);
    this.subsample = convolution(tensors, "subsample");
    this.blocks = AHEAD.map((_, number) => new Block(tensors, number));
    this.head = convolution(tensors, "head");
    this.headOut = linear(tensors, "head_out");
    this.hiddenWidth = this.subsample.outputs;
    this.width = this.hiddenWidth + this.headOut.outputs;
    this.frames = []; // mel frames from the first of the next step on
    this.history = Array.from(
      { length: HEAD_KERNEL - 1 },
      () => new Float64Array(this.hiddenWidth),
    );
    this.row = new Float64Array(MEL_FRAMES * this.mel.bands);
    this.side = new Float64Array(HEAD_KERNEL * this.hiddenWidth);
  }

  /** The steps (Float64Array [C + 2] each) that samples (Float32Array at 16 kHz) determine. */
  push(samples) {
    this.frames.push(...this.mel.push(samples));
    const steps = [];
    while (this.frames.length >= MEL_FRAMES) {
      for (let k = 0; k < MEL_FRAMES; k++) this.row.set(this.frames[k], k * this.mel.bands);
      this.frames.splice(0, SUBSAMPLING);
      const step = this.step(this.row);
      if (step) steps.push(step);
    }
    return steps;
  }

  step(row) {
    let x = Float64Array.from(this.subsample.apply(row), (v) => {
      return 0.5 * v * (1 + Math.tanh(0.7978845608 * (v + 0.044715 * v ** 3)));
    });
    for (const block of this.blocks) {
      x = block.push(x);
      if (!x) return null;
    }
    this.history.push(x);
    this.history.forEach((past, k) => this.side.set(past, k * this.hiddenWidth));
    this.history.shift();
    const articulation = this.headOut.apply(siluInPlace(this.head.apply(this.side)));
    const step = new Float64Array(this.width);
    step.set(x);
    for (let k = 0; k < articulation.length; k++) {
      step[this.hiddenWidth + k] = CHANNEL_MAX * sigmoid(articulation[k]);
    }
    return step;
  }
}
