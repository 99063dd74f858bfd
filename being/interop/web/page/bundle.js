// Loads an avatar's bundle: the manifest, the tensors and the plates, checked.

const FORMAT = "being-web-avatar";
const VERSION = 1;
const TYPES = {
  int8: Int8Array,
  uint8: Uint8Array,
  int16: Int16Array,
  uint16: Uint16Array,
  float32: Float32Array,
};

/** The bundle cannot be used: `message` says why and what to do. */
export class BundleError extends Error {}

const again = "Export the avatar again, or copy all of its files";

async function fetched(address) {
  let answer;
  try {
    answer = await fetch(address);
  } catch (error) {
    throw new BundleError(`${address} cannot be loaded (${error.message}). Serve it over HTTP`);
  }
  if (!answer.ok) throw new BundleError(`${address} cannot be loaded (${answer.status}). ${again}`);
  return answer;
}

/** The address of a file beside another one; what follows a "?" there, a token, goes along. */
function beside(place, name) {
  const url = new URL(name, place);
  url.search = place.search;
  return url;
}

/** The bytes of a file of the bundle, checked against the manifest. */
async function checkedFile(place, name, { bytes, sha256 }) {
  const content = new Uint8Array(await (await fetched(beside(place, name))).arrayBuffer());
  if (content.length !== bytes) {
    throw new BundleError(`${name} has ${content.length} bytes, expected ${bytes}. ${again}`);
  }
  if (globalThis.crypto?.subtle) {
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", content));
    const found = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
    if (found !== sha256) throw new BundleError(`${name} was changed or damaged. ${again}`);
  }
  return content;
}

async function inflated(content) {
  const stream = new Blob([content]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).arrayBuffer();
}

/** Tensors by name: { values, shape, quantised }; `values` of quantised ones are whole numbers. */
function cutTensors(buffer, list) {
  const tensors = {};
  for (const [name, { type, shape, offset }] of Object.entries(list)) {
    const count = shape.reduce((a, b) => a * b, 1);
    const kind = TYPES[type];
    if (!kind || offset + count * kind.BYTES_PER_ELEMENT > buffer.byteLength) {
      throw new BundleError(`the tensor ${name} does not fit its file. ${again}`);
    }
    tensors[name] = { values: new kind(buffer, offset, count), shape };
  }
  return tensors;
}

/** Rows of whole numbers [rows, n] as floats: least + step * number, with one of each a row. */
export function expandRows(numbers, least, step) {
  const values = new Float32Array(numbers.length);
  const width = numbers.length / step.length;
  for (let row = 0; row < step.length; row++) {
    const low = least ? least[row] : 0;
    for (let i = row * width; i < (row + 1) * width; i++) values[i] = low + step[row] * numbers[i];
  }
  return values;
}

/** Tensors whose names begin with `prefix`, as { values: Float32Array, shape } without it. */
function networkTensors(tensors, prefix) {
  const found = {};
  for (const [name, { values, shape }] of Object.entries(tensors)) {
    if (!name.startsWith(prefix) || name.endsWith(".step")) continue;
    const step = tensors[`${name}.step`];
    const floats = step ? expandRows(values, null, step.values) : Float32Array.from(values);
    found[name.slice(prefix.length)] = { values: floats, shape };
  }
  return found;
}

/** What the renderer draws; see `Renderer`. */
function sceneOf(manifest, tensors) {
  const { gaussians: count, sh_degree: degree, size, focal } = manifest;
  const main = tensors["base.main"].values;
  const rest = tensors["base.rest"].values;
  const canonical = new Float32Array(main.length + rest.length);
  const least = tensors["base.main.least"].values;
  canonical.set(expandRows(main, least, tensors["base.main.step"].values));
  canonical.set(expandRows(rest, null, tensors["base.rest.step"].values), main.length);
  const [, moved] = tensors.basis.shape;
  return {
    count,
    degree,
    size,
    focal,
    canonical,
    moved,
    bases: tensors.basis.values,
    scales: tensors["basis.step"].values,
  };
}

/**
 * The bundle in the folder at `address` (ends with a slash or names its manifest.json):
 * { manifest, scene, net, cameras, expression, restCode, conformer, voice, plates, picture, background }.
 * Throws BundleError.
 */
export async function loadBundle(address) {
  const base = new URL(address, document.baseURI);
  if (!base.pathname.endsWith(".json") && !base.pathname.endsWith("/")) base.pathname += "/";
  const place = base.pathname.endsWith(".json") ? base : beside(base, "manifest.json");
  let manifest;
  try {
    manifest = await (await fetched(place)).json();
  } catch (error) {
    if (error instanceof BundleError) throw error;
    throw new BundleError(`${place} is no JSON. ${again}`);
  }
  if (manifest.format !== FORMAT || manifest.version !== VERSION) {
    throw new BundleError(
      `${place} is no web avatar of version ${VERSION}. Make one with: being export AVATAR --web DIR`,
    );
  }
  if (typeof DecompressionStream === "undefined") {
    throw new BundleError("this browser cannot unpack the avatar. Use a newer browser");
  }
  const names = Object.keys(manifest.files);
  const contents = await Promise.all(
    names.map((name) => checkedFile(place, name, manifest.files[name])),
  );
  const files = Object.fromEntries(names.map((name, k) => [name, contents[k]]));
  const buffer = await inflated(files["tensors.bin"]);
  const tensors = cutTensors(buffer, manifest.tensors);
  const picture = (name) => files[name] && createImageBitmap(new Blob([files[name]]));
  return {
    manifest,
    scene: sceneOf(manifest, tensors),
    net: Object.fromEntries(
      Object.entries(networkTensors(tensors, "net.")).map(([name, { values }]) => [name, values]),
    ),
    cameras: tensors["poses.camera"].values,
    expression: tensors["poses.expression"].values,
    restCode: tensors.rest_code.values,
    conformer: manifest.speech ? networkTensors(tensors, "speech.") : null,
    voice: manifest.speech ? networkTensors(tensors, "voice.") : null,
    plates: files["plates.mp4"],
    picture: await picture("plate.jpg"),
    background: (await picture("background.jpg")) ?? null,
  };
}
