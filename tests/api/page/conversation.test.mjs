// A conversation: the gate that tells the first sound from noise, ducking, the transcript.

import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { Conversation, SoundGate } from "./conversation.js";

const RATE = 24000;
const PIECE = RATE / 100;
let seed = 1;
const dice = () => {
  seed = (seed * 1103515245 + 12345) % 2147483648;
  return seed / 1073741824 - 1;
};
const noise = (level) => Int16Array.from({ length: PIECE }, () => 32767 * level * 1.7 * dice());
const voiced = (level, quiet) =>
  Int16Array.from(
    { length: PIECE },
    (_, k) => 32767 * (level * 1.4 * Math.sin(k / 6) + quiet * 1.7 * dice()),
  );

test("steady noise is no sound, and a voice 15 dB over it is one within 30 ms", () => {
  for (const level of [0.001, 0.01, 0.05]) {
    const gate = new SoundGate();
    for (let i = 0; i < 500; i++) assert.equal(gate.push(noise(level)), false, `${level} ${i}`);
    let pieces = 1;
    while (!gate.push(voiced(level * 5.6, level))) pieces += 1;
    assert.ok(pieces <= 3, `${pieces} pieces`);
  }
});

test("noise that grows is noise again after two seconds, also after a start with zeros", () => {
  for (const before of [0, 0.005]) {
    const gate = new SoundGate();
    for (let i = 0; i < 100; i++) gate.push(noise(before));
    let loud = 0;
    for (let i = 0; i < 1500; i++) loud = gate.push(noise(0.03)) ? i : loud;
    assert.ok(loud < 210, `${loud}`);
  }
});

let session;
let sent;
let ducks;
let timers;
let lines;
let talk;

beforeEach(() => {
  [sent, ducks, timers, lines] = [[], [], [], []];
  globalThis.setTimeout = (run) => timers.push(run);
  globalThis.clearTimeout = () => {};
  session = {
    state: "speaking",
    epoch: 3,
    hear: () => 4800,
    send: (message) => sent.push(message),
    sendMicrophone: (pcm) => sent.push({ type: "pcm", length: pcm.length }),
  };
  const sound = { duck: (on) => ducks.push(on) };
  talk = new Conversation(session, sound, { change() {}, line: (line) => lines.push(line) });
  talk.listen(true);
});

function speak(pieces) {
  for (let i = 0; i < 60; i++) talk.hear(noise(0.005));
  for (let i = 0; i < pieces; i++) talk.hear(voiced(0.1, 0.005));
}

test("the first sound of the user lowers the avatar's, and tells what was heard", () => {
  speak(5);
  assert.deepEqual(ducks, [true]);
  const duck = sent.find(({ type }) => type === "duck");
  assert.deepEqual(duck, { type: "duck", on: true, heard: { epoch: 3, samples: 4800 } });
  assert.ok(sent.filter(({ type }) => type === "pcm").every(({ length }) => length === 2 * PIECE));
});

test("where the server hears no speech the sound comes back", () => {
  speak(5);
  timers[0]();
  assert.deepEqual(ducks, [true, false]);
  assert.deepEqual(sent.at(-1), { type: "duck", on: false });
});

test("a short noise lowers the sound for a third of a second", () => {
  speak(5);
  for (let i = 0; i < 29; i++) talk.hear(noise(0.005));
  assert.deepEqual(ducks, [true]);
  talk.hear(noise(0.005));
  assert.deepEqual(ducks, [true, false]);
});

test("a cut ends the duck, and nothing is lowered while the avatar is silent", () => {
  speak(5);
  talk.cut();
  assert.deepEqual(ducks, [true, false]);
  session.state = "idle";
  speak(20);
  assert.equal(ducks.length, 2);
});

test("the transcript grows, and what was heard replaces it", () => {
  talk.take({ type: "transcript", turn: 1, role: "user", text: "Hi", final: true });
  talk.take({ type: "transcript", turn: 1, role: "assistant", text: "One ", final: false });
  talk.take({ type: "transcript", turn: 1, role: "assistant", text: "two", final: false });
  assert.equal(talk.lines.at(-1).text, "One two");
  talk.take({ type: "transcript", turn: 1, role: "assistant", text: "One", final: true });
  assert.deepEqual(talk.transcript(), [
    { role: "user", text: "Hi" },
    { role: "assistant", text: "One" },
  ]);
  talk.take({ type: "transcript", turn: 1, role: "user", text: "New link", final: true });
  assert.equal(talk.lines.length, 3);
});

test("a microphone that does not open is told to the server", () => {
  talk.listen(false, "NotAllowedError: no");
  assert.deepEqual(sent.at(-1), { type: "converse", on: false, problem: "NotAllowedError: no" });
});
