// The ring buffer: what is read at each position, gaps, cuts, catching up.

import assert from "node:assert/strict";
import { test } from "node:test";
import { AudioRing } from "./ring.js";

const RATE = 24000;
const PACKET = 960;
const ramp = (position, length = PACKET) =>
  Float32Array.from({ length }, (_, i) => (position + i + 1) / 1e6);
const read = (ring, length) => {
  const out = new Float32Array(length).fill(9);
  ring.read(out);
  return out;
};

test("what is read is what was pushed, at any block size", () => {
  const ring = new AudioRing(RATE, 0.07);
  const heard = [];
  let next = 48000;
  for (let block = 0; block < 400; block++) {
    while (next < ring.position + 4 * PACKET || !ring.begun) {
      ring.push(next, ramp(next));
      next += PACKET;
    }
    heard.push(...read(ring, 97 + (block % 64)));
  }
  assert.deepEqual(heard, [...ramp(48000, heard.length)]);
  assert.equal(ring.dry, 0);
});

test("nothing plays before the delay is buffered, and the position waits", () => {
  const ring = new AudioRing(RATE, 0.07);
  ring.push(0, ramp(0));
  assert.deepEqual([...read(ring, 128)], Array(128).fill(0));
  assert.equal(ring.position, 0);
  ring.push(PACKET, ramp(PACKET));
  assert.equal(read(ring, 128)[127], ramp(0)[127]);
});

test("the wait for the delay ends after the delay, with less in the ring", () => {
  const ring = new AudioRing(RATE, 0.07);
  ring.push(0, ramp(0));
  let waited = 0;
  while (ring.position === 0 && waited < RATE) {
    read(ring, 128);
    waited += 128;
  }
  assert.ok(waited >= 0.07 * RATE && waited < 0.08 * RATE, `waited ${waited} samples`);
});

test("where sound is late the position waits and no sample is lost", () => {
  const ring = new AudioRing(RATE, 0.04);
  ring.push(0, ramp(0));
  const heard = [...read(ring, PACKET + 100)];
  assert.equal(ring.dry, 1);
  assert.equal(ring.position, PACKET);
  ring.push(PACKET, ramp(PACKET));
  heard.push(...read(ring, PACKET));
  assert.deepEqual(
    heard.filter((x) => x),
    [...ramp(0, 2 * PACKET)],
  );
});

test("silence without samples moves the position on", () => {
  const ring = new AudioRing(RATE, 0.04);
  ring.push(500, null, PACKET);
  ring.push(500 + PACKET, ramp(500 + PACKET));
  assert.deepEqual([...read(ring, PACKET)], Array(PACKET).fill(0));
  assert.equal(ring.position, 500 + PACKET);
  assert.deepEqual(read(ring, PACKET), ramp(500 + PACKET));
});

test("a cut is silent at once, and the next push begins at its own position", () => {
  const ring = new AudioRing(RATE, 0.04);
  ring.push(0, ramp(0, 4 * PACKET));
  read(ring, 128);
  ring.cut();
  assert.deepEqual([...read(ring, 128)], Array(128).fill(0));
  assert.equal(ring.begun, false);
  ring.push(90000, ramp(90000));
  assert.deepEqual(read(ring, 128), ramp(90000, 128));
});

test("a gap is filled with silence, an overlap keeps what came first", () => {
  const ring = new AudioRing(RATE, 0.01);
  ring.push(0, ramp(0));
  ring.push(PACKET + 100, ramp(PACKET + 100));
  ring.push(PACKET + 50, new Float32Array(PACKET).fill(1));
  const out = read(ring, 2 * PACKET + 100);
  assert.deepEqual([...out.slice(PACKET, PACKET + 100)], Array(100).fill(0));
  assert.deepEqual(out.slice(PACKET + 100), ramp(PACKET + 100));
});

test("silence that lies too far ahead is skipped, speech is not", () => {
  const ring = new AudioRing(RATE, 0.07);
  for (let at = 0; at < RATE; at += PACKET) ring.push(at, null, PACKET);
  assert.ok(ring.buffered <= 0.45 * RATE);
  const speech = 25 * PACKET;
  for (let at = speech; at < speech + RATE; at += PACKET) ring.push(at, ramp(at));
  assert.equal(ring.position, speech);
  ring.read(new Float32Array(128));
  for (let at = speech + RATE; at < speech + 2 * RATE; at += PACKET) ring.push(at, null, PACKET);
  assert.equal(ring.position, speech + 128);
});

test("a full ring lets what is oldest go, so that the clock cannot stand for good", () => {
  const ring = new AudioRing(RATE, 0.07);
  for (let at = 0; at < 10 * RATE; at += PACKET) ring.push(at, ramp(at));
  assert.equal(ring.position + ring.buffered, 10 * RATE);
  assert.equal(read(ring, 1)[0], ramp(ring.position - 1, 1)[0]);
});

test("what is left can be moved to another ring", () => {
  const ring = new AudioRing(RATE, 0.04);
  assert.equal(ring.rest(), null);
  ring.push(0, ramp(0, 3 * PACKET));
  read(ring, 200);
  const { position, samples } = ring.rest();
  assert.equal(position, 200);
  assert.deepEqual(samples, ramp(200, 3 * PACKET - 200));
});
