// The microphone's samples, in pieces of 40 ms.

const PIECE = 0.04; // s

// The processor of the worklet. It is a module of its own only in name: one file less to copy.
const WORKLET = `
registerProcessor("being-microphone", class extends AudioWorkletProcessor {
  constructor() {
    super();
    this.piece = new Float32Array(Math.round(sampleRate * ${PIECE}));
    this.filled = 0;
  }
  process([[input]]) {
    for (const sample of input ?? []) {
      this.piece[this.filled++] = sample;
      if (this.filled < this.piece.length) continue;
      this.port.postMessage(this.piece.slice());
      this.filled = 0;
    }
    return true;
  }
});`;

/** Call take(samples, rate) with each piece until `close`. Throws where there is no microphone. */
export async function openMicrophone(take) {
  if (!navigator.mediaDevices) {
    throw new Error("browsers give it to secure pages only (https, or localhost)");
  }
  const media = await navigator.mediaDevices.getUserMedia({
    audio: { echoCancellation: true, noiseSuppression: true, channelCount: 1 },
  });
  const context = new AudioContext();
  const address = URL.createObjectURL(new Blob([WORKLET], { type: "text/javascript" }));
  await context.audioWorklet.addModule(address);
  URL.revokeObjectURL(address);
  const node = new AudioWorkletNode(context, "being-microphone", { numberOfOutputs: 0 });
  node.port.onmessage = ({ data }) => take(data, context.sampleRate);
  context.createMediaStreamSource(media).connect(node);
  return {
    close() {
      node.port.onmessage = null;
      for (const track of media.getTracks()) track.stop();
      context.close();
    },
  };
}
