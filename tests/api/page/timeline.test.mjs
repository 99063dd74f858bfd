// The clock: which position is heard at a time, and a stepping clock read smoothly.

import assert from "node:assert/strict";
import { test } from "node:test";
import { PictureQueue } from "./pictures.js";
import { SmoothClock, Timeline } from "./timeline.js";

test("the position moves with the clock, waits in a gap and goes on", () => {
  const line = new Timeline();
  assert.equal(line.at(1), null);
  line.add(1, 1000, true, 24000);
  line.add(1.5, 13000, false, 24000);
  line.add(2, 13000, true, 24000);
  assert.equal(line.at(0.5), 1000);
  assert.equal(line.at(1.25), 7000);
  assert.equal(line.at(1.75), 13000);
  assert.equal(line.at(2.5), 25000);
});

test("a later mark replaces those that it overtakes, and old ones are forgotten", () => {
  const line = new Timeline();
  line.add(1, 0, true, 24000);
  line.add(1.1, 5000, true, 24000);
  line.add(1.05, 9000, true, 24000);
  assert.equal(Math.round(line.at(1.1)), 9000 + 0.05 * 24000);
  for (let i = 2; i < 100; i++) line.add(i, i * 24000, true, 24000);
  assert.ok(line.marks.length < 5);
});

test("a clock that moves by 10 ms is read without steps", () => {
  const clock = new SmoothClock();
  let last = 0;
  let worst = 0;
  for (let i = 0; i < 600; i++) {
    const fine = 50 + i / 60;
    const coarse = Math.floor((fine - 43) / 0.01) * 0.01;
    const read = clock.read(coarse, fine);
    if (i > 60) worst = Math.max(worst, Math.abs(read - last - 1 / 60));
    last = read;
  }
  assert.ok(worst < 0.001, `a step of ${worst} s`);
});

test("a jump of the clock is followed at once, a drift of 200 ppm within 1 ms", () => {
  const clock = new SmoothClock();
  clock.read(0, 0);
  assert.ok(Math.abs(clock.read(3, 1) - 3) < 1e-9);
  let read;
  for (let i = 0; i < 60 * 60; i++) read = clock.read(3 + (i / 60) * 1.0002, 1 + i / 60);
  assert.ok(Math.abs(read - (3 + (3599 / 60) * 1.0002)) < 0.001);
});

const image = () => ({
  closed: 0,
  close() {
    this.closed += 1;
  },
});

test("the newest picture that is due is taken, and late ones are dropped and closed", () => {
  const queue = new PictureQueue();
  const images = [0, 1, 2, 3, 4].map(image);
  queue.add(0, images[0]);
  assert.equal(queue.take(100).image, images[0]);
  for (const i of [2, 1, 3]) queue.add(i * 960, images[i], { speech: true });
  const picture = queue.take(2 * 960);
  assert.equal(picture.image, images[2]);
  assert.equal(picture.speech, true);
  assert.deepEqual([images[1].closed, images[2].closed, queue.dropped], [1, 0, 1]);
  assert.equal(queue.take(2 * 960), null);
  queue.add(500, images[4]);
  assert.deepEqual([images[4].closed, queue.dropped], [1, 2]);
});

test("pictures far behind their sound are dropped, but the picture does not stand for long", () => {
  const queue = new PictureQueue();
  const taken = [];
  for (let i = 0; i < 50; i++) {
    queue.add(960 * i, image());
    const late = i < 10 ? 0 : 4800; // from the tenth on, 0.2 s
    const picture = queue.take(960 * i + late);
    if (picture) taken.push(i);
  }
  assert.deepEqual(taken.slice(0, 10), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  assert.ok(taken.length > 12 && taken.length < 16, String(taken));
});

test("a cut closes all pictures and counts none of them", () => {
  const queue = new PictureQueue();
  const images = [1, 2, 3].map(image);
  images.forEach((each, i) => queue.add(960 * i, each));
  queue.clear();
  assert.deepEqual([images.map((each) => each.closed), queue.dropped], [[1, 1, 1], 0]);
  assert.equal(queue.take(1e9), null);
});

test("a hidden page lets pictures go without counting them", () => {
  const queue = new PictureQueue();
  for (let i = 0; i < 20; i++) queue.add(960 * i, image());
  queue.skip(960 * 10);
  assert.deepEqual([queue.dropped, queue.waiting.length], [0, 9]);
});
