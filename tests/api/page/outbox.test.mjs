// What is sent again after a lost link, and the lines of the captions.

import assert from "node:assert/strict";
import { test } from "node:test";
import { CaptionLines } from "./captions.js";
import { Outbox, SpokenSound } from "./outbox.js";

const words = (texts, start = 0) =>
  texts.map((text, i) => ({ text, start: start + 1000 * i, end: start + 1000 * i + 900 }));

test("a text goes on from the word that was being spoken", () => {
  const box = new Outbox();
  box.beginText("a", "Hello there. Hello again, my friend!");
  box.started({ utterance: "a", at: 0 });
  box.words({ utterance: "a", words: words(["hello", "there", "hello", "again"]) });
  assert.deepEqual(box.again(2500, "b"), { text: "Hello again, my friend!" });
  assert.equal(box.utterance, "b");
  assert.deepEqual(box.again(null, "c"), { text: "Hello again, my friend!" });
});

test("a number that is spoken otherwise than written does not lose the place", () => {
  const box = new Outbox();
  box.beginText("a", "In 1987 it began.");
  box.words({ utterance: "a", words: words(["in", "nineteen", "eighty", "seven", "it", "began"]) });
  assert.deepEqual(box.again(4500, "b"), { text: "it began." });
});

test("words are found at their places, also at one token twice and not inside others", () => {
  const box = new Outbox();
  box.beginText("a", "“Well-known,” she said: is it later than I think?");
  const found = box.words({
    utterance: "a",
    words: words(["well", "known", "she", "said", "is", "it", "later", "than", "I", "think"]),
  });
  assert.deepEqual(
    found.map(({ place }) => place),
    [0, 0, 1, 2, 3, 4, 5, 6, 7, 8],
  );
});

test("an utterance is over when its end is heard, not when it is sent", () => {
  const box = new Outbox();
  box.beginText("a", "Hi.");
  box.ended({ utterance: "other", at: 10 });
  box.ended({ utterance: "a", at: 5000 });
  assert.equal(box.hear(4999), false);
  assert.equal(box.empty, false);
  assert.equal(box.hear(5000), true);
  assert.equal(box.empty, true);
});

test("sound goes on from the sample that was heard", () => {
  const box = new Outbox();
  box.beginSound();
  const chunk = (from) => Int16Array.from({ length: 480 }, (_, i) => from + i);
  for (let i = 0; i < 10; i++) box.sound.add(chunk(480 * i));
  box.started({ utterance: "s", at: 96000 });
  box.hear(96000 + 1000);
  assert.equal(box.sound.from, 960);
  const { pcm } = box.again(96000 + 1000, "t");
  assert.deepEqual([pcm[0], pcm.length], [1000, 4800 - 1000]);
  assert.equal(box.again(null, "u").pcm.length, 3800);
});

test("kept sound is bounded", () => {
  const sound = new SpokenSound(24000);
  for (let i = 0; i < 1000; i++) sound.add(new Int16Array(480));
  assert.ok(sound.kept <= 24000 + 480);
  assert.equal(sound.from + sound.kept, 480000);
});

const TEXT =
  "Hello there. This is a much longer sentence, which goes on for a while and then ends.";
const placed = (count, from = 0) =>
  words(TEXT.split(" ").slice(from, from + count), 1000 * from).map((word, i) => ({
    ...word,
    place: from + i,
  }));

test("captions show the line that is spoken, with what comes next", () => {
  const lines = new CaptionLines();
  lines.begin(TEXT);
  assert.equal(lines.at(1e9), null);
  lines.add(placed(1));
  assert.equal(lines.at(-1), null);
  assert.deepEqual(lines.at(0), { said: "Hello", coming: "there." });
  lines.add(placed(2, 1));
  assert.deepEqual(lines.at(1000), { said: "Hello there.", coming: "" });
  assert.deepEqual(lines.at(2000), { said: "This", coming: "is a much longer sentence," });
  lines.add(placed(1, 9)); // words without a place before it were spoken too
  assert.deepEqual(lines.at(9500).said, "which goes");
  assert.equal(lines.at(9900 + 1.6 * 24000), null);
});

test("captions without a known text grow word by word, in lines", () => {
  const lines = new CaptionLines();
  lines.begin("");
  lines.add(words(["one", "two", "three"]));
  assert.deepEqual(lines.at(1500), { said: "one two", coming: "three" });
  lines.add(words(Array(40).fill("again"), 3000));
  assert.ok(lines.at(30000).said.length < 60);
});

test("each line is told once, when it begins", () => {
  const lines = new CaptionLines();
  lines.begin("One. Two. Three.");
  lines.add(words(["One", "Two", "Three"]).map((word, place) => ({ ...word, place })));
  assert.deepEqual(lines.fresh(0), ["One."]);
  assert.deepEqual(lines.fresh(1500), ["Two."]);
  assert.deepEqual(lines.fresh(1600), []);
});
