// Draws an avatar with WebGL2: mixes and projects its Gaussians on the graphics chip, sorts them here,
// blends them back to front, and puts them over the plate.

import { DepthOrder } from "./depth_order.js";
import {
  FINISH_FRAGMENT,
  SCREEN_VERTEX,
  SPLAT_FRAGMENT,
  SPLAT_VERTEX,
  mixSource,
} from "./shaders.js";

const CANONICAL_FIELDS = 11; // means, log scales, quaternions, opacity logit; colours follow
const WIDTH = 256; // texels in a row of the textures with one texel a Gaussian

/** No picture can be drawn: `message` says why and what to do. */
export class CannotDraw extends Error {}

/** A WebGL2 context of `canvas`. Throws CannotDraw where the browser has none. */
function openContext(canvas) {
  const gl = canvas.getContext("webgl2", {
    alpha: true,
    premultipliedAlpha: true,
    antialias: false,
    depth: false,
    powerPreference: "high-performance",
  });
  if (!gl) {
    throw new CannotDraw(
      "this browser has no WebGL2, which draws the avatar. Use a newer browser, or switch on its " +
        "hardware acceleration",
    );
  }
  return gl;
}

/**
 * Draws the Gaussians of one avatar on one canvas.
 *
 * scene: { count, degree, canonical: Float32Array [fields, N], bases: Int8Array [K, moved, N],
 * scales: Float32Array [K, moved], moved, size, focal }. fields: 11 + 3 (degree + 1)^2; the first
 * `moved` fields have bases. size: px of the avatar's own image.
 */
export class Renderer {
  constructor(canvas, scene) {
    this.canvas = canvas;
    this.scene = scene;
    this.gl = openContext(canvas);
    this.order = new DepthOrder(scene);
    this.lost = false;
    canvas.addEventListener("webglcontextlost", (event) => {
      event.preventDefault(); // so that it can be restored
      this.lost = true;
    });
    canvas.addEventListener("webglcontextrestored", () => {
      this.prepare();
      this.lost = false;
    });
    this.prepare();
  }

  /** Make everything that lives on the graphics chip. */
  prepare() {
    const { gl, scene } = this;
    const groups = Math.ceil(scene.moved / 4);
    const all = Math.ceil((CANONICAL_FIELDS + 3 * (scene.degree + 1) ** 2) / 4);
    const basisCount = scene.scales.length / scene.moved;
    const layers = Math.max(basisCount * groups, all);
    if (layers > gl.getParameter(gl.MAX_ARRAY_TEXTURE_LAYERS)) {
      throw new CannotDraw(
        `this graphics chip holds ${gl.getParameter(gl.MAX_ARRAY_TEXTURE_LAYERS)} layers of a ` +
          `texture, the avatar has ${layers}. Use another device`,
      );
    }
    Object.assign(this, { groups, basisCount, rows: Math.ceil(scene.count / WIDTH) });
    gl.disable(gl.DITHER);

    // Floats keep their fractions in a picture that blends; without that, 8 bits must do.
    const floats = gl.getExtension("EXT_color_buffer_float");
    const halves = floats || gl.getExtension("EXT_color_buffer_half_float");
    this.headFormat = halves ? gl.RGBA16F : gl.RGBA8;

    this.mix = this.program(SCREEN_VERTEX, mixSource(basisCount, groups, scene.degree));
    this.splat = this.program(SPLAT_VERTEX, SPLAT_FRAGMENT);
    this.finish = this.program(SCREEN_VERTEX, FINISH_FRAGMENT);

    this.storeScene(all);
    this.makeTargets();
    this.makeQuads();
    this.headTexture = this.texture(gl.TEXTURE_2D);
    this.head = gl.createFramebuffer();
    this.headSide = 0;
    this.plate = { kind: 0 };
    this.planes = {};
  }

  /** Canonical parameters as floats, bases as whole numbers, both with four fields a texel. */
  storeScene(all) {
    const { gl, scene, rows, groups, basisCount } = this;
    const fields = scene.canonical.length / scene.count;
    const texels = WIDTH * rows;
    const canonical = new Float32Array(4 * texels * all);
    for (let f = 0; f < fields; f++) {
      const start = 4 * texels * (f >> 2) + (f & 3);
      const column = scene.canonical.subarray(f * scene.count, (f + 1) * scene.count);
      for (let i = 0; i < scene.count; i++) canonical[start + 4 * i] = column[i];
    }
    this.canonical = this.texture(gl.TEXTURE_2D_ARRAY);
    gl.texStorage3D(gl.TEXTURE_2D_ARRAY, 1, gl.RGBA32F, WIDTH, rows, all);
    gl.texSubImage3D(
      gl.TEXTURE_2D_ARRAY, 0, 0, 0, 0, WIDTH, rows, all, gl.RGBA, gl.FLOAT, canonical,
    );

    const layer = new Int8Array(4 * texels);
    this.bases = this.texture(gl.TEXTURE_2D_ARRAY);
    gl.texStorage3D(gl.TEXTURE_2D_ARRAY, 1, gl.RGBA8I, WIDTH, rows, Math.max(1, basisCount * groups));
    for (let k = 0; k < basisCount; k++) {
      for (let g = 0; g < groups; g++) {
        layer.fill(0);
        for (let c = 0; c < 4 && 4 * g + c < scene.moved; c++) {
          const from = (k * scene.moved + 4 * g + c) * scene.count;
          for (let i = 0; i < scene.count; i++) layer[4 * i + c] = scene.bases[from + i];
        }
        gl.texSubImage3D(
          gl.TEXTURE_2D_ARRAY, 0, 0, 0, k * groups + g, WIDTH, rows, 1,
          gl.RGBA_INTEGER, gl.BYTE, layer,
        );
      }
    }
    this.weightValues = new Float32Array(4 * Math.max(1, groups * basisCount));
    this.weights = this.texture(gl.TEXTURE_2D);
    gl.texStorage2D(
      gl.TEXTURE_2D, 1, gl.RGBA32F, Math.max(1, groups), Math.max(1, basisCount),
    );
  }

  /** The textures that pass 1 writes and pass 2 reads. */
  makeTargets() {
    const { gl, rows } = this;
    this.projected = gl.createFramebuffer();
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.projected);
    this.targets = [0, 1, 2, 3].map((k) => {
      const texture = this.texture(gl.TEXTURE_2D);
      gl.texStorage2D(gl.TEXTURE_2D, 1, gl.RGBA32UI, WIDTH, rows);
      gl.framebufferTexture2D(
        gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0 + k, gl.TEXTURE_2D, texture, 0,
      );
      return texture;
    });
    gl.drawBuffers([0, 1, 2, 3].map((k) => gl.COLOR_ATTACHMENT0 + k));
    this.checkComplete();
  }

  makeQuads() {
    const { gl, scene } = this;
    this.empty = gl.createVertexArray();
    this.quads = gl.createVertexArray();
    this.indices = gl.createBuffer();
    gl.bindVertexArray(this.quads);
    gl.bindBuffer(gl.ARRAY_BUFFER, this.indices);
    gl.bufferData(gl.ARRAY_BUFFER, 4 * scene.count, gl.STREAM_DRAW);
    gl.enableVertexAttribArray(0);
    gl.vertexAttribIPointer(0, 1, gl.UNSIGNED_INT, 0, 0);
    gl.vertexAttribDivisor(0, 1);
    gl.bindVertexArray(null);
  }

  /** The plate of the next frames: { kind: 0 } for none, or planes or a picture (plates.js). */
  setPlate(plate) {
    const { gl } = this;
    this.plate = plate;
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
    if (plate.kind === 1) {
      const { luma, blue, red, width, height, interleaved } = plate;
      this.storePlane("luma", gl.R8, gl.RED, width, height, luma);
      const [w, h] = [width / 2, height / 2];
      if (interleaved) this.storePlane("chromaBlue", gl.RG8, gl.RG, w, h, blue);
      else {
        this.storePlane("chromaBlue", gl.R8, gl.RED, w, h, blue);
        this.storePlane("chromaRed", gl.R8, gl.RED, w, h, red);
      }
    } else if (plate.kind === 2) {
      this.storePicture("picture", plate.image);
    }
  }

  /** The picture behind the torsos as filmed, which transparent frames take away. */
  setBackground(image) {
    this.storePicture("background", image);
  }

  storePlane(name, inside, format, width, height, values) {
    const { gl } = this;
    let plane = this.planes[name];
    if (!plane || plane.width !== width || plane.height !== height || plane.inside !== inside) {
      if (plane) gl.deleteTexture(plane.texture);
      const texture = this.texture(gl.TEXTURE_2D, gl.LINEAR);
      gl.texStorage2D(gl.TEXTURE_2D, 1, inside, width, height);
      plane = this.planes[name] = { texture, width, height, inside };
    }
    gl.bindTexture(gl.TEXTURE_2D, plane.texture);
    gl.texSubImage2D(gl.TEXTURE_2D, 0, 0, 0, width, height, format, gl.UNSIGNED_BYTE, values);
  }

  storePicture(name, image) {
    const { gl } = this;
    if (this.planes[name]) gl.deleteTexture(this.planes[name].texture);
    const texture = this.texture(gl.TEXTURE_2D, gl.LINEAR);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA8, gl.RGBA, gl.UNSIGNED_BYTE, image);
    this.planes[name] = { texture };
  }

  /**
   * Prepare a frame: bases' weights, order of depth, both uploaded. Nothing is drawn.
   *
   * coefficients: Float32Array [K]. camera: Float32Array [16], world to camera, row by row.
   */
  place(coefficients, camera) {
    const { gl, scene, groups, basisCount, weightValues } = this;
    for (let k = 0; k < basisCount; k++) {
      for (let f = 0; f < scene.moved; f++) {
        weightValues[4 * groups * k + f] = coefficients[k] * scene.scales[k * scene.moved + f];
      }
    }
    gl.bindTexture(gl.TEXTURE_2D, this.weights);
    if (basisCount) {
      gl.texSubImage2D(
        gl.TEXTURE_2D, 0, 0, 0, groups, basisCount, gl.RGBA, gl.FLOAT, weightValues,
      );
    }
    const indices = this.order.sorted(coefficients, camera);
    gl.bindBuffer(gl.ARRAY_BUFFER, this.indices);
    gl.bufferSubData(gl.ARRAY_BUFFER, 0, indices);
    this.camera = camera;
  }

  /** Draw what `place` prepared over the plate. transparent: the background is left out. */
  draw(transparent = false) {
    const { gl, scene, camera } = this;
    const side = Math.min(this.canvas.width, this.canvas.height);

    // Pass 1.
    gl.disable(gl.BLEND);
    gl.bindVertexArray(this.empty);
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.projected);
    gl.viewport(0, 0, WIDTH, this.rows);
    this.use(this.mix, { canonical: this.canonical, bases: this.bases }, gl.TEXTURE_2D_ARRAY);
    this.bind(this.mix, "weights", this.weights, 2);
    const at = (name) => this.mix.at(name);
    gl.uniform1i(at("number"), scene.count);
    const turn = [0, 1, 2, 4, 5, 6, 8, 9, 10].map((k) => camera[k]);
    gl.uniformMatrix3fv(at("rotation"), true, turn);
    gl.uniform3f(at("translation"), camera[3], camera[7], camera[11]);
    gl.uniform1f(at("focal"), scene.focal);
    gl.uniform1f(at("size"), scene.size);
    gl.drawArrays(gl.TRIANGLES, 0, 3);

    // Pass 2.
    this.sizeHead(side);
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.head);
    gl.viewport(0, 0, side, side);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    gl.bindVertexArray(this.quads);
    const [shapes, rests, rectangles, colours] = this.targets;
    this.use(this.splat, { shapes, rests, rectangles, colours });
    gl.uniform1f(this.splat.at("size"), scene.size);
    gl.uniform1f(this.splat.at("pitch"), scene.size / side);
    gl.drawArraysInstanced(gl.TRIANGLE_STRIP, 0, 4, scene.count);

    // Pass 3.
    const { plate, planes } = this;
    gl.disable(gl.BLEND);
    gl.bindVertexArray(this.empty);
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
    gl.viewport(0, 0, side, side);
    const textures = { head: this.headTexture };
    for (const name of ["luma", "chromaBlue", "chromaRed", "picture", "background"]) {
      textures[name] = planes[name]?.texture ?? this.headTexture;
    }
    this.use(this.finish, textures);
    const set = (name, value) => gl.uniform1i(this.finish.at(name), value);
    set("plate", plate.kind);
    set("stacked", plate.stacked ? 1 : 0);
    set("interleaved", plate.interleaved ? 1 : 0);
    set("transparent", transparent && plate.stacked && planes.background ? 1 : 0);
    gl.uniform2f(this.finish.at("extent"), side, side);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
  }

  /** The picture, Uint8Array [side, side, 4] RGBA (colours times alpha), the top row first. */
  read() {
    const { gl } = this;
    const side = Math.min(this.canvas.width, this.canvas.height);
    const pixels = new Uint8Array(4 * side * side);
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
    gl.readPixels(0, 0, side, side, gl.RGBA, gl.UNSIGNED_BYTE, pixels);
    const upright = new Uint8Array(pixels.length);
    for (let y = 0; y < side; y++) {
      const row = pixels.subarray(4 * side * (side - 1 - y), 4 * side * (side - y));
      upright.set(row, 4 * side * y);
    }
    return upright;
  }

  /** Free the graphics memory. */
  close() {
    this.gl.getExtension("WEBGL_lose_context")?.loseContext();
  }

  sizeHead(side) {
    if (side === this.headSide) return;
    const { gl } = this;
    gl.deleteTexture(this.headTexture);
    this.headTexture = this.texture(gl.TEXTURE_2D);
    gl.texStorage2D(gl.TEXTURE_2D, 1, this.headFormat, side, side);
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.head);
    gl.framebufferTexture2D(
      gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, this.headTexture, 0,
    );
    this.checkComplete();
    this.headSide = side;
  }

  texture(kind, filter = this.gl.NEAREST) {
    const { gl } = this;
    const texture = gl.createTexture();
    gl.bindTexture(kind, texture);
    gl.texParameteri(kind, gl.TEXTURE_MIN_FILTER, filter);
    gl.texParameteri(kind, gl.TEXTURE_MAG_FILTER, filter);
    gl.texParameteri(kind, gl.TEXTURE_WRAP_S, gl.CLAMP_TO_EDGE);
    gl.texParameteri(kind, gl.TEXTURE_WRAP_T, gl.CLAMP_TO_EDGE);
    return texture;
  }

  checkComplete() {
    const { gl } = this;
    const status = gl.checkFramebufferStatus(gl.FRAMEBUFFER);
    if (status !== gl.FRAMEBUFFER_COMPLETE && !gl.isContextLost()) {
      throw new CannotDraw(`the graphics chip refuses a picture (${status}). Use another device`);
    }
  }

  /** A compiled program; `at(name)` is the place of a uniform. */
  program(vertex, fragment) {
    const { gl } = this;
    const program = gl.createProgram();
    for (const [kind, source] of [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
      gl.deleteShader(shader);
      if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS) && !gl.isContextLost()) {
        throw new CannotDraw(`the graphics driver refuses a program: ${gl.getShaderInfoLog(shader)}`);
      }
    }
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS) && !gl.isContextLost()) {
      throw new CannotDraw(`the graphics driver refuses a program: ${gl.getProgramInfoLog(program)}`);
    }
    const places = new Map();
    const at = (name) => {
      if (!places.has(name)) places.set(name, gl.getUniformLocation(program, name));
      return places.get(name);
    };
    return { program, at };
  }

  /** Take a program into use with textures of one kind by name, in units from 0 on. */
  use(program, textures, kind = this.gl.TEXTURE_2D) {
    this.gl.useProgram(program.program);
    Object.entries(textures).forEach(([name, texture], unit) => {
      this.bind(program, name, texture, unit, kind);
    });
  }

  bind(program, name, texture, unit, kind = this.gl.TEXTURE_2D) {
    const { gl } = this;
    gl.activeTexture(gl.TEXTURE0 + unit);
    gl.bindTexture(kind, texture);
    gl.uniform1i(program.at(name), unit);
    gl.activeTexture(gl.TEXTURE0);
  }
}
