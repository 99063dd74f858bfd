// The times, s, at which the page's gate opens: node gate_times.mjs MODULE FILE, PCM16 at 24 kHz.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const { SoundGate } = await import(pathToFileURL(process.argv[2]));
const bytes = readFileSync(process.argv[3]);
const pcm = new Int16Array(bytes.buffer, bytes.byteOffset, bytes.length / 2);
const gate = new SoundGate();
const times = [];
let open = false;
for (let at = 0; at + 240 <= pcm.length; at += 240) {
  const loud = gate.push(pcm.subarray(at, at + 240));
  if (loud && !open) times.push((at + 240) / 24000);
  open = loud;
}
console.log(JSON.stringify(times));
