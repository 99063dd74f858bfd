// Watches the live page from outside: what reaches the sound card, and which pictures are drawn.
// Runs before the page's own scripts. All times are ms of the page's clock.

window.probe = { frames: [], clicks: [], interrupts: [], sounds: [], context: null, opened: null };

// When the page asks for its session.
const Socket = WebSocket;
window.WebSocket = class extends Socket {
  constructor(...address) {
    super(...address);
    probe.opened ??= performance.now();
  }
};

// Sound: everything that is connected to the sound card also goes to an analyser.
const connect = AudioNode.prototype.connect;
AudioNode.prototype.connect = function (target, ...rest) {
  if (target instanceof AudioDestinationNode && this.context.sampleRate === 24000) {
    probe.context ??= this.context;
    probe.analyser ??= Object.assign(this.context.createAnalyser(), { fftSize: 8192 });
    connect.call(this, probe.analyser);
  }
  return connect.call(this, target, ...rest);
};

// Notes when clicks are audible, and until when there is any sound.
const samples = new Float32Array(8192);
let seen = 0; // time of the context up to which samples were looked at
setInterval(() => {
  if (!probe.analyser) return;
  const { currentTime, sampleRate } = probe.context;
  const { contextTime, performanceTime } = probe.context.getOutputTimestamp();
  const audible = (time) => performanceTime + (time - contextTime) * 1000;
  probe.analyser.getFloatTimeDomainData(samples);
  const count = Math.min(samples.length, Math.round((currentTime - seen) * sampleRate));
  let loud = null;
  for (let i = samples.length - count; i < samples.length; i++) {
    const level = Math.abs(samples[i]);
    if (level < 1e-4) continue;
    loud = audible(currentTime - (samples.length - i) / sampleRate);
    const last = probe.clicks[probe.clicks.length - 1] ?? 0;
    if (level > 0.5 && loud - last > 200) probe.clicks.push(loud);
  }
  if (loud) probe.sounds.push(loud);
  seen = currentTime;
}, 50);

// Pictures: when each is drawn, how bright its mouth is, and the blue of its middle.
const small = document.createElement("canvas");
small.width = small.height = 24;
const pen = small.getContext("2d", { willReadFrequently: true });
const drawImage = CanvasRenderingContext2D.prototype.drawImage;
CanvasRenderingContext2D.prototype.drawImage = function (image, ...place) {
  drawImage.call(this, image, ...place);
  if (this.canvas.id !== "canvas") return;
  drawImage.call(pen, image, 0, 0, 24, 24);
  const { data } = pen.getImageData(9, 12, 6, 5);
  let mouth = 0;
  for (let i = 1; i < data.length; i += 4) mouth += data[i];
  const blue = pen.getImageData(12, 9, 1, 1).data[2];
  probe.frames.push([document.timeline.currentTime, mouth / (data.length / 4), blue]);
};

// Decisions to interrupt.
document.addEventListener(
  "click",
  ({ target }) => target.closest("#interrupt") && probe.interrupts.push(performance.now()),
  true,
);
