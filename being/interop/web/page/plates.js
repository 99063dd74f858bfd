// The pictures behind the head, decoded from the bundle's video as the poses need them.

const CACHED_GROUPS = 4; // of frames from one key frame to the next

/** The luma and chroma planes of a decoded frame, for `Renderer.setPlate`. */
async function planesOf(frame, stacked) {
  const { width, height } = frame.visibleRect;
  const format = frame.format ?? "";
  if (format !== "I420" && format !== "NV12") return null;
  const content = new Uint8Array(frame.allocationSize());
  const layout = await frame.copyTo(content);
  const interleaved = format === "NV12";
  const plane = (k, w, h) => {
    const { offset, stride } = layout[k];
    if (stride === w) return content.subarray(offset, offset + w * h);
    const packed = new Uint8Array(w * h);
    for (let y = 0; y < h; y++) {
      packed.set(content.subarray(offset + y * stride, offset + y * stride + w), y * w);
    }
    return packed;
  };
  return {
    kind: 1,
    width,
    height,
    stacked,
    interleaved,
    luma: plane(0, width, height),
    blue: plane(1, interleaved ? width : width / 2, height / 2),
    red: interleaved ? null : plane(2, width / 2, height / 2),
  };
}

/** The plates of an avatar by pose. */
export class Plates {
  /** info: `plates` of the manifest. bytes: the video. picture: the plate of pose 0. */
  constructor(info, bytes, picture) {
    this.info = info;
    this.bytes = bytes;
    this.still = { kind: 2, image: picture };
    this.groups = []; // number of the first frame of each
    info.frames.forEach(([, , key], number) => {
      if (key) this.groups.push(number);
    });
    this.cache = new Map(); // group -> planes of its frames, or a promise of them
    this.queue = Promise.resolve();
    // Pages that are not secure have no decoder: they keep one plate, and its pose.
    this.fixed = typeof VideoDecoder === "undefined" || info.frames.length === 1;
  }

  groupOf(pose) {
    let group = this.groups.length - 1;
    while (this.groups[group] > pose) group -= 1;
    return group;
  }

  /** The plate of `pose` where it is decoded, or null. Asks for it and those beyond, too. */
  take(pose, towards = 1) {
    if (this.fixed) return pose === 0 ? this.still : null;
    const group = this.groupOf(pose);
    this.ask(group);
    const next = group + towards;
    if (next >= 0 && next < this.groups.length) this.ask(next);
    const found = this.cache.get(group);
    return Array.isArray(found) ? found[pose - this.groups[group]] : null;
  }

  /** The plate of `pose` when it is decoded. */
  async get(pose) {
    if (this.fixed) return this.still;
    const group = this.groupOf(pose);
    this.ask(group);
    await this.cache.get(group);
    return this.fixed ? this.still : this.take(pose, 0);
  }

  ask(group) {
    const known = this.cache.get(group);
    if (known) {
      this.cache.delete(group); // the newest goes to the end
      this.cache.set(group, known);
      return;
    }
    this.queue = this.queue.then(() => this.decode(group));
    const work = this.queue.then(
      (frames) => this.cache.set(group, frames),
      (error) => {
        console.warn(`the plates cannot be decoded: ${error.message}. The avatar keeps one pose`);
        this.fixed = true;
      },
    );
    this.queue = work.then(() => undefined);
    this.cache.set(group, work);
    while (this.cache.size > CACHED_GROUPS) this.cache.delete(this.cache.keys().next().value);
  }

  /** The planes of a group's frames. */
  async decode(group) {
    const { frames, codec, description, width, height, stacked } = this.info;
    const first = this.groups[group];
    const end = this.groups[group + 1] ?? frames.length;
    const found = [];
    const copies = [];
    let failure = null;
    const decoder = new VideoDecoder({
      output: (frame) => {
        const place = Math.round((frame.timestamp * 25) / 1e6);
        copies.push(
          planesOf(frame, stacked).then((planes) => {
            frame.close();
            if (!planes) throw new Error("the decoder gives no planes");
            found[place] = planes;
          }),
        );
      },
      error: (error) => {
        failure = error;
      },
    });
    try {
      decoder.configure({
        codec,
        codedWidth: width,
        codedHeight: height,
        description: Uint8Array.from(atob(description), (letter) => letter.charCodeAt(0)),
      });
      for (let number = first; number < end; number++) {
        const [offset, size, key] = frames[number];
        decoder.decode(
          new EncodedVideoChunk({
            type: key ? "key" : "delta",
            timestamp: Math.round(((number - first) * 1e6) / 25),
            data: this.bytes.subarray(offset, offset + size),
          }),
        );
      }
      await decoder.flush();
      await Promise.all(copies);
    } catch (error) {
      throw failure ?? error;
    } finally {
      if (decoder.state !== "closed") decoder.close();
    }
    return found;
  }
}
