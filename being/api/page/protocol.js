// The messages of a live session, as docs/protocol.md describes them.

export const PROTOCOL = 1;
export const RATE = 24000; // of the session's time line and of the sound from the server
export const CODEC = "avc1.42E01F";
const HEADER = 20; // bytes of a media packet before its payload
const KINDS = { 1: "h264", 2: "jpeg", 3: "pcm", 4: "coefficients" };
const DRAWN = 8; // bytes before the numbers of a frame to draw
const PCM = 3;
const [KEY, SILENCE, LIVE, MATTE, SPEECH] = [1, 2, 4, 8, 16];

/**
 * A media packet from the server (ArrayBuffer) as an object: kind "h264", "jpeg", "pcm" or
 * "coefficients", epoch, time and length in samples, flags, count (of numbers of a frame to draw), and
 * the payload as Uint8Array. Null where it is malformed.
 */
export function parsePacket(buffer) {
  if (buffer.byteLength < HEADER) return null;
  const view = new DataView(buffer);
  const kind = KINDS[view.getUint8(0)];
  const flags = view.getUint8(1);
  if (!kind || (kind === "pcm" && buffer.byteLength % 2)) return null;
  return {
    kind,
    key: Boolean(flags & KEY),
    silence: Boolean(flags & SILENCE),
    matte: Boolean(flags & MATTE),
    speech: Boolean(flags & SPEECH),
    count: view.getUint16(2, true),
    epoch: view.getUint32(4, true),
    time: Number(view.getBigUint64(8, true)),
    length: view.getUint32(16, true),
    payload: new Uint8Array(buffer, HEADER),
  };
}

/** The samples of a PCM packet (Float32Array), or null for silence. */
export function packetSamples(packet) {
  if (packet.silence) return null;
  const { buffer, byteOffset, byteLength } = packet.payload;
  const pcm = new Int16Array(buffer, byteOffset, byteLength / 2);
  return Float32Array.from(pcm, (value) => value / 32768);
}

/** The frames of a packet of coefficients: { pose, coefficients: Float32Array }, or null. */
export function packetFrames({ payload, count }) {
  const size = DRAWN + 2 * count;
  if (!count || payload.byteLength % size) return null;
  const frames = [];
  const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
  for (let at = 0; at < payload.byteLength; at += size) {
    const step = view.getFloat32(at + 4, true);
    const coefficients = new Float32Array(count);
    for (let k = 0; k < count; k++) coefficients[k] = step * view.getInt16(at + DRAWN + 2 * k, true);
    frames.push({ pose: view.getUint16(at, true), coefficients });
  }
  return frames;
}

/** A PCM packet of the microphone for the server. pcm: Int16Array at `rate`. */
export function packPcm(pcm, rate, epoch) {
  const buffer = new ArrayBuffer(HEADER + 2 * pcm.length);
  const view = new DataView(buffer);
  view.setUint8(0, PCM);
  view.setUint8(1, LIVE);
  view.setUint16(2, rate, true);
  view.setUint32(4, epoch, true);
  view.setUint32(16, pcm.length, true);
  new Int16Array(buffer, HEADER).set(pcm);
  return buffer;
}

/** The address of the session, beside the page's own. token: "" where none is needed. */
export function sessionAddress(page, token) {
  const url = new URL("session", page);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  if (token) url.searchParams.set("token", token);
  return url.href;
}
