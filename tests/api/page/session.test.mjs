// The session against a scripted socket: epochs, interrupts, what is sent again, reconnecting.

import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { Question } from "./question.js";
import { LiveSession } from "./session.js";

const sockets = [];
const waits = []; // { run, ms } of setTimeout

class FakeSocket {
  static OPEN = 1;

  constructor(url) {
    Object.assign(this, { url, readyState: 0, sent: [] });
    sockets.push(this);
  }

  open() {
    this.readyState = 1;
    this.onopen();
  }

  send(data) {
    this.sent.push(typeof data === "string" ? JSON.parse(data) : soundOf(data));
    log.push(this.sent.at(-1).type);
  }

  tell(message) {
    this.onmessage({ data: JSON.stringify(message) });
  }

  media(epoch, time, kind = 3) {
    const view = new DataView(new ArrayBuffer(24));
    view.setUint8(0, kind);
    view.setUint32(4, epoch, true);
    view.setBigUint64(8, BigInt(time), true);
    view.setUint32(16, 2, true);
    this.onmessage({ data: view.buffer });
  }

  close(code) {
    this.readyState = 3;
    this.closedWith = code;
  }

  drop(code = 1006) {
    this.readyState = 3;
    this.onclose({ code });
  }
}

function soundOf(buffer) {
  const view = new DataView(buffer);
  return { type: "sound", epoch: view.getUint32(4, true), bytes: buffer.byteLength };
}

Object.assign(globalThis, {
  WebSocket: FakeSocket,
  document: { hidden: false },
  setInterval: () => 0,
  setTimeout: (run, ms) => waits.push({ run, ms }),
});

let log;
let sound;
let errors;
let links;
let session;

function ready(socket, fields = {}) {
  socket.open();
  socket.tell({
    type: "ready",
    epoch: 0,
    at: 0,
    frame: 960,
    video: { codec: "jpeg" },
    avatar: "Ada",
    resume: { avatar: "Ada", phase: 3 },
    ...fields,
  });
}

beforeEach(() => {
  sockets.length = waits.length = 0;
  [log, errors, links] = [[], [], []];
  sound = {
    at: 0,
    pushed: [],
    state: { buffered: 0 },
    heard: () => sound.at,
    push: (position) => sound.pushed.push(position),
    cut: () => log.push("cut") && Promise.resolve(40),
  };
  const pictures = { dropped: 0, clear() {}, restart() {}, add() {} };
  const on = {
    link: (state, detail) => links.push([state, detail]),
    error: (error) => errors.push(error.code),
    ready() {},
    utterance() {},
    words() {},
    change() {},
  };
  session = new LiveSession("http://host/x/", sound, pictures, { token: "t", video: "jpeg" }, on);
  session.connect();
});

test("the first message is start, and nothing else is sent before ready", () => {
  const [socket] = sockets;
  session.speak("early");
  socket.open();
  assert.deepEqual(
    socket.sent.map(({ type }) => type),
    ["start"],
  );
  socket.readyState = 0;
  ready(socket);
  assert.deepEqual(socket.sent.map(({ type }) => type).slice(1), ["start", "speak"]);
  assert.equal(socket.sent.at(-1).text, "early");
});

test("an interrupt cuts here first, and nothing of the old epoch is played after it", () => {
  const [socket] = sockets;
  ready(socket);
  socket.media(0, 0);
  session.speak("hello");
  log.length = 0;
  sound.at = 480;
  session.interrupt();
  assert.deepEqual(log, ["cut", "interrupt"]);
  assert.deepEqual(socket.sent.at(-1).heard, { epoch: 0, samples: 480 });
  socket.media(0, 960);
  session.interrupt();
  socket.tell({ type: "interrupted", epoch: 1, at: 1920 });
  socket.media(1, 1920);
  socket.tell({ type: "interrupted", epoch: 2, at: 1920 });
  socket.media(1, 1920);
  socket.media(2, 1920);
  assert.deepEqual(sound.pushed, [0, 1920]);
});

test("200 interrupts at random moments: only the newest epoch is played", () => {
  const [socket] = sockets;
  ready(socket);
  let state = 16;
  const random = (n) => (state = (state * 48271) % 2147483647) % n;
  let [serverEpoch, time, asked] = [0, 0, 0];
  for (let i = 0; i < 5000; i++) {
    if (random(25) === 0 && asked < 200) {
      session.interrupt();
      asked += 1;
    }
    const told = socket.sent.filter(({ type }) => type === "interrupt").length;
    if (told > serverEpoch && random(4) === 0) {
      serverEpoch += 1;
      socket.tell({ type: "interrupted", epoch: serverEpoch, at: time });
    }
    const before = sound.pushed.length;
    socket.media(serverEpoch, (time += 960));
    assert.equal(sound.pushed.length > before, told === serverEpoch, `step ${i}`);
  }
  assert.ok(asked > 150);
});

test("an interrupt of the server cuts too", () => {
  const [socket] = sockets;
  ready(socket);
  log.length = 0;
  socket.tell({ type: "interrupted", epoch: 1, at: 960 });
  assert.deepEqual(log, ["cut"]);
  socket.media(0, 960);
  socket.media(1, 960);
  assert.deepEqual(sound.pushed, [960]);
});

test("sound of the microphone waits for the epoch in which it is spoken", () => {
  const [socket] = sockets;
  ready(socket);
  session.speak("hello");
  session.openSound();
  session.sendSound(new Int16Array(480));
  session.sendSound(new Int16Array(480));
  session.closeSound();
  session.sendSound(new Int16Array(480)); // the microphone's last chunk comes after its end
  assert.equal(socket.sent.at(-1).type, "interrupt");
  socket.tell({ type: "interrupted", epoch: 1, at: 960 });
  const after = socket.sent.slice(-3);
  assert.deepEqual(
    after.map(({ type }) => type),
    ["sound", "sound", "speak_end"],
  );
  assert.deepEqual([after[0].epoch, after[1].epoch], [1, 1]);
});

test("after a lost link the rest of the text is spoken, in the same session", () => {
  ready(sockets[0]);
  session.speak("one two three four");
  const words = ["one", "two", "three", "four"].map((text, i) => ({
    text,
    start: 960 * i,
    end: 960 * i + 900,
  }));
  const { utterance } = sockets[0].sent.at(-1);
  sockets[0].tell({ type: "speaking_started", epoch: 0, utterance, at: 0 });
  sockets[0].tell({ type: "words", epoch: 0, utterance, words });
  sound.at = 2000;
  session.report(true);
  sockets[0].drop();
  waits.at(-1).run();
  sockets[1].open();
  const [start] = sockets[1].sent;
  assert.deepEqual([start.avatar, start.resume.phase, start.heard], ["Ada", 3, 2000]);
  sockets[1].readyState = 0;
  ready(sockets[1], { epoch: 1, at: 4800 });
  assert.equal(sockets[1].sent.at(-1).text, "three four");
});

test("after a lost link sound is sent again in packets that the server takes", () => {
  ready(sockets[0]);
  session.openSound();
  for (let i = 0; i < 400; i++) session.sendSound(new Int16Array(480));
  sockets[0].tell({ type: "speaking_started", epoch: 0, utterance: "s", at: 0 });
  sound.at = 24000;
  session.report(true);
  sockets[0].drop();
  for (let i = 0; i < 10; i++) session.sendSound(new Int16Array(480)); // while there is no link
  waits.at(-1).run();
  ready(sockets[1], { epoch: 1 });
  const packets = sockets[1].sent.filter(({ type }) => type === "sound");
  const samples = packets.reduce((sum, { bytes }) => sum + (bytes - 20) / 2, 0);
  assert.equal(samples, 410 * 480 - 24000);
  assert.ok(packets.every(({ bytes, epoch }) => bytes < 100000 && epoch === 1));
});

test("attempts to connect come at 0.5, 1, 2, 4, 8, 8 s, and begin anew after ready", () => {
  for (let i = 0; i < 6; i++) {
    sockets.at(-1).drop();
    waits.at(-1).run();
  }
  assert.deepEqual(
    waits.map(({ ms }) => ms),
    [500, 1000, 2000, 4000, 8000, 8000],
  );
  ready(sockets.at(-1));
  sockets.at(-1).drop();
  assert.equal(waits.at(-1).ms, 500);
});

test("a fatal error ends it, a full house does not", () => {
  sockets[0].open();
  sockets[0].tell({ type: "error", code: "full", what: "full", fatal: true, about: "start" });
  sockets[0].drop(4429);
  assert.equal(links.at(-1)[0], "lost");
  waits.at(-1).run();
  sockets[1].open();
  sockets[1].tell({ type: "error", code: "wrong_token", what: "no", fatal: true, about: "start" });
  sockets[1].drop(4401);
  assert.equal(links.at(-1)[0], "closed");
  assert.equal(waits.length, 1);
  assert.deepEqual(errors, ["full", "wrong_token"]);
});

test("a link that stands still for 5 s counts as lost", () => {
  ready(sockets[0]);
  session.lastMessage = performance.now() - 6000;
  session.watch();
  assert.deepEqual(links.at(-1), ["lost", 0.5]);
  assert.equal(sockets[0].closedWith, 1000);
});

test("a refused text leaves the session free", () => {
  ready(sockets[0]);
  session.speak("?");
  sockets[0].tell({
    type: "error",
    code: "text_rejected",
    what: "no",
    fatal: false,
    about: "speak",
  });
  assert.equal(session.busy, false);
});

test("a paused session gives its place back, and wakes in the same session", () => {
  ready(sockets[0]);
  session.speak("hello");
  session.pause();
  assert.equal(sockets[0].closedWith, undefined);
  session.interrupt();
  session.pause();
  assert.deepEqual([sockets[0].closedWith, links.at(-1)[0]], [1000, "paused"]);
  session.wake();
  sockets[1].open();
  assert.equal(sockets[1].sent[0].resume.phase, 3);
  session.wake();
  assert.equal(sockets.length, 2);
});

test("a mood that is chosen without a link is sent with the next one", () => {
  ready(sockets[0]);
  sockets[0].drop();
  session.express({ mood: "happy" });
  session.express({ values: { smile: 1 } });
  waits.at(-1).run();
  ready(sockets[1]);
  const faces = sockets[1].sent.filter(({ type }) => type === "expression");
  assert.deepEqual(faces, [{ type: "expression", mood: "happy", values: { smile: 1 } }]);
});

test("first sound and first frame count from the first audible sample", () => {
  const question = new Question();
  question.answered(0, Float32Array.of(0, 0.001, 0.005));
  question.heard(3);
  assert.deepEqual([question.soundAt, question.firstSound], [null, null]);
  question.answered(960, Float32Array.of(0, 0.02));
  question.answered(1920, Float32Array.of(1));
  assert.equal(question.soundAt, 961);
  question.seen(0, 960);
  question.heard(960);
  assert.deepEqual([question.firstSound, question.firstFrame], [null, null]);
  question.heard(961);
  question.seen(960, 960);
  const { firstSound, firstFrame } = question;
  assert.ok(firstSound >= 0 && firstFrame >= firstSound);
  question.heard(5000);
  assert.equal(question.firstSound, firstSound);
});
