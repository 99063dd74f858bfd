// What was given to the avatar to say and is not heard yet. It is sent again after a lost link.

const RATE = 24000; // samples/s of the time line and of the sound kept here
const SEARCH = 10; // words of the text among which the next spoken one is looked for

/** A text, and how far it was spoken. */
export class SpokenText {
  constructor(text) {
    this.text = text;
    this.tokens = [...text.matchAll(/\S+/g)]; // what stands between spaces
    this.parts = this.tokens.flatMap((token, place) =>
      wordsOf(token[0]).map((word) => ({ word, place })),
    );
    this.next = 0; // the part that is expected next
    this.starts = []; // of the words that were found: { start, place }
  }

  /**
   * Words that are spoken, as the server announces them, in order. Returns them with `place`, the
   * number of their token, where they are found in the text. A number is not: it is spoken
   * otherwise than written.
   */
  add(words) {
    return words.map((word) => {
      const spoken = wordsOf(word.text);
      const near = this.parts.slice(this.next, this.next + SEARCH);
      const found = near.findIndex((part) => part.word === spoken[0]);
      if (found < 0) return word;
      const { place } = near[found];
      this.next += found + spoken.length;
      this.starts.push({ start: word.start, place });
      return { ...word, place };
    });
  }

  /** The text from the word on that was being spoken at `heard`. */
  rest(heard) {
    const said = this.starts.filter(({ start }) => start < heard);
    return said.length
      ? this.text.slice(this.tokens[said[said.length - 1].place].index)
      : this.text;
  }
}

function wordsOf(text) {
  return text
    .toLowerCase()
    .split(/[^\p{L}\p{N}'’]+/u)
    .filter(Boolean);
}

/** Sound that was sent, by its distance from the beginning of the utterance. */
export class SpokenSound {
  /** most: samples to keep; older ones are forgotten. */
  constructor(most = 10 * RATE) {
    this.most = most;
    this.chunks = []; // Int16Array
    this.from = 0; // distance of the first sample that is kept
    this.kept = 0;
  }

  /** Samples (Int16Array) that were sent. */
  add(pcm) {
    this.chunks.push(pcm);
    this.kept += pcm.length;
    this.forget(this.from + this.kept - this.most);
  }

  /** Forget the chunks that end before this distance. */
  forget(distance) {
    while (this.chunks.length && this.from + this.chunks[0].length <= distance) {
      this.from += this.chunks[0].length;
      this.kept -= this.chunks.shift().length;
    }
  }

  /** Everything from this distance on (Int16Array). */
  rest(distance) {
    const all = new Int16Array(this.kept);
    let place = 0;
    for (const chunk of this.chunks) {
      all.set(chunk, place);
      place += chunk.length;
    }
    return all.slice(Math.max(0, distance - this.from));
  }
}

/** The one utterance that the avatar says or will say, or none. */
export class Outbox {
  constructor() {
    this.clear();
  }

  /** Everything was heard, or shall not be. */
  clear() {
    this.utterance = null; // its name
    this.text = null;
    this.sound = null;
    this.startedAt = null; // on the time line
    this.endsAt = null;
    this.finished = false; // nothing will be added to it
  }

  /** A text is sent. */
  beginText(utterance, text) {
    this.clear();
    this.utterance = utterance;
    this.text = new SpokenText(text);
    this.finished = true;
  }

  /** Sound will be sent. Its utterance is named by the server. */
  beginSound() {
    this.clear();
    this.sound = new SpokenSound();
  }

  get empty() {
    return !this.text && !this.sound;
  }

  /** Messages of the server about the utterance. */
  started({ utterance, at }) {
    this.utterance ??= utterance;
    if (utterance === this.utterance) this.startedAt ??= at;
  }

  /** Returns the words with their places in the text. */
  words({ utterance, words }) {
    return utterance === this.utterance && this.text ? this.text.add(words) : words;
  }

  ended({ utterance, at }) {
    if (utterance === this.utterance) this.endsAt = at;
  }

  /** The clock moved on. Returns true when the whole utterance has just been heard. */
  hear(heard) {
    if (this.sound && this.startedAt !== null) this.sound.forget(heard - this.startedAt);
    if (this.endsAt === null || heard < this.endsAt) return false;
    this.clear();
    return true;
  }

  /**
   * Make the utterance anew from what was not heard. Returns { text } or { pcm } to send, or null.
   * heard: the last position that was heard, or null.
   */
  again(heard, utterance) {
    if (this.text) {
      const text = this.text.rest(heard ?? 0);
      this.beginText(utterance, text);
      return { text };
    }
    if (!this.sound) return null;
    const distance = this.startedAt === null ? 0 : Math.max(0, (heard ?? 0) - this.startedAt);
    const pcm = this.sound.rest(distance);
    const { finished } = this;
    this.beginSound();
    this.finished = finished;
    this.sound.add(pcm);
    return { pcm };
  }
}
