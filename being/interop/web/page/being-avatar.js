// <being-avatar src="avatar/">: an avatar that the browser renders, and that speaks by itself.
//
// Attributes: `src`, the folder of the bundle; `background`: "filmed" (default) or anything else for
// true transparency, so that what lies behind the element shows; `resolution`: side of the picture
// in px (default: that of the element on this screen).
// Methods: speak, push, end, interrupt, setExpression, pushCoefficients. Events: "ready", "failed"
// (detail: an Error), "speechstart", "speechend" (detail.interrupted).

import { loadBundle } from "./bundle.js";
import { CoefficientNet } from "./coefficients.js";
import { Expression, PoseLoop } from "./motion.js";
import { MouthStream, VoiceToMouth } from "./mouth.js";
import { Plates } from "./plates.js";
import { Playback, started } from "./playback.js";
import { Renderer } from "./renderer.js";
import { Resampler } from "./resampler.js";
import { Utterance } from "./utterance.js";

const FPS = 25;
const SPEECH_RATE = 16000; // samples/s of the speech encoder
const FRAME_SAMPLES = SPEECH_RATE / FPS;
const CODES_AHEAD = 5; // frames that are known before a file's sound starts
const SLICE_MS = 8; // of computing, then the page may draw
const SIDES = [64, 2048]; // px

const STYLE = `
:host { display: inline-block; position: relative; width: 512px; aspect-ratio: 1; }
canvas { display: block; width: 100%; height: 100%; }
.badge { position: absolute; right: 3%; bottom: 3%; padding: 0.1em 0.5em; border-radius: 0.4em;
  font: 600 0.8rem/1.4 system-ui, sans-serif; color: #fff; background: rgb(0 0 0 / 0.6); }
.failure { position: absolute; inset: 0; margin: auto; height: max-content; padding: 1em;
  font: 1rem/1.4 system-ui, sans-serif; text-align: center; color: #fff; background: #7a1f1f; }
[hidden] { display: none; }
`;

const seconds = () => performance.now() / 1000;
const yielded = () => new Promise((resolve) => setTimeout(resolve));

export class BeingAvatar extends HTMLElement {
  static observedAttributes = ["src"];

  constructor() {
    super();
    this.attachShadow({ mode: "open" }).innerHTML =
      `<style>${STYLE}</style><canvas part="picture" role="img"></canvas>` +
      `<span class="badge" part="badge">AI</span><p class="failure" role="alert" hidden></p>`;
    this.canvas = this.shadowRoot.querySelector("canvas");
    this.utterance = null;
    this.listening = null; // the stream of pushed sound
    this.figures = { frames: 0, compute: 0, encode: 0, encoded: 0 };
  }

  connectedCallback() {
    this.load();
  }

  disconnectedCallback() {
    this.unload();
  }

  attributeChangedCallback() {
    if (this.isConnected) this.load();
  }

  /** Resolves when the avatar is on the screen; rejects with what is wrong. */
  get ready() {
    return this.loading ?? Promise.reject(new Error("the element has no src, or is not in a page"));
  }

  load() {
    this.unload();
    const src = this.getAttribute("src");
    if (!src) return;
    const turn = (this.turn = Symbol(src));
    this.loading = this.open(src, turn).catch((error) => {
      if (this.turn === turn) this.fail(error);
      throw error;
    });
    this.loading.catch(() => {}); // "failed" tells it
  }

  async open(src, turn) {
    const bundle = await loadBundle(src);
    if (this.turn !== turn) return;
    const { manifest } = bundle;
    this.bundle = bundle;
    this.renderer = new Renderer(this.canvas, bundle.scene);
    if (bundle.background) this.renderer.setBackground(bundle.background);
    this.net = new CoefficientNet(bundle.net);
    this.voice = bundle.voice && new VoiceToMouth(bundle.voice, manifest.speech);
    this.poses = new PoseLoop(manifest.poses);
    this.expression = new Expression(manifest.expression, bundle.expression);
    this.plates = new Plates(manifest.plates, bundle.plates, bundle.picture);
    this.code = Float64Array.from(bundle.restCode);
    const { name } = manifest;
    const { note } = manifest.mark.consent;
    this.canvas.setAttribute("aria-label", `${name}, an AI-generated talking head`);
    this.shadowRoot.querySelector(".badge").title = `AI-generated. ${note}`;
    this.renderer.setPlate(await this.plates.get(0));
    if (this.turn !== turn) return;
    this.shownPose = 0;
    this.shown = -1;
    this.clock = seconds();
    this.tick(turn);
    this.dispatchEvent(new CustomEvent("ready"));
  }

  fail(error) {
    const place = this.shadowRoot.querySelector(".failure");
    place.textContent = error.message;
    place.hidden = false;
    this.dispatchEvent(new CustomEvent("failed", { detail: error }));
  }

  unload() {
    this.turn = null;
    this.loading = null;
    this.interrupt();
    cancelAnimationFrame(this.request);
    this.shadowRoot.querySelector(".failure").hidden = true;
    this.renderer?.close();
    if (this.renderer) {
      // A lost context cannot be used again.
      const fresh = this.canvas.cloneNode();
      this.canvas.replaceWith(fresh);
      this.canvas = fresh;
    }
    this.renderer = this.bundle = null;
    this.context?.close();
    this.context = null;
  }

  /** Draw the frame of now, if it is another than the last, with every refresh of the screen. */
  tick(turn) {
    if (this.turn !== turn) return;
    this.request = requestAnimationFrame(() => this.tick(turn));
    const now = seconds();
    const number = Math.floor((now - this.clock) * FPS);
    const spoken = this.utterance?.frame(now) ?? null;
    if (this.utterance?.finished(now)) this.finish(false);
    const moved = number !== this.shown;
    if (!moved && (!spoken || spoken.number === this.spokenNumber)) return;
    this.spokenNumber = spoken?.number ?? -1;
    if (moved) this.advance();
    this.shown = number;
    this.show(spoken?.values ?? null);
  }

  /** Go on to the next pose, as soon as its plate is there. */
  advance() {
    this.expression.advance();
    const { pose, towards } = this.poses.next;
    const plate = this.plates.take(pose, towards);
    if (!plate) return;
    this.poses.advance();
    if (pose !== this.shownPose) this.renderer.setPlate(plate);
    this.shownPose = pose;
  }

  /** Draw a frame. spoken: a mouth code, { coefficients }, or null for the resting mouth. */
  show(spoken) {
    if (this.renderer.lost) return;
    const begin = performance.now();
    const camera = this.bundle.cameras.subarray(16 * this.shownPose, 16 * this.shownPose + 16);
    let coefficients = spoken?.coefficients;
    if (!coefficients) {
      if (spoken) this.code = spoken;
      else if (this.voice) this.code = this.rest();
      const expression = this.expression.at(this.shownPose);
      coefficients = this.net.compute(this.code, expression, camera);
    }
    this.renderer.place(coefficients, camera);
    this.figures.compute += performance.now() - begin;
    this.figures.frames += 1;
    this.fit();
    this.renderer.draw(this.transparent);
  }

  /** The next mouth code on the way back to rest. */
  rest() {
    const code = Float64Array.from(this.bundle.restCode);
    this.voice.limit(code, this.code);
    return code;
  }

  /** Give the canvas as many px as it has on the screen, or as `resolution` says. */
  fit() {
    const wanted = Number(this.getAttribute("resolution"));
    const natural = this.canvas.clientWidth * (globalThis.devicePixelRatio || 1);
    const side = Math.round(wanted || natural || this.bundle.manifest.size);
    const fitting = Math.min(Math.max(side, SIDES[0]), SIDES[1]);
    if (this.canvas.width === fitting && this.canvas.height === fitting) return;
    this.canvas.width = this.canvas.height = fitting;
  }

  /** Whether the background as filmed is left out. */
  get transparent() {
    return (this.getAttribute("background") ?? "filmed") !== "filmed";
  }

  /** Whether this avatar makes mouth movements of sound by itself. */
  get speaks() {
    return Boolean(this.voice);
  }

  /**
   * Say a recording: a URL, a Blob, an ArrayBuffer of a file, or an AudioBuffer. What is being said
   * ends. Resolves with true when it was heard to its end, with false when it was interrupted.
   */
  async speak(audio) {
    await this.ready;
    this.requireVoice();
    const utterance = await this.begin();
    try {
      const { samples, rate, heard } = await this.decoded(audio);
      if (this.utterance !== utterance) return false;
      utterance.playback.push(samples, rate);
      const stream = this.openStream();
      for (let at = 0, slice = performance.now(); at < heard.length; at += FRAME_SAMPLES) {
        utterance.add(this.encode(stream, heard.subarray(at, at + FRAME_SAMPLES)));
        if (performance.now() - slice < SLICE_MS) continue;
        if (utterance.frames.length >= CODES_AHEAD) this.sound(utterance);
        await yielded();
        if (this.utterance !== utterance) return false;
        slice = performance.now();
      }
      utterance.add(stream.finish());
    } catch (error) {
      if (this.utterance === utterance) this.interrupt();
      throw error;
    }
    utterance.complete = true;
    this.sound(utterance);
    return utterance.ended;
  }

  /**
   * Say sound as it comes: samples (Float32Array, mono, in [-1, 1]) of `rate` samples/s. It plays
   * when its mouth is known, 0.25 s of sound later. `end()` says that nothing follows.
   */
  async push(samples, rate = SPEECH_RATE) {
    await this.ready;
    this.requireVoice();
    if (!this.listening) {
      const opened = this.begin();
      this.listening = { opened, stream: this.openStream(), resampler: new Resampler(rate, SPEECH_RATE), rate };
    }
    const { listening } = this;
    if (rate !== listening.rate) throw new RangeError(`the rate changed from ${listening.rate} to ${rate}`);
    const utterance = await listening.opened;
    if (this.utterance !== utterance) return;
    utterance.playback.push(Float32Array.from(samples), rate);
    utterance.add(this.encode(listening.stream, listening.resampler.push(Float32Array.from(samples))));
    if (utterance.frames.length) this.sound(utterance);
  }

  /** No sound follows what was pushed. Resolves as `speak`. */
  async end() {
    const { listening } = this;
    if (!listening) return true;
    const utterance = await listening.opened;
    if (this.listening !== listening) return false;
    this.listening = null;
    utterance.add(listening.stream.finish());
    utterance.complete = true;
    this.sound(utterance);
    return utterance.ended;
  }

  /**
   * Show frames that a server computed: coefficients (Float32Array [n K]) of the next n frames, at 25
   * frames/s. samples, rate: their sound, if it comes with them. last: none follow.
   */
  async pushCoefficients(coefficients, { samples = null, rate = SPEECH_RATE, last = false } = {}) {
    await this.ready;
    const count = this.bundle.manifest.bases;
    if (coefficients.length % count) {
      throw new RangeError(`${coefficients.length} numbers are no frames of ${count} coefficients`);
    }
    if (!this.remote) this.remote = this.begin(samples !== null);
    const { remote } = this;
    const utterance = await remote;
    if (this.utterance !== utterance) return;
    const frames = [];
    for (let at = 0; at < coefficients.length; at += count) {
      frames.push({ coefficients: Float32Array.from(coefficients.subarray(at, at + count)) });
    }
    utterance.add(frames);
    if (samples) utterance.playback?.push(Float32Array.from(samples), rate);
    this.sound(utterance);
    if (last) {
      utterance.complete = true;
      this.remote = null;
    }
  }

  /** Silence at once; the mouth goes back to rest. */
  interrupt() {
    if (this.utterance) this.finish(true);
  }

  /** Show expressions, { name: value }: 1 is the strongest of the clip. {} goes back to the usual. */
  setExpression(wanted) {
    if (!this.expression) throw new Error("the avatar is not loaded yet");
    this.expression.set(wanted);
  }

  requireVoice() {
    if (this.voice) return;
    throw new Error(
      "this avatar cannot make mouth movements of sound by itself: it was trained without the live " +
        "speech encoder. Drive it by pushCoefficients",
    );
  }

  openStream() {
    return new MouthStream(this.bundle.conformer, this.voice, { code: this.code });
  }

  encode(stream, samples) {
    const begin = performance.now();
    const codes = stream.push(samples);
    this.figures.encode += performance.now() - begin;
    this.figures.encoded += samples.length / FRAME_SAMPLES;
    return codes;
  }

  /** A new utterance takes the place of what is being said. */
  async begin(withSound = true) {
    this.interrupt();
    const utterance = new Utterance(null);
    this.utterance = utterance;
    if (withSound) {
      this.context ??= new AudioContext({ latencyHint: "interactive" });
      utterance.playback = new Playback(this.context);
      try {
        await started(this.context);
      } catch (error) {
        if (this.utterance === utterance) this.finish(true);
        throw error;
      }
    }
    return utterance;
  }

  /** Let an utterance be heard. */
  sound(utterance) {
    if (this.utterance !== utterance || utterance.told) return;
    utterance.told = true;
    utterance.playback?.begin();
    this.dispatchEvent(new CustomEvent("speechstart"));
  }

  finish(interrupted) {
    const { utterance } = this;
    this.utterance = this.listening = this.remote = null;
    if (interrupted) utterance.playback?.stop();
    utterance.settle(!interrupted);
    if (utterance.told) this.dispatchEvent(new CustomEvent("speechend", { detail: { interrupted } }));
  }

  /** A recording as { samples, rate } to play and `heard`, the same at the encoder's rate. */
  async decoded(audio) {
    let source = audio;
    if (typeof source === "string" || source instanceof URL) {
      const answer = await fetch(source);
      if (!answer.ok) throw new Error(`${source} cannot be loaded (${answer.status})`);
      source = await answer.arrayBuffer();
    }
    if (source instanceof Blob) source = await source.arrayBuffer();
    if (source instanceof ArrayBuffer) source = await this.context.decodeAudioData(source.slice(0));
    if (!(source instanceof AudioBuffer)) {
      throw new TypeError("speak takes a URL, a Blob, an ArrayBuffer or an AudioBuffer");
    }
    const samples = new Float32Array(source.length);
    for (let c = 0; c < source.numberOfChannels; c++) {
      const channel = source.getChannelData(c);
      for (let i = 0; i < channel.length; i++) samples[i] += channel[i] / source.numberOfChannels;
    }
    const rate = source.sampleRate;
    if (rate === SPEECH_RATE) return { samples, rate, heard: samples };
    const length = Math.ceil((samples.length * SPEECH_RATE) / rate);
    const offline = new OfflineAudioContext(1, Math.max(1, length), SPEECH_RATE);
    const node = offline.createBufferSource();
    node.buffer = offline.createBuffer(1, Math.max(1, samples.length), rate);
    node.buffer.copyToChannel(samples, 0);
    node.connect(offline.destination);
    node.start();
    return { samples, rate, heard: (await offline.startRendering()).getChannelData(0) };
  }
}

customElements.define("being-avatar", BeingAvatar);
