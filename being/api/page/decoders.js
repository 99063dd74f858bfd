// From encoded pictures to images: H.264 by WebCodecs, JPEG where the page is not secure.
// Times are samples on the session's time line.

import { CODEC, RATE } from "./protocol.js";

const SETTINGS = { codec: CODEC, optimizeForLatency: true };
const MICROSECOND = RATE / 1e6;

/** True where this page can decode H.264: a secure page of a browser with WebCodecs. */
export async function canDecodeH264() {
  if (typeof VideoDecoder === "undefined") return false;
  try {
    return (await VideoDecoder.isConfigSupported(SETTINGS)).supported;
  } catch {
    return false;
  }
}

/** H.264 access units in Annex B form to video frames. */
export class H264Decoder {
  /**
   * codec: as the server names it. show(time, image): takes each picture. failed(): the stream
   * cannot be decoded.
   */
  constructor(codec, show, failed) {
    this.needsKey = true;
    this.failed = failed;
    this.decoder = new VideoDecoder({
      output: (frame) => show(Math.round(frame.timestamp * MICROSECOND), frame),
      error: () => this.fail(),
    });
    this.decoder.configure({ ...SETTINGS, codec });
  }

  /** Pictures before the first key picture are skipped. */
  decode(time, bytes, key) {
    if (this.decoder.state !== "configured" || (this.needsKey && !key)) return;
    this.needsKey = false;
    const type = key ? "key" : "delta";
    const timestamp = Math.round(time / MICROSECOND);
    try {
      this.decoder.decode(new EncodedVideoChunk({ type, timestamp, data: bytes }));
    } catch {
      this.fail();
    }
  }

  fail() {
    this.close();
    this.failed();
  }

  close() {
    if (this.decoder.state !== "closed") this.decoder.close();
  }
}

/** JPEG pictures to bitmaps. */
export class JpegDecoder {
  constructor(show) {
    this.show = show;
    this.closed = false;
  }

  async decode(time, bytes) {
    let image;
    try {
      image = await createImageBitmap(new Blob([bytes], { type: "image/jpeg" }));
    } catch {
      return; // a damaged picture: the next one comes soon
    }
    if (this.closed) image.close();
    else this.show(time, image);
  }

  close() {
    this.closed = true;
  }
}
