// Draws pictures on the canvas, with transparency where a matte is stacked under the colours.

const VERTEX = `#version 300 es
const vec2 corners[4] = vec2[4](vec2(0, 0), vec2(1, 0), vec2(0, 1), vec2(1, 1));
out vec2 place;
void main() {
  vec2 corner = corners[gl_VertexID];
  place = vec2(corner.x, 1.0 - corner.y);
  gl_Position = vec4(corner * 2.0 - 1.0, 0, 1);
}`;

// The upper half holds colours multiplied by the matte, the lower half the matte.
const FRAGMENT = `#version 300 es
precision mediump float;
in vec2 place;
uniform sampler2D picture;
out vec4 colour;
void main() {
  float coded = texture(picture, vec2(place.x, 0.5 + 0.5 * place.y)).g;
  // Compression moves the ends of the range by a few levels of 255.
  float matte = clamp((coded - 4.0 / 255.0) / (247.0 / 255.0), 0.0, 1.0);
  vec3 shade = texture(picture, vec2(place.x, 0.5 * place.y)).rgb;
  colour = vec4(min(shade, matte), matte);
}`;

/** The canvas that shows the avatar. It is replaced where the way of drawing changes. */
export class Stage {
  constructor(canvas) {
    this.canvas = canvas;
    this.stacked = null;
  }

  /** Draw an image. stacked: its lower half is the matte of its upper half. */
  draw(image, stacked) {
    const width = image.displayWidth ?? image.width;
    const height = (image.displayHeight ?? image.height) / (stacked ? 2 : 1);
    if (stacked !== this.stacked) this.prepare(stacked);
    if (this.canvas.width !== width || this.canvas.height !== height) {
      this.canvas.width = width;
      this.canvas.height = height;
      this.canvas.parentElement.style.setProperty("--ratio", width / height);
    }
    if (stacked) this.drawStacked(image, width, height);
    else this.plain.drawImage(image, 0, 0, width, height);
  }

  /** Another canvas: what was drawn on the old one has its context. */
  replace() {
    const fresh = this.canvas.cloneNode();
    this.canvas.replaceWith(fresh);
    this.canvas = fresh;
    this.stacked = undefined;
  }

  prepare(stacked) {
    if (this.stacked !== null) this.replace();
    this.stacked = stacked;
    if (stacked) this.prepareShader();
    else this.plain = this.canvas.getContext("2d", { alpha: false });
  }

  prepareShader() {
    const gl = this.canvas.getContext("webgl2", { premultipliedAlpha: true, antialias: false });
    // The graphics driver may take the context away: the next picture gets a new canvas.
    this.canvas.addEventListener("webglcontextlost", () => (this.stacked = undefined));
    const program = gl.createProgram();
    for (const [kind, source] of [
      [gl.VERTEX_SHADER, VERTEX],
      [gl.FRAGMENT_SHADER, FRAGMENT],
    ]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    gl.useProgram(program);
    gl.bindTexture(gl.TEXTURE_2D, gl.createTexture());
    for (const [name, value] of [
      [gl.TEXTURE_MIN_FILTER, gl.NEAREST], // a blend of both halves would show at their seam
      [gl.TEXTURE_MAG_FILTER, gl.NEAREST],
      [gl.TEXTURE_WRAP_S, gl.CLAMP_TO_EDGE],
      [gl.TEXTURE_WRAP_T, gl.CLAMP_TO_EDGE],
    ]) {
      gl.texParameteri(gl.TEXTURE_2D, name, value);
    }
    this.gl = gl;
  }

  drawStacked(image, width, height) {
    const { gl } = this;
    gl.viewport(0, 0, width, height);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, gl.RGBA, gl.UNSIGNED_BYTE, image);
    gl.drawArrays(gl.TRIANGLE_STRIP, 0, 4);
  }
}

/** True where pictures with a matte can be drawn. */
export function canDrawMatte() {
  return Boolean(document.createElement("canvas").getContext("webgl2"));
}
