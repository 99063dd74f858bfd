// The audio worklets, block by block: playing, cutting, reporting, recording.

import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

const kinds = {};
Object.assign(globalThis, {
  sampleRate: 24000,
  currentTime: 0,
  registerProcessor: (name, kind) => (kinds[name] = kind),
  AudioWorkletProcessor: class {
    constructor() {
      this.sent = [];
      this.port = { postMessage: (data) => this.sent.push(data) };
    }
  },
});
await import("./worklet.js");

let player;
const block = () => {
  const out = new Float32Array(128).fill(9);
  player.process([], [[out]]);
  globalThis.currentTime += 128 / 24000;
  return out;
};
const tell = (data) => player.port.onmessage({ data });
const push = (position, value = 0.5) =>
  tell({ position, samples: new Float32Array(960).fill(value), length: 960 });
const loudest = (out) => Math.max(...out.map(Math.abs));

beforeEach(() => {
  globalThis.currentTime = 0;
  player = new kinds["session-player"]({ processorOptions: { delay: 0.04 } });
});

test("a cut fades over one block and is silent from the next", () => {
  for (let i = 0; i < 4; i++) push(960 * i);
  assert.equal(loudest(block()), 0.5);
  tell({ cut: 1 });
  const fade = block();
  assert.ok(fade[0] > 0.49 && fade[127] === 0);
  assert.ok([...fade].every((x, i) => i === 0 || x <= fade[i - 1]));
  for (let i = 0; i < 30; i++) assert.equal(loudest(block()), 0);
  const silent = player.sent.filter((data) => data.silent === 1);
  assert.equal(silent.length, 1);
  assert.ok(Math.abs(silent[0].at - Date.now()) < 5000);
});

test("a second cut right after the first makes no sound", () => {
  for (let i = 0; i < 4; i++) push(960 * i);
  block();
  tell({ cut: 1 });
  block();
  tell({ cut: 2 });
  for (let i = 0; i < 10; i++) assert.equal(loudest(block()), 0);
  assert.deepEqual(
    player.sent.flatMap(({ silent }) => silent ?? []),
    [2],
  );
});

test("sound of the new epoch that comes before the silent block is kept", () => {
  for (let i = 0; i < 4; i++) push(960 * i);
  block();
  tell({ cut: 1 });
  push(96000, 0.25);
  push(96960, 0.25);
  block();
  assert.equal(loudest(block()), 0.25);
});

test("reports tell position, time, and the last cut that is silent", () => {
  for (let i = 0; i < 4; i++) push(4800 + 960 * i);
  for (let i = 0; i < 12; i++) block();
  tell({ cut: 7 });
  for (let i = 0; i < 12; i++) block();
  const reports = player.sent.filter(({ silent }) => silent === undefined);
  const playing = reports.filter(({ running }) => running);
  for (const { time, position } of playing) {
    assert.ok(Math.abs(position - 4800 - time * 24000) < 1, `${position} at ${time}`);
  }
  assert.ok(playing.length >= 2 && playing.every(({ cuts }) => cuts === 0));
  assert.deepEqual([reports.at(-1).cuts, reports.at(-1).begun], [7, false]);
});

test("a dry ring is reported at once", () => {
  push(0);
  push(960);
  for (let i = 0; i < 15; i++) block();
  assert.equal(player.sent.at(-1).running, true);
  block();
  assert.deepEqual([player.sent.at(-1).running, player.sent.at(-1).dry], [false, 1]);
  assert.equal(player.sent.at(-1).position, 1920);
});

test("the microphone comes in pieces of 20 ms, complete and in order", () => {
  const microphone = new kinds.microphone({ processorOptions: { seconds: 0.02 } });
  for (let i = 0; i < 30; i++) {
    microphone.process([[Float32Array.from({ length: 128 }, (_, k) => 128 * i + k)]]);
  }
  const all = microphone.sent.flatMap((piece) => [...piece]);
  assert.deepEqual(
    all,
    Array.from({ length: 3840 }, (_, i) => i),
  );
  assert.equal(microphone.sent[0].length, 480);
});

test("a duck is silent within one block, its clock goes on, and it comes back softly", () => {
  for (let i = 0; i < 8; i++) push(960 * i);
  assert.equal(loudest(block()), 0.5);
  tell({ duck: true });
  assert.ok(Math.abs(block()[127]) < 1e-6);
  const position = player.ring.position;
  assert.equal(loudest(block()), 0);
  assert.equal(player.ring.position, position + 128);
  tell({ duck: false });
  assert.ok(loudest(block()) < 0.05);
  for (let i = 0; i < 20; i++) block();
  assert.equal(loudest(block()), 0.5);
});

test("a cut during a duck lets nothing of the old sound through, and the next one is loud", () => {
  for (let i = 0; i < 8; i++) push(960 * i);
  block();
  tell({ duck: true });
  block();
  tell({ cut: 1 });
  tell({ duck: false });
  for (let i = 0; i < 5; i++) assert.equal(loudest(block()), 0);
  for (let i = 0; i < 4; i++) push(50_000 + 960 * i);
  let heard = 0;
  for (let i = 0; i < 40; i++) heard = Math.max(heard, loudest(block()));
  assert.equal(heard, 0.5);
});
