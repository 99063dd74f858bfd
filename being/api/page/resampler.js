// Changes the sample rate of a stream of audio, for the microphone.

const HALF_WIDTH = 16; // zero crossings of the sinc on each side

/** A windowed-sinc resampler for mono chunks of any size. Its delay is HALF_WIDTH input samples. */
export class Resampler {
  constructor(from, to) {
    this.step = from / to; // input samples per output sample
    this.scale = Math.min(1, to / from); // low-pass when going down
    this.reach = Math.ceil(HALF_WIDTH / this.scale);
    this.past = new Float32Array(2 * this.reach);
    this.at = this.reach; // place of the next output sample in `past`, input samples
  }

  /** Return the output samples (Float32Array) that the chunk (Float32Array) makes possible. */
  push(chunk) {
    if (this.step === 1) return chunk.slice();
    const all = new Float32Array(this.past.length + chunk.length);
    all.set(this.past);
    all.set(chunk, this.past.length);
    const out = [];
    while (this.at + this.reach < all.length) {
      out.push(this.value(all, this.at));
      this.at += this.step;
    }
    const drop = Math.max(0, Math.floor(this.at) - this.reach);
    this.past = all.slice(drop);
    this.at -= drop;
    return Float32Array.from(out);
  }

  value(all, at) {
    let sum = 0;
    const centre = Math.floor(at);
    for (let i = centre - this.reach + 1; i <= centre + this.reach; i++) {
      const x = (i - at) * this.scale;
      if (Math.abs(x) >= HALF_WIDTH) continue;
      const window = 0.5 + 0.5 * Math.cos((Math.PI * x) / HALF_WIDTH);
      const sinc = x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x);
      sum += (all[i] ?? 0) * window * sinc;
    }
    return sum * this.scale;
  }
}

/** Float samples in [-1, 1] as PCM16 (Int16Array, little-endian on every machine of today). */
export function toPcm16(samples) {
  const pcm = new Int16Array(samples.length);
  for (let i = 0; i < samples.length; i++) {
    pcm[i] = Math.round(Math.max(-1, Math.min(1, samples[i])) * 32767);
  }
  return pcm;
}

/** PCM16 (Int16Array) as float samples in [-1, 1]. */
export function toFloat(pcm) {
  const samples = new Float32Array(pcm.length);
  for (let i = 0; i < pcm.length; i++) samples[i] = pcm[i] / 32768;
  return samples;
}
