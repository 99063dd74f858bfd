// Layers of small networks, in plain numbers. Vectors are Float64Array: a product of them needs fewer
// conversions than one of Float32Array.

/** y = W x + b. */
export class Dense {
  /** weight: Float32Array [outputs, inputs]. bias: Float32Array [outputs], or null. */
  constructor(weight, bias, outputs) {
    this.weight = weight;
    this.bias = bias ?? new Float32Array(outputs);
    this.outputs = outputs;
    this.inputs = weight.length / outputs;
    this.result = new Float64Array(outputs);
  }

  /** The layer after a layer norm with this gain and offset. */
  afterNorm(gain, offset) {
    const { inputs, outputs } = this;
    const weight = new Float32Array(this.weight.length);
    const bias = new Float32Array(outputs);
    for (let o = 0; o < outputs; o++) {
      let sum = this.bias[o];
      for (let i = 0; i < inputs; i++) {
        sum += this.weight[o * inputs + i] * offset[i];
        weight[o * inputs + i] = this.weight[o * inputs + i] * gain[i];
      }
      bias[o] = sum;
    }
    return new Dense(weight, bias, outputs);
  }

  /** W x + b of x (Float64Array [inputs]); the result's memory is used again. */
  apply(x) {
    const { weight, bias, inputs, outputs, result } = this;
    let o = 0;
    for (; o + 4 <= outputs; o += 4) {
      const first = o * inputs;
      const second = first + inputs;
      const third = second + inputs;
      const fourth = third + inputs;
      let a = bias[o];
      let b = bias[o + 1];
      let c = bias[o + 2];
      let d = bias[o + 3];
      for (let i = 0; i < inputs; i++) {
        const value = x[i];
        a += weight[first + i] * value;
        b += weight[second + i] * value;
        c += weight[third + i] * value;
        d += weight[fourth + i] * value;
      }
      result[o] = a;
      result[o + 1] = b;
      result[o + 2] = c;
      result[o + 3] = d;
    }
    for (; o < outputs; o++) {
      let sum = bias[o];
      for (let i = 0; i < inputs; i++) sum += weight[o * inputs + i] * x[i];
      result[o] = sum;
    }
    return result;
  }
}

/** 1 / (1 + exp(-x)). */
export function sigmoid(x) {
  return 1 / (1 + Math.exp(-x));
}

/** Every x of the array becomes x sigmoid(x). Returns the array. */
export function siluInPlace(values) {
  for (let i = 0; i < values.length; i++) values[i] *= sigmoid(values[i]);
  return values;
}
