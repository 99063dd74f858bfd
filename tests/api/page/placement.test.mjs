// Places of sessions, with a scripted `fetch`: what is asked for, and what a refusal does.

import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { askForPlace, isPlaced } from "./placement.js";
import { LiveSession } from "./session.js";

const PAGE = "https://host/path/";
const sockets = [];
const waits = []; // { run, ms } of setTimeout
let asked;
let answers;

class FakeSocket {
  static OPEN = 1;

  constructor(url) {
    Object.assign(this, { url, readyState: 0, sent: [] });
    sockets.push(this);
  }

  send(data) {
    this.sent.push(JSON.parse(data));
  }

  close() {
    this.readyState = 3;
  }
}

Object.assign(globalThis, {
  WebSocket: FakeSocket,
  document: { hidden: false },
  setInterval: () => 0,
  setTimeout: (run, ms) => waits.push({ run, ms }),
  fetch: async (url, options = {}) => {
    asked.push({ url: url.href, method: options.method ?? "GET", body: options.body });
    const [status, body] = answers.shift();
    if (status === 0) throw new TypeError("no network");
    return { ok: status < 300, json: async () => body };
  },
});

const settle = () => new Promise((resolve) => setImmediate(resolve));

beforeEach(() => {
  asked = [];
  answers = [];
  sockets.length = waits.length = 0;
});

test("the server says whether it places sessions", async () => {
  answers = [[200, { placement: true }], [200, { protocol: 1 }], [404, null], [0]];
  assert.equal(await isPlaced(PAGE), true);
  assert.equal(await isPlaced(PAGE), false);
  assert.equal(await isPlaced(PAGE), false);
  assert.equal(await isPlaced(PAGE), false);
  assert.equal(asked[0].url, "https://host/path/info");
});

test("a place is asked for beside the page, with the token", async () => {
  answers = [[201, { url: "wss://replica:9/session?token=T" }]];
  assert.equal(await askForPlace(PAGE, "a b", null), "wss://replica:9/session?token=T");
  assert.deepEqual(asked[0], {
    url: "https://host/path/sessions?token=a+b",
    method: "POST",
    body: "{}",
  });
});

test("an address through the one port is relative to the page", async () => {
  answers = [[201, { url: "session?token=T" }]];
  assert.equal(await askForPlace(PAGE, "", "id"), "wss://host/path/session?token=T");
  assert.equal(asked[0].body, '{"session":"id"}');
});

test("a refusal is the server's error, and nothing where none came", async () => {
  const full = { type: "error", code: "full", fatal: true };
  answers = [[429, full], [502, "bad gateway"], [0]];
  await assert.rejects(askForPlace(PAGE, "", null), (error) => error === full);
  await assert.rejects(askForPlace(PAGE, "", null), (error) => error === null);
  await assert.rejects(askForPlace(PAGE, "", null), (error) => error === null);
});

function newSession(links) {
  const sound = { cut: () => null, heard: () => null, state: { buffered: 0 } };
  const pictures = { clear: () => null, restart: () => null };
  const options = { token: "", video: "jpeg", placed: true };
  return new LiveSession(PAGE, sound, pictures, options, {
    link: (state, wait) => links.push([state, wait]),
    error: () => null,
    change: () => null,
    utterance: () => null,
    ready: () => null,
  });
}

test("a session that lost its server asks for a place again with its id", async () => {
  const links = [];
  const session = newSession(links);
  answers = [
    [201, { url: "wss://one/session" }],
    [429, { type: "error", code: "full", fatal: true }],
    [201, { url: "wss://two/session" }],
  ];
  session.connect();
  await settle();
  const [first] = sockets;
  assert.equal(first.url, "wss://one/session");
  first.readyState = 1;
  first.onopen();
  const resume = { session: "id", avatar: "Ada" };
  const ready = { type: "ready", epoch: 0, at: 0, video: { codec: "jpeg" }, resume };
  first.onmessage({ data: JSON.stringify(ready) });
  first.onclose({ code: 1006 });
  waits.shift().run(); // all places are taken
  await settle();
  assert.deepEqual(links.at(-1), ["lost", 1]);
  waits.shift().run();
  await settle();
  assert.equal(sockets[1].url, "wss://two/session");
  assert.deepEqual(
    asked.map(({ body }) => body),
    ["{}", '{"session":"id"}', '{"session":"id"}'],
  );
  sockets[1].readyState = 1;
  sockets[1].onopen();
  assert.deepEqual(sockets[1].sent[0].resume, resume);
});

test("a wrong token ends the attempts, and so does leaving", async () => {
  const links = [];
  const session = newSession(links);
  answers = [
    [401, { type: "error", code: "wrong_token", fatal: true }],
    [201, { url: "wss://one/session" }],
  ];
  session.connect();
  await settle();
  assert.equal(links.at(-1)[0], "closed");
  assert.equal(waits.length, 0);
  session.connect();
  session.close();
  await settle();
  assert.equal(sockets.length, 0);
});
