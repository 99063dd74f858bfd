// The microphone as PCM16 chunks, on secure pages.

import { Resampler, toPcm16 } from "./resampler.js";

const RATE = 24000; // samples/s that are sent

/** True where this page may use the microphone. */
export function canListen() {
  return Boolean(navigator.mediaDevices?.getUserMedia) && typeof AudioWorkletNode !== "undefined";
}

/** An open microphone. */
export class Microphone {
  /**
   * Ask for the microphone and start it. send(Int16Array): takes each chunk of about `seconds` at
   * `Microphone.rate`. Raises the browser's DOMException where it is refused or missing.
   */
  static async open(send, seconds = 0.02) {
    const stream = await navigator.mediaDevices.getUserMedia({
      audio: { echoCancellation: true, noiseSuppression: true, autoGainControl: true },
    });
    // The context has the rate of the device: some browsers refuse to connect different rates.
    const context = new AudioContext({ latencyHint: "interactive" });
    await context.audioWorklet.addModule(new URL("./worklet.js", import.meta.url));
    return new Microphone(stream, context, send, seconds);
  }

  static rate = RATE;

  constructor(stream, context, send, seconds) {
    this.stream = stream;
    this.context = context;
    const resampler = new Resampler(context.sampleRate, RATE);
    const processorOptions = { seconds };
    const node = new AudioWorkletNode(context, "microphone", { numberOfOutputs: 1, processorOptions });
    node.port.onmessage = ({ data }) => {
      const pcm = toPcm16(resampler.push(data));
      if (pcm.length) send(pcm);
    };
    context.createMediaStreamSource(stream).connect(node);
    node.connect(context.destination); // silent, but an unconnected node may not run
  }

  /** Let go of the microphone. */
  close() {
    for (const track of this.stream.getTracks()) track.stop();
    this.context.close();
  }
}
