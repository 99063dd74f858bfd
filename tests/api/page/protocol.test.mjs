// Packets and addresses of the protocol, and the resampler of the microphone.

import assert from "node:assert/strict";
import { test } from "node:test";
import { packetSamples, packPcm, parsePacket, sessionAddress } from "./protocol.js";
import { Resampler, toPcm16 } from "./resampler.js";

function packet({
  kind = 3,
  flags = 0,
  rate = 24000,
  epoch = 7,
  time = 0n,
  length = 2,
  bytes = [],
}) {
  const buffer = new ArrayBuffer(20 + bytes.length);
  const view = new DataView(buffer);
  view.setUint8(0, kind);
  view.setUint8(1, flags);
  view.setUint16(2, rate, true);
  view.setUint32(4, epoch, true);
  view.setBigUint64(8, time, true);
  view.setUint32(16, length, true);
  new Uint8Array(buffer, 20).set(bytes);
  return buffer;
}

test("a PCM packet is read with a time above 32 bits", () => {
  const read = parsePacket(
    packet({ flags: 16, time: 2n ** 40n + 5n, bytes: [0, 0x80, 0xff, 0x7f] }),
  );
  assert.deepEqual(
    [read.kind, read.epoch, read.time, read.length, read.speech, read.silence],
    ["pcm", 7, 2 ** 40 + 5, 2, true, false],
  );
  assert.deepEqual([...packetSamples(read)], [-1, Math.fround(32767 / 32768)]);
});

test("silence has no samples, a picture keeps its flags and payload", () => {
  assert.equal(packetSamples(parsePacket(packet({ flags: 2 }))), null);
  const read = parsePacket(packet({ kind: 1, flags: 1 | 8, bytes: [0, 0, 1] }));
  assert.deepEqual([read.kind, read.key, read.matte, read.speech], ["h264", true, true, false]);
  assert.deepEqual([...read.payload], [0, 0, 1]);
});

test("malformed packets are refused", () => {
  assert.equal(parsePacket(new ArrayBuffer(19)), null);
  assert.equal(parsePacket(packet({ kind: 9 })), null);
  assert.equal(parsePacket(packet({ bytes: [1] })), null);
});

test("a packed chunk of the microphone is read back", () => {
  const read = parsePacket(packPcm(Int16Array.of(1, -2, 16384), 24000, 3));
  assert.deepEqual([read.kind, read.epoch, read.length], ["pcm", 3, 3]);
  assert.equal(packetSamples(read)[2], 0.5);
});

test("the session lies beside the page, also behind a proxy's path", () => {
  assert.equal(
    sessionAddress("https://host/user/7/proxy/8000/?token=a b", "a b"),
    "wss://host/user/7/proxy/8000/session?token=a+b",
  );
  assert.equal(sessionAddress("http://localhost:8000/", ""), "ws://localhost:8000/session");
});

for (const from of [44100, 48000, 96000, 16000]) {
  test(`${from} Hz become 24,000 Hz: a tone keeps its frequency and loudness`, () => {
    const resampler = new Resampler(from, 24000);
    const out = [];
    for (let start = 0; start < from; start += 100) {
      const chunk = Float32Array.from(
        { length: 100 },
        (_, i) => 0.5 * Math.sin((2 * Math.PI * 1000 * (start + i)) / from),
      );
      out.push(...resampler.push(chunk));
    }
    assert.ok(Math.abs(out.length - 24000) < 60, `${out.length} samples`);
    // Least squares against sine and cosine of 1 kHz, away from the beginning.
    let [re, im, rest] = [0, 0, 0];
    const part = out.slice(2400, 2400 + 19200);
    part.forEach((x, i) => {
      re += x * Math.sin((2 * Math.PI * 1000 * i) / 24000);
      im += x * Math.cos((2 * Math.PI * 1000 * i) / 24000);
      rest += x * x;
    });
    const amplitude = (2 / part.length) * Math.hypot(re, im);
    const noise = rest / part.length - (amplitude * amplitude) / 2;
    assert.ok(Math.abs(amplitude - 0.5) < 0.005, `amplitude ${amplitude}`);
    assert.ok(noise < 1e-5, `noise ${noise}`);
  });
}

test("a tone above the new band is removed", () => {
  const resampler = new Resampler(48000, 24000);
  const tone = Float32Array.from({ length: 9600 }, (_, i) =>
    Math.sin((2 * Math.PI * 16000 * i) / 48000),
  );
  const out = resampler.push(tone).slice(200);
  assert.ok(Math.max(...out.map(Math.abs)) < 0.01);
});

test("loud samples are clipped, not wrapped", () => {
  assert.deepEqual([...toPcm16(Float32Array.of(2, -2, 0))], [32767, -32767, 0]);
});
