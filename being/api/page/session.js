// One live session: the socket, its epochs, and what must be sent again when the link was lost.

import { H264Decoder, JpegDecoder } from "./decoders.js";
import { Outbox } from "./outbox.js";
import { askForPlace } from "./placement.js";
import {
  packetFrames,
  packetSamples,
  packPcm,
  parsePacket,
  PROTOCOL,
  RATE,
  sessionAddress,
} from "./protocol.js";
import { Question } from "./question.js";

// Waits before the next attempts to connect, s.
const WAITS = [0.5, 1, 2, 4, 8];
const HEARD_EVERY = 200; // ms between reports of the position
const STANDS_STILL = 5000; // ms without a message after which the link counts as lost
const RESUME_EVERY = 5000; // ms between questions for the newest `resume`
const MOST_HELD = 500; // chunks of the microphone that wait for the link: 10 s
const MOST_FACTS = 100; // pictures that are being decoded; a decoder skips some
// Close code of a link that the page ends.
const NORMAL = 1000;

/**
 * A session and its link. The link is made again when it is lost.
 *
 * `on` holds the callbacks: link(state, wait), ready(message), error(message), utterance(text),
 * words(words), change(), talk(message) for messages of a conversation, cut() where the server or the
 * user has cut the avatar, notice(text), render(way) where the server or this page begins to draw,
 * frame(pose) for a frame that will be drawn here. Events of the server that have a place on the time line are
 * handled when that place is heard.
 */
export class LiveSession {
  /**
   * page: address of the page. sound: a Sound. pictures: a PictureQueue. options: { token, video,
   * matte, avatar } for `start`, and placed: the server has a place for a session only on request.
   */
  constructor(page, sound, pictures, options, on) {
    Object.assign(this, { page, sound, pictures, options, on });
    this.outbox = new Outbox();
    this.resume = options.resume ?? null; // the last such object of the server
    this.lastHeard = null; // the last position that was heard, in samples
    this.state = "idle"; // as it is heard
    this.attempts = 0;
    this.face = null; // a change of the face that was not sent
    this.reported = 0; // when the position was told last, ms
    this.count = 0; // utterances
    this.asked = null; // the newest Question
    this.reset();
    setInterval(() => this.watch(), 1000);
    setInterval(() => this.send({ type: "stats" }), RESUME_EVERY);
  }

  /** Forget what belongs to one link. */
  reset() {
    this.ready = null;
    this.render = "server"; // who draws: the server, or this page ("client")
    this.epoch = 0;
    this.unanswered = 0; // interrupts without their `interrupted`
    this.acceptFrom = 0; // pictures before it belong to an older epoch
    this.held = []; // sound that waits for the epoch in which it is spoken
    this.later = []; // messages that wait until their place is heard
    this.facts = new Map(); // of pictures that are being decoded, by time
    this.decoder?.close();
    this.decoder = null;
  }

  // The link

  /** Connect, and connect again until `close` or a fatal error. */
  connect() {
    clearTimeout(this.timer);
    this.over = this.paused = false;
    this.fatal = null;
    this.on.link("connecting");
    if (!this.options.placed) return this.open(sessionAddress(this.page, this.options.token));
    // Another attempt, or `leave`, makes the answer of this one worthless.
    const attempt = (this.attempt = {});
    const session = this.resume?.session ?? null;
    askForPlace(this.page, this.options.token, session).then(
      (address) => attempt === this.attempt && this.open(address),
      (refusal) => attempt === this.attempt && this.refused(refusal),
    );
  }

  /** There is no place: `refusal` is a message `error` of the server, or null where none came. */
  refused(refusal) {
    if (refusal) this.take_error(refusal);
    this.lost();
  }

  open(address) {
    const socket = new WebSocket(address);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => this.start();
    socket.onmessage = ({ data }) => {
      if (socket !== this.socket) return;
      this.lastMessage = performance.now();
      if (typeof data === "string") this.take(JSON.parse(data));
      else this.takePacket(data);
    };
    socket.onclose = ({ code }) => socket === this.socket && this.lost(code);
    this.socket = socket;
    this.lastMessage = performance.now();
  }

  /** Begin again with other options: another avatar, with a matte, without H.264. */
  restart(options) {
    if ("avatar" in options) {
      this.resume = null;
      this.options.background = undefined; // another avatar may not have it
    }
    Object.assign(this.options, options);
    this.leave();
    this.attempts = 0;
    this.connect();
  }

  /** Close the link for good. */
  close() {
    this.over = true;
    this.leave();
    this.on.link("closed");
  }

  /** Give the place on the server back until `wake`, where nobody speaks. */
  pause() {
    if (this.busy || !this.ready) return;
    this.paused = true;
    this.leave();
    this.on.link("paused");
  }

  /** Go on after `pause`. */
  wake() {
    if (this.paused) this.connect();
  }

  leave() {
    const { socket } = this;
    this.socket = this.attempt = null;
    socket?.close(NORMAL);
    this.reset();
  }

  start() {
    const { resume, lastHeard } = this;
    const { video, matte, background, mood } = this.options;
    const avatar = resume?.avatar ?? this.options.avatar;
    const message = { type: "start", protocol: PROTOCOL, video, matte };
    if (avatar) message.avatar = avatar;
    if (background) message.background = background;
    if (resume) message.resume = resume;
    else if (mood) message.mood = mood;
    if (resume && lastHeard !== null) message.heard = lastHeard;
    const transcript = this.on.transcript?.() ?? [];
    if (transcript.length) message.transcript = transcript;
    this.send(message, true);
  }

  lost(code) {
    const { fatal } = this;
    this.reset();
    if (this.over || (fatal && fatal.code !== "full")) return this.on.link("closed", code);
    const wait = WAITS[Math.min(this.attempts, WAITS.length - 1)];
    this.attempts += 1;
    this.timer = setTimeout(() => this.connect(), wait * 1000);
    this.on.link("lost", wait);
  }

  /** A link that was cut without a word never closes: the server sends pictures all the time. */
  watch() {
    if (document.hidden || !this.ready) this.lastMessage = performance.now();
    if (performance.now() - this.lastMessage < STANDS_STILL) return;
    this.leave();
    this.lost();
  }

  /** Send an object as JSON. Before `ready` only `start` is sent. Returns whether it was sent. */
  send(message, first = false) {
    const open = this.socket?.readyState === WebSocket.OPEN && (first || this.ready);
    if (open) this.socket.send(JSON.stringify(message));
    return Boolean(open);
  }

  /** Tell the server which position is heard, if that is due. It paces the server. */
  report(now = false) {
    if (!now && performance.now() - this.reported < HEARD_EVERY) return;
    const heard = this.hear();
    if (heard === null || this.unanswered) return;
    this.reported = performance.now();
    const { buffered } = this.sound.state;
    const { dropped } = this.pictures;
    this.send({ type: "heard", epoch: this.epoch, samples: heard, buffered, dropped });
  }

  // What the user asks for

  /** True from the request to speak until the last sound of it is heard. */
  get busy() {
    return !this.outbox.empty || this.state === "speaking";
  }

  /** Say the text. What is being said is cut. */
  speak(text) {
    if (this.busy) this.interrupt();
    this.asked = new Question();
    this.outbox.beginText(this.nextName(), text);
    this.sendText();
    this.on.change();
  }

  /** Ask the avatar, which answers. What is being said is cut. */
  ask(text) {
    if (this.busy) this.interrupt();
    this.asked = new Question();
    this.send({ type: "ask", text });
    this.on.change();
  }

  /** Sound of the microphone (Int16Array at RATE) that belongs to a conversation. */
  sendMicrophone(pcm) {
    if (this.ready) this.socket.send(packPcm(pcm, RATE, this.epoch));
  }

  /** Speak sound that follows in calls of `sendSound`. What is being said is cut. */
  openSound() {
    if (this.busy) this.interrupt();
    this.asked = new Question();
    this.outbox.beginSound();
    this.ended = false;
    this.on.change();
  }

  /** pcm: Int16Array at RATE. */
  sendSound(pcm) {
    if (!this.outbox.sound || this.outbox.finished) return; // a last chunk was on its way
    this.outbox.sound.add(pcm);
    this.held.push(pcm);
    if (this.held.length > MOST_HELD) this.held.shift();
    this.sendHeld();
  }

  /** Sound of an epoch that the server has left would be thrown away: it waits for the new one. */
  sendHeld() {
    if (!this.ready || this.unanswered) return;
    for (const pcm of this.held) this.socket.send(packPcm(pcm, RATE, this.epoch));
    this.held = [];
    if (this.outbox.sound && this.outbox.finished && !this.ended) {
      this.ended = this.send({ type: "speak_end" });
    }
  }

  /** No more sound follows. */
  closeSound() {
    if (!this.outbox.sound) return;
    this.outbox.finished = true;
    this.sendHeld();
  }

  /** Silence at once: first here, then on the server. Returns the promise of `Sound.cut`. */
  interrupt() {
    const samples = this.hear() ?? this.lastHeard ?? 0;
    const silence = this.cut();
    this.on.cut?.();
    if (this.send({ type: "interrupt", heard: { epoch: this.epoch, samples } })) {
      this.unanswered += 1;
      this.acceptFrom = Infinity;
    }
    this.outbox.clear();
    this.held = [];
    this.state = "idle";
    this.asked = null;
    this.on.change();
    return silence;
  }

  /** Change the face: { mood } or { values } as in the protocol. */
  express(change) {
    if (change.mood) this.options.mood = change.mood;
    // Without a link it waits for the next one.
    if (!this.send({ type: "expression", ...change })) this.face = { ...this.face, ...change };
  }

  nextName() {
    this.count += 1;
    return `page-${this.count}`;
  }

  sendText() {
    const { utterance, text } = this.outbox;
    const { voice } = this.options;
    this.send({ type: "speak", utterance, text: text.text, ...(voice && { voice }) });
  }

  cut() {
    this.pictures.clear();
    this.later = [];
    this.on.utterance("");
    return this.sound.cut();
  }

  // What the server says

  take(message) {
    if (message.resume) this.resume = message.resume;
    if ("at" in message && ["state", "speaking_started", "speaking_ended"].includes(message.type)) {
      if (message.epoch < this.epoch || this.unanswered) return;
      if (message.type === "speaking_started") this.started(message);
      if (message.type === "speaking_ended") this.outbox.ended(message);
      this.later.push(message);
    } else {
      this[`take_${message.type}`]?.(message);
    }
  }

  take_ready(message) {
    this.reset();
    this.attempts = 0;
    this.cut();
    this.pictures.restart();
    this.ready = message;
    this.epoch = message.epoch;
    this.acceptFrom = message.at;
    this.state = "idle";
    this.decoder = this.openDecoder(message.video);
    this.on.link("open");
    this.on.ready(message);
    if (this.face) this.express(this.face);
    this.face = null;
    this.sendAgain();
  }

  openDecoder({ codec, string }) {
    const show = (time, image) => this.show(time, image);
    if (codec === "jpeg") return new JpegDecoder(show);
    return new H264Decoder(string, show, () => this.decodingFailed());
  }

  /** One fault may be a damaged stream; after the second one JPEG is asked for. */
  decodingFailed() {
    this.faults = (this.faults ?? 0) + 1;
    this.restart(this.faults > 1 ? { video: "jpeg" } : {});
  }

  /** What was not heard when the link was lost is sent again. */
  sendAgain() {
    const rest = this.outbox.again(this.lastHeard, this.nextName());
    if (rest?.text?.trim()) this.sendText();
    else if (rest?.text !== undefined) this.outbox.clear();
    if (rest?.pcm) {
      this.ended = false;
      this.held = [];
      for (let i = 0; i < rest.pcm.length; i += RATE) this.held.push(rest.pcm.slice(i, i + RATE));
      this.sendHeld();
    }
    this.on.change();
  }

  take_interrupted(message) {
    if (this.unanswered) this.unanswered -= 1;
    else this.serverInterrupts();
    this.epoch = message.epoch;
    if (this.unanswered) return;
    this.acceptFrom = message.at;
    this.sendHeld();
  }

  serverInterrupts() {
    this.silence = this.cut();
    this.on.cut?.();
    this.outbox.clear();
    this.state = "idle";
    this.on.change();
  }

  started(message) {
    this.outbox.started(message);
    const own = message.utterance === this.outbox.utterance;
    this.on.utterance((own && this.outbox.text?.text) || "");
  }

  take_words(message) {
    if (message.epoch < this.epoch || this.unanswered) return;
    this.on.words(this.outbox.words(message));
  }

  take_render({ render }) {
    this.render = render;
    this.on.render?.(render);
    this.on.change();
  }

  /** Ask that the server renders, or that this page draws ("client"). */
  askRender(render) {
    this.send({ type: "render", render });
  }

  take_turn(message) {
    if (message.phase === "transcribing") this.asked = new Question();
    this.on.talk?.(message);
  }

  take_transcript(message) {
    this.on.talk?.(message);
  }

  take_hearing(message) {
    this.on.talk?.(message);
  }

  take_notice({ text }) {
    this.on.notice?.(text);
  }

  take_error(message) {
    if (message.fatal) this.fatal = message;
    // What was kept of the session is of no use to this server.
    if (message.code === "unknown_avatar") this.resume = this.options.avatar = null;
    const refused =
      message.about === "speak" && !this.outbox.empty && this.outbox.startedAt === null;
    if (refused) message.text = this.outbox.text?.text;
    if (refused || message.code === "voice_failed") this.outbox.clear();
    this.on.error(message);
    this.on.change();
  }

  takePacket(buffer) {
    const packet = parsePacket(buffer);
    if (!packet || !this.ready || this.unanswered || packet.epoch < this.epoch) return;
    if (packet.kind === "pcm") {
      const samples = packetSamples(packet);
      if (samples && packet.speech) this.asked?.answered(packet.time, samples);
      this.sound.push(packet.time, samples, packet.length);
    } else if (packet.kind === "coefficients") {
      this.takeFrames(packet);
    } else {
      const { matte, speech } = packet;
      this.facts.set(packet.time, { matte, speech });
      if (this.facts.size > MOST_FACTS) this.facts.delete(this.facts.keys().next().value);
      this.decoder?.decode(packet.time, packet.payload, packet.key);
    }
  }

  /** Frames that this page draws wait among the pictures. */
  takeFrames(packet) {
    const frames = packetFrames(packet) ?? [];
    frames.forEach((frame, k) => {
      const time = packet.time + k * (this.ready.frame ?? 0);
      if (time < this.acceptFrom) return;
      this.on.frame?.(frame.pose);
      const { speech } = packet;
      this.pictures.add(time, { ...frame, close() {} }, { drawn: true, speech });
    });
  }

  show(time, image) {
    const facts = this.facts.get(time);
    this.facts.delete(time);
    if (!facts || time < this.acceptFrom) image.close();
    else this.pictures.add(time, image, facts);
  }

  // What is heard and seen

  /** Let the clock move on: handle what is due. Returns the position that is heard, or null. */
  hear() {
    const heard = this.sound.heard();
    if (heard === null) return null;
    this.lastHeard = heard;
    while (this.later.length && this.later[0].at <= heard) this.due(this.later.shift());
    if (this.outbox.hear(heard)) this.on.change();
    this.asked?.heard(heard);
    return heard;
  }

  due({ type, state }) {
    if (type === "state") this.state = state;
    if (type === "speaking_started") this.state = "speaking";
    if (type === "speaking_ended" && this.state === "speaking") this.state = "idle";
    this.on.change();
  }

  /** A picture is on the screen. */
  seen({ time, speech }) {
    if (speech) this.asked?.seen(time, this.ready?.frame ?? 0);
  }
}
