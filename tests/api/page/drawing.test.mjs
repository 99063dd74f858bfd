// Frames that the page draws: what the server sends of them, and whether this machine keeps up.

import assert from "node:assert/strict";
import test from "node:test";

import { Pace } from "./drawing.js";
import { packetFrames, parsePacket } from "./protocol.js";

/** A packet of frames { pose, step, numbers } as the server sends it. */
function packet(frames, kind = 4) {
  const count = frames[0].numbers.length;
  const buffer = new ArrayBuffer(20 + frames.length * (8 + 2 * count));
  const view = new DataView(buffer);
  view.setUint8(0, kind);
  view.setUint8(1, 16);
  view.setUint16(2, count, true);
  view.setUint32(4, 7, true);
  view.setBigUint64(8, 1920n, true);
  view.setUint32(16, 960 * frames.length, true);
  frames.forEach(({ pose, step, numbers }, k) => {
    const at = 20 + k * (8 + 2 * count);
    view.setUint16(at, pose, true);
    view.setFloat32(at + 4, step, true);
    numbers.forEach((value, i) => view.setInt16(at + 8 + 2 * i, value, true));
  });
  return buffer;
}

test("a packet of coefficients gives its frames", () => {
  const sent = [
    { pose: 3, step: 0.5, numbers: [1, -2, 32767] },
    { pose: 4, step: 0.25, numbers: [0, 4, -32767] },
  ];
  const read = parsePacket(packet(sent));
  assert.equal(read.kind, "coefficients");
  assert.deepEqual([read.epoch, read.time, read.length, read.speech], [7, 1920, 1920, true]);
  const frames = packetFrames(read);
  assert.deepEqual(frames.map(({ pose }) => pose), [3, 4]);
  assert.deepEqual([...frames[0].coefficients], [0.5, -1, 16383.5]);
  assert.deepEqual([...frames[1].coefficients], [0, 1, -8191.75]);
});

test("a packet that was cut gives none", () => {
  const whole = packet([{ pose: 0, step: 1, numbers: [1, 2] }]);
  assert.equal(packetFrames(parsePacket(whole.slice(0, 30))), null);
});

test("a machine that draws most frames keeps up", () => {
  const pace = new Pace();
  assert.equal(pace.tooSlow(0, true), false);
  for (let k = 1; k < 10; k++) {
    Object.assign(pace, { came: 75, drawn: 60 });
    assert.equal(pace.tooSlow(3001 * k, true), false);
  }
});

test("a machine that draws few of them twice in a row is too slow", () => {
  const pace = new Pace();
  pace.tooSlow(0, true);
  Object.assign(pace, { came: 75, drawn: 30 });
  assert.equal(pace.tooSlow(3001, true), false);
  Object.assign(pace, { came: 75, drawn: 30 });
  assert.equal(pace.tooSlow(4000, true), false);
  assert.equal(pace.tooSlow(6002, true), true);
});

test("a page that nobody sees is not too slow", () => {
  const pace = new Pace();
  for (let k = 0; k < 10; k++) {
    Object.assign(pace, { came: 75, drawn: 0 });
    assert.equal(pace.tooSlow(3001 * k, false), false);
  }
});
