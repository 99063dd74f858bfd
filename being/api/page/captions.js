// Captions: the words that are heard, in lines that fit on the picture.

const RATE = 24000;
const LINE = 56; // characters of a line, about
const SHORT = 18; // a line may end at a comma when it is longer
const STAY = 1.5 * RATE; // samples that a line stays after its last word

/** Lines of words, and when each word is heard on the session's time line. */
export class CaptionLines {
  constructor() {
    this.clear();
  }

  /** Forget all lines. */
  clear() {
    this.words = []; // { text, line, start, end }; no start: not announced yet
    this.lines = 0;
    this.length = 0; // characters of the last line
    this.told = -1; // the last line that screen readers were told
  }

  /** An utterance begins. text: all that will be said, or "" where nobody knows. */
  begin(text) {
    this.clear();
    for (const [word] of text.matchAll(/\S+/g)) this.append({ text: word });
  }

  /** Words that will be heard, in order. `place` is a word's number in the text of `begin`. */
  add(words) {
    for (const { text, start, end, place } of words) {
      const known = this.words[place];
      if (!known) this.append({ text, start, end });
      else if (known.start === undefined) Object.assign(known, { start, end });
      else known.end = end; // a second word of the same token
    }
  }

  append(word) {
    const last = this.words[this.words.length - 1];
    if (last && this.endsLine(last.text, word.text)) {
      this.lines += 1;
      this.length = 0;
    }
    this.length += word.text.length + 1;
    this.words.push({ ...word, line: this.lines });
  }

  endsLine(last, next) {
    if (this.length + next.length > LINE) return true;
    if (/[.!?…。！？]["'”’)]*$/u.test(last)) return true;
    return this.length > SHORT && /[,;:–—、，]["'”’)]*$/u.test(last);
  }

  /** What to show at a position: { said, coming } texts, or null. */
  at(position) {
    const current = this.words.findLastIndex(({ start }) => start <= position);
    if (current < 0 || position > this.words[current].end + STAY) return null;
    const { line } = this.words[current];
    const inLine = (word) => word.line === line;
    const said = this.words.slice(0, current + 1).filter(inLine);
    const coming = this.words.slice(current + 1).filter(inLine);
    return { said: joined(said), coming: joined(coming) };
  }

  /** The text of each line once, when it begins to be heard: for screen readers. */
  fresh(position) {
    const current = this.words.findLast(({ start }) => start <= position);
    const texts = [];
    while (current && this.told < current.line) {
      this.told += 1;
      texts.push(joined(this.words.filter(({ line }) => line === this.told)));
    }
    return texts;
  }
}

function joined(words) {
  return words.map((word) => word.text).join(" ");
}
