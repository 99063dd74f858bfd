// The net that gives a frame's coefficients of the bases, from mouth code, expression and camera.

import { Dense, siluInPlace } from "./dense.js";

const INPUT_LIMIT = 4; // as in being/model/bases.py

/** The coefficient net of an avatar. */
export class CoefficientNet {
  /** tensors: Float32Array by name: input_mean, input_scale, net.0.weight, net.0.bias, ... */
  constructor(tensors) {
    this.mean = tensors.input_mean;
    this.scale = tensors.input_scale;
    this.layers = [];
    for (let k = 0; tensors[`net.${k}.weight`]; k++) {
      const bias = tensors[`net.${k}.bias`];
      this.layers.push(new Dense(tensors[`net.${k}.weight`], bias, bias.length));
    }
    this.input = new Float64Array(this.mean.length);
    this.result = new Float32Array(this.layers.at(-1).outputs);
  }

  /**
   * The coefficients (Float32Array [K], used again) of a frame.
   *
   * code: [M], expression: [E], camera: [16], world to camera, row by row.
   */
  compute(code, expression, camera) {
    const { input, mean, scale } = this;
    let at = 0;
    for (let i = 0; i < code.length; i++) input[at++] = code[i];
    for (let i = 0; i < expression.length; i++) input[at++] = expression[i];
    // The transposed rotation row by row, then the translation.
    for (let i = 0; i < 9; i++) input[at++] = camera[4 * (i % 3) + Math.floor(i / 3)];
    for (let i = 0; i < 3; i++) input[at++] = camera[4 * i + 3];
    for (let i = 0; i < input.length; i++) {
      const value = (input[i] - mean[i]) / scale[i];
      input[i] = Math.max(-INPUT_LIMIT, Math.min(INPUT_LIMIT, value));
    }
    let x = input;
    this.layers.forEach((layer, k) => {
      x = layer.apply(x);
      if (k + 1 < this.layers.length) siluInPlace(x);
    });
    this.result.set(x);
    return this.result;
  }
}
