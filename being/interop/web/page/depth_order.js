// Sorts the Gaussians of a frame by depth, the farthest first.

const BUCKETS = 1 << 16;

/** The order of an avatar's Gaussians; memory is allocated once. */
export class DepthOrder {
  /** scene: as for `Renderer`. Only the means decide the depth: fields 0 to 2. */
  constructor({ count, canonical, bases, scales, moved }) {
    this.count = count;
    this.moved = moved;
    this.scales = scales;
    this.basisCount = scales.length / moved;
    this.means = [0, 1, 2].map((f) => canonical.subarray(f * count, (f + 1) * count));
    this.steps = [];
    for (let k = 0; k < this.basisCount; k++) {
      const at = (f) => (k * moved + f) * count;
      this.steps.push([0, 1, 2].map((f) => bases.subarray(at(f), at(f + 1))));
    }
    this.depths = new Float32Array(count);
    this.keys = new Uint16Array(count);
    this.starts = new Uint32Array(BUCKETS);
    this.order = new Uint32Array(count);
  }

  /** Numbers of the Gaussians (Uint32Array [N], used again), the farthest first. */
  sorted(coefficients, camera) {
    const { count, depths } = this;
    const [rx, ry, rz, tz] = camera.subarray(8, 12);
    const [x, y, z] = this.means;
    for (let i = 0; i < count; i++) depths[i] = rx * x[i] + ry * y[i] + rz * z[i] + tz;
    for (let k = 0; k < this.basisCount; k++) {
      const at = k * this.moved;
      this.add(
        this.steps[k],
        coefficients[k] * this.scales[at] * rx,
        coefficients[k] * this.scales[at + 1] * ry,
        coefficients[k] * this.scales[at + 2] * rz,
      );
    }
    return this.bucketSort();
  }

  add([x, y, z], a, b, c) {
    const { count, depths } = this;
    for (let i = 0; i < count; i++) depths[i] += a * x[i] + b * y[i] + c * z[i];
  }

  /** By 65,536 steps of depth, then exactly. */
  bucketSort() {
    const { count, depths, keys, starts, order } = this;
    let near = Infinity;
    let far = -Infinity;
    for (let i = 0; i < count; i++) {
      const depth = depths[i];
      if (depth < near) near = depth;
      if (depth > far) far = depth;
    }
    const scale = far > near ? (BUCKETS - 1) / (far - near) : 0;
    starts.fill(0);
    for (let i = 0; i < count; i++) {
      const key = (far - depths[i]) * scale;
      keys[i] = key;
      starts[keys[i]] += 1;
    }
    let sum = 0;
    for (let b = 0; b < BUCKETS; b++) {
      const size = starts[b];
      starts[b] = sum;
      sum += size;
    }
    for (let i = 0; i < count; i++) order[starts[keys[i]]++] = i;

    // Gaussians of one bucket by insertion: there are few in each.
    for (let i = 1; i < count; i++) {
      const one = order[i];
      const depth = depths[one];
      let place = i;
      while (place > 0 && depths[order[place - 1]] < depth) {
        order[place] = order[place - 1];
        place -= 1;
      }
      order[place] = one;
    }
    return order;
  }
}
