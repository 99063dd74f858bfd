// Draws Gaussians, face mesh and camera path with WebGL 2. The data is in the page itself.
//
// A Gaussian is drawn as its projection (EWA, Zwicker et al. 2001), as the package's rasterizers
// do: one quad each, sorted from far to near and blended over what lies behind.

const scene = JSON.parse(document.getElementById("scene").textContent);
const canvas = document.getElementById("canvas");
const FIELD = (28 * Math.PI) / 180; // of view, of the smaller side
const TEXELS = 3; // of the data texture, for each Gaussian
const CORNERS = [0, 1, 2, 2, 1, 3]; // of the two triangles of a quad
const TEXTURE_WIDTH = 1020; // a multiple of TEXELS

const VIEW = `
uniform mat3 turn; uniform vec3 eye; uniform vec2 focal; uniform vec2 depths;
vec3 seen(vec3 p) { return turn * (p - eye); }  // x right, y up, z towards the reader
vec4 placed(vec3 v) {
  float near = depths.x, far = depths.y;
  return vec4(focal * v.xy, -((far + near) * v.z + 2.0 * far * near) / (far - near), -v.z);
}`;

const GAUSSIAN_VERTEX = `#version 300 es
precision highp float;
precision highp sampler2D;
uniform sampler2D data; uniform vec2 size; uniform int solid;
out vec2 at; out vec4 colour;
${VIEW}
vec4 texel(int k) { return texelFetch(data, ivec2(k % ${TEXTURE_WIDTH}, k / ${TEXTURE_WIDTH}), 0); }
void main() {
  int first = gl_VertexID / 4 * ${TEXELS};
  vec2 corner = vec2(gl_VertexID & 1, gl_VertexID >> 1 & 1) * 2.0 - 1.0;
  vec4 a = texel(first), b = texel(first + 1), c = texel(first + 2);
  vec3 v = seen(a.xyz);
  float opacity = a.w, rgb = c.z;
  gl_Position = vec4(2.0, 2.0, 2.0, 1.0);
  if (-v.z < depths.x || (solid == 1 && opacity < 0.1)) return;

  // The covariance in the picture, px^2
  mat3 covariance = mat3(b.x, b.y, b.z, b.y, b.w, c.x, b.z, c.x, c.y);
  vec2 f = focal * size * 0.5;
  mat3 jacobian = mat3(-f.x / v.z, 0.0, 0.0, 0.0, -f.y / v.z, 0.0,
                       f.x * v.x / (v.z * v.z), f.y * v.y / (v.z * v.z), 0.0);
  mat3 t = jacobian * turn;
  mat3 s = t * covariance * transpose(t);
  float xx = s[0][0] + 0.3, yy = s[1][1] + 0.3, xy = s[0][1];

  // Its axes
  float middle = 0.5 * (xx + yy), half_gap = length(vec2(0.5 * (xx - yy), xy));
  float major = middle + half_gap, minor = max(middle - half_gap, 0.1);
  vec2 along = half_gap < 1e-6 ? vec2(1.0, 0.0) : normalize(vec2(xy, major - xx) + vec2(1e-9, 0.0));
  if (abs(xy) < 1e-6 && xx >= yy) along = vec2(1.0, 0.0);
  float reach = solid == 1 ? 1.5 : sqrt(max(2.0 * log(opacity * 255.0), 0.0));
  if (reach <= 0.0) return;
  at = corner * reach;
  vec2 offset = at.x * sqrt(major) * along + at.y * sqrt(minor) * vec2(-along.y, along.x);
  gl_Position = placed(v);
  gl_Position.xy += offset * 2.0 / size * gl_Position.w;
  colour = vec4(floor(rgb / 65536.0), mod(floor(rgb / 256.0), 256.0), mod(rgb, 256.0), 255.0) / 255.0;
  colour.a = opacity;
}`;

const GAUSSIAN_FRAGMENT = `#version 300 es
precision highp float;
precision highp int;
in vec2 at; in vec4 colour; uniform int solid; out vec4 pixel;
void main() {
  float square = dot(at, at);
  if (solid == 1) {
    if (square > 2.25) discard;
    pixel = vec4(colour.rgb * (1.0 - 0.22 * square), 1.0);
    return;
  }
  float alpha = min(colour.a * exp(-0.5 * square), 0.99);
  if (alpha < 1.0 / 255.0) discard;
  pixel = vec4(colour.rgb * alpha, alpha);
}`;

const POINT_VERTEX = `#version 300 es
precision highp float;
in vec3 position; in vec4 tint; uniform float points; out vec4 colour;
${VIEW}
void main() {
  gl_Position = placed(seen(position));
  gl_PointSize = points;
  colour = tint;
  if (points > 0.0 && tint.a < 0.1) gl_Position = vec4(2.0, 2.0, 2.0, 1.0);
  if (points > 0.0) colour.a = 1.0;
}`;

const POINT_FRAGMENT = `#version 300 es
precision highp float;
in vec4 colour; uniform float points; out vec4 pixel;
void main() {
  if (points > 0.0 && length(gl_PointCoord - 0.5) > 0.5) discard;
  pixel = vec4(colour.rgb * colour.a, colour.a);
}`;

function bytes(text) {
  const binary = atob(text);
  const result = new Uint8Array(binary.length);
  for (let k = 0; k < binary.length; k++) result[k] = binary.charCodeAt(k);
  return result;
}

function positions(part) {
  const whole = new Uint16Array(bytes(part.positions).buffer);
  const result = new Float32Array(whole.length);
  for (let k = 0; k < whole.length; k++) {
    const axis = k % 3;
    result[k] = part.low[axis] + ((part.high[axis] - part.low[axis]) * whole[k]) / 65535;
  }
  return result;
}

// Covariances of scales and rotations: six numbers for each Gaussian, xx xy xz yy yz zz.
function covariances(part) {
  const scales = bytes(part.scales);
  const rotations = new Int8Array(bytes(part.rotations).buffer);
  const [low, high] = part.log_scales;
  const result = new Float32Array(2 * scales.length);
  for (let k = 0; k < part.count; k++) {
    let [w, x, y, z] = rotations.subarray(4 * k, 4 * k + 4);
    const length = Math.hypot(w, x, y, z) || 1;
    [w, x, y, z] = [w / length, x / length, y / length, z / length];
    const axes = [
      [1 - 2 * (y * y + z * z), 2 * (x * y + w * z), 2 * (x * z - w * y)],
      [2 * (x * y - w * z), 1 - 2 * (x * x + z * z), 2 * (y * z + w * x)],
      [2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)],
    ];
    for (let axis = 0; axis < 3; axis++) {
      const variance = Math.exp(2 * (low + ((high - low) * scales[3 * k + axis]) / 255));
      const [a, b, c] = axes[axis];
      const products = [a * a, a * b, a * c, b * b, b * c, c * c];
      for (let j = 0; j < 6; j++) result[6 * k + j] += variance * products[j];
    }
  }
  return result;
}

function program(gl, vertex, fragment, names) {
  const made = gl.createProgram();
  for (const [type, source] of [
    [gl.VERTEX_SHADER, vertex],
    [gl.FRAGMENT_SHADER, fragment],
  ]) {
    const shader = gl.createShader(type);
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS) && !gl.isContextLost()) {
      throw new Error(gl.getShaderInfoLog(shader));
    }
    gl.attachShader(made, shader);
  }
  names.forEach((name, place) => gl.bindAttribLocation(made, place, name));
  gl.linkProgram(made);
  if (!gl.getProgramParameter(made, gl.LINK_STATUS) && !gl.isContextLost()) {
    throw new Error(gl.getProgramInfoLog(made));
  }
  const uniforms = {};
  for (const name of ["turn", "eye", "focal", "depths", "data", "size", "solid", "points"]) {
    uniforms[name] = gl.getUniformLocation(made, name);
  }
  return { made, uniforms };
}

function buffer(gl, place, width, data, type = gl.FLOAT, normal = false) {
  const made = gl.createBuffer();
  gl.bindBuffer(gl.ARRAY_BUFFER, made);
  gl.bufferData(gl.ARRAY_BUFFER, data, gl.STATIC_DRAW);
  gl.enableVertexAttribArray(place);
  gl.vertexAttribPointer(place, width, type, normal, 0, 0);
  return made;
}

class CloudDrawing {
  constructor(gl, part) {
    this.count = part.count;
    this.centres = positions(part);
    const colours = bytes(part.colours);
    const spread = covariances(part);

    // Everything of a Gaussian in TEXELS texels of a texture
    const rows = Math.ceil((part.count * TEXELS) / TEXTURE_WIDTH);
    const texels = new Float32Array(4 * TEXTURE_WIDTH * rows);
    for (let k = 0; k < part.count; k++) {
      const [r, g, b, a] = colours.subarray(4 * k, 4 * k + 4);
      texels.set(this.centres.subarray(3 * k, 3 * k + 3), 12 * k);
      texels[12 * k + 3] = a / 255;
      texels.set(spread.subarray(6 * k, 6 * k + 6), 12 * k + 4);
      texels[12 * k + 10] = 65536 * r + 256 * g + b;
    }
    this.texture = gl.createTexture();
    gl.bindTexture(gl.TEXTURE_2D, this.texture);
    for (const name of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) {
      gl.texParameteri(gl.TEXTURE_2D, name, gl.NEAREST);
    }
    gl.texImage2D(
      gl.TEXTURE_2D, 0, gl.RGBA32F, TEXTURE_WIDTH, rows, 0, gl.RGBA, gl.FLOAT, texels,
    );

    // One quad of two triangles for each Gaussian: vertex 4 k + corner, in the order of `sort`.
    this.quads = gl.createVertexArray();
    gl.bindVertexArray(this.quads);
    this.order = new Uint32Array(6 * part.count);
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, this.order.byteLength, gl.DYNAMIC_DRAW);

    this.dots = gl.createVertexArray();
    gl.bindVertexArray(this.dots);
    buffer(gl, 0, 3, this.centres);
    buffer(gl, 1, 4, colours, gl.UNSIGNED_BYTE, true);
    gl.bindVertexArray(null);
  }

  // Sort from far to near: a counting sort over 65,536 steps of depth.
  sort(gl, turn, eye) {
    const { count, centres } = this;
    const depths = new Float64Array(count); // no rounding: the nearest must not fall below `low`
    let low = Infinity, high = -Infinity;
    for (let k = 0; k < count; k++) {
      const depth =
        turn[2] * (centres[3 * k] - eye[0]) +
        turn[5] * (centres[3 * k + 1] - eye[1]) +
        turn[8] * (centres[3 * k + 2] - eye[2]);
      depths[k] = depth;
      low = Math.min(low, depth);
      high = Math.max(high, depth);
    }
    const scale = 65535 / Math.max(high - low, 1e-9);
    const starts = new Uint32Array(65537);
    for (let k = 0; k < count; k++) starts[1 + Math.floor((depths[k] - low) * scale)]++;
    for (let k = 0; k < 65536; k++) starts[k + 1] += starts[k];
    for (let k = 0; k < count; k++) {
      const place = 6 * starts[Math.floor((depths[k] - low) * scale)]++;
      for (let j = 0; j < 6; j++) this.order[place + j] = 4 * k + CORNERS[j];
    }
    gl.bindVertexArray(this.quads);
    gl.bufferSubData(gl.ELEMENT_ARRAY_BUFFER, 0, this.order);
  }
}

class LineDrawing {
  // points: [n, 3]; colours: bytes [n, 4]; both ends of each line
  constructor(gl, points, colours) {
    this.count = points.length / 3;
    this.array = gl.createVertexArray();
    gl.bindVertexArray(this.array);
    buffer(gl, 0, 3, points);
    buffer(gl, 1, 4, colours, gl.UNSIGNED_BYTE, true);
    gl.bindVertexArray(null);
  }
}

function meshLines(gl, mesh) {
  const vertices = positions(mesh);
  const edges = new Uint32Array(bytes(mesh.edges).buffer);
  const points = new Float32Array(3 * edges.length);
  const colours = new Uint8Array(4 * edges.length);
  edges.forEach((vertex, k) => {
    points.set(vertices.subarray(3 * vertex, 3 * vertex + 3), 3 * k);
    colours.set([0, 140, 110, 200], 4 * k);
  });
  return new LineDrawing(gl, points, colours);
}

function cameraLines(gl, path) {
  const centres = new Float32Array(bytes(path.centres).buffer);
  const count = centres.length / 3;
  const breaks = new Set(path.breaks);
  const points = [], colours = [];
  const add = (a, b, colour) => {
    points.push(...a, ...b);
    colours.push(...colour, ...colour);
  };
  for (let k = 1; k < count; k++) {
    if (breaks.has(k)) continue;
    const share = k / count;
    const colour = [63 + 146 * share, 143 - 70 * share, 210 - 119 * share, 255];
    add(centres.subarray(3 * k - 3, 3 * k), centres.subarray(3 * k, 3 * k + 3), colour);
  }
  for (const corners of path.frusta) {
    for (const [a, b] of [[0, 1], [0, 2], [0, 3], [0, 4], [1, 2], [2, 3], [3, 4], [4, 1]]) {
      add(corners[a], corners[b], [92, 102, 112, 255]);
    }
  }
  return new LineDrawing(gl, new Float32Array(points), new Uint8Array(colours));
}

class Viewer {
  constructor(gl) {
    this.gl = gl;
    this.gaussians = program(gl, GAUSSIAN_VERTEX, GAUSSIAN_FRAGMENT, []);
    this.dots = program(gl, POINT_VERTEX, POINT_FRAGMENT, ["position", "tint"]);
    this.clouds = scene.clouds.map((part) => new CloudDrawing(gl, part));
    this.mesh = scene.mesh && meshLines(gl, scene.mesh);
    this.cameras = cameraLines(gl, scene.path);
    this.shown = { cloud: scene.clouds.length ? 0 : -1, mode: "gaussians" };
    this.shown.mesh = !scene.clouds.length;
    this.shown.cameras = false;
    this.reset();
  }

  reset() {
    this.yaw = 0;
    this.pitch = scene.pitch;
    this.target = [...scene.centre];
    this.distance = scene.radius / Math.sin(FIELD / 2) / 0.9;
    this.redraw();
  }

  // Show the head and all cameras, from above and from one side.
  fit() {
    const centre = scene.centre.map((value, k) => (value + scene.path.middle[k]) / 2);
    const reach = 0.45 * scene.path.reach + scene.radius;
    this.yaw = 0.9;
    this.pitch = 0.35;
    this.target = centre;
    this.distance = reach / Math.sin(FIELD / 2);
    this.redraw();
  }

  turnBy(right, down) {
    this.yaw -= right;
    this.pitch = Math.min(Math.max(this.pitch + down, -1.55), 1.55);
    this.redraw();
  }

  zoomBy(factor) {
    const least = 0.05 * scene.radius, most = 20 * (scene.path.reach + scene.radius);
    this.distance = Math.min(Math.max(this.distance * factor, least), most);
    this.redraw();
  }

  // By so many CSS pixels
  moveBy(right, down) {
    const { turn } = this.camera();
    const unit = (2 * this.distance * Math.tan(FIELD / 2)) /
      Math.min(canvas.clientWidth, canvas.clientHeight);
    for (let k = 0; k < 3; k++) {
      this.target[k] += unit * (down * turn[3 * k + 1] - right * turn[3 * k]);
    }
    this.redraw();
  }

  // Rotation by columns, world to view, and the eye
  camera() {
    const [cy, sy] = [Math.cos(this.yaw), Math.sin(this.yaw)];
    const [cp, sp] = [Math.cos(this.pitch), Math.sin(this.pitch)];
    const turn = [cy, -sp * sy, cp * sy, 0, cp, sp, -sy, -sp * cy, cp * cy];
    const eye = this.target.map((value, k) => value + this.distance * turn[3 * k + 2]);
    return { turn, eye };
  }

  redraw() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      this.draw();
    });
  }

  use({ made, uniforms }, { turn, eye }) {
    const { gl } = this, near = 0.02 * this.distance;
    const least = Math.min(canvas.width, canvas.height);
    const focal = 1 / Math.tan(FIELD / 2);
    gl.useProgram(made);
    gl.uniformMatrix3fv(uniforms.turn, false, turn);
    gl.uniform3fv(uniforms.eye, eye);
    gl.uniform2f(uniforms.focal, (focal * least) / canvas.width, (focal * least) / canvas.height);
    gl.uniform2f(uniforms.depths, near, 1e4 * near);
    gl.uniform2f(uniforms.size, canvas.width, canvas.height);
    return uniforms;
  }

  draw() {
    const { gl, shown } = this, ratio = Math.min(window.devicePixelRatio || 1, 2);
    const width = Math.max(1, Math.round(canvas.clientWidth * ratio));
    const height = Math.max(1, Math.round(canvas.clientHeight * ratio));
    if (canvas.width !== width || canvas.height !== height) {
      [canvas.width, canvas.height] = [width, height];
    }
    gl.viewport(0, 0, width, height);
    gl.clearColor(226 / 255, 229 / 255, 232 / 255, 1);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    const camera = this.camera();

    const cloud = this.clouds[shown.cloud];
    if (cloud && shown.mode === "points") {
      gl.enable(gl.DEPTH_TEST);
      gl.uniform1f(this.use(this.dots, camera).points, 4 * ratio);
      gl.bindVertexArray(cloud.dots);
      gl.drawArrays(gl.POINTS, 0, cloud.count);
      gl.disable(gl.DEPTH_TEST);
    } else if (cloud) {
      cloud.sort(gl, camera.turn, camera.eye);
      gl.uniform1i(this.use(this.gaussians, camera).solid, shown.mode === "ellipsoids" ? 1 : 0);
      gl.bindTexture(gl.TEXTURE_2D, cloud.texture);
      gl.bindVertexArray(cloud.quads);
      gl.drawElements(gl.TRIANGLES, cloud.order.length, gl.UNSIGNED_INT, 0);
    }

    // Lines over everything
    gl.uniform1f(this.use(this.dots, camera).points, 0);
    for (const lines of [shown.mesh && this.mesh, shown.cameras && this.cameras]) {
      if (!lines) continue;
      gl.bindVertexArray(lines.array);
      gl.drawArrays(gl.LINES, 0, lines.count);
    }
    gl.bindVertexArray(null);
    document.body.dataset.drawn = String(Number(document.body.dataset.drawn || 0) + 1);
  }
}

// One pointer turns, two zoom and move; with the right button or Shift, one moves.
function followPointers(viewer) {
  const pointers = new Map();
  const spread = () => {
    const [a, b] = [...pointers.values()];
    return Math.max(Math.hypot(a.x - b.x, a.y - b.y), 1);
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
  });
  canvas.addEventListener("pointermove", (event) => {
    const last = pointers.get(event.pointerId);
    if (!last) return;
    const [right, down] = [event.clientX - last.x, event.clientY - last.y];
    const before = pointers.size === 2 ? spread() : 0;
    pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    if (pointers.size === 2) {
      viewer.zoomBy(before / spread());
      viewer.moveBy(right / 2, down / 2);
    } else if (pointers.size === 1 && (event.buttons & 2 || event.shiftKey)) {
      viewer.moveBy(right, down);
    } else if (pointers.size === 1) {
      viewer.turnBy(0.008 * right, 0.008 * down);
    }
  });
  for (const name of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(name, (event) => pointers.delete(event.pointerId));
  }
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      viewer.zoomBy(Math.exp(0.0015 * event.deltaY * (event.deltaMode === 1 ? 20 : 1)));
    },
    { passive: false },
  );
  const keys = {
    ArrowLeft: () => viewer.turnBy(-0.1, 0),
    ArrowRight: () => viewer.turnBy(0.1, 0),
    ArrowUp: () => viewer.turnBy(0, -0.1),
    ArrowDown: () => viewer.turnBy(0, 0.1),
    "+": () => viewer.zoomBy(0.9),
    "-": () => viewer.zoomBy(1 / 0.9),
    0: () => viewer.reset(),
  };
  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
  });
}

function followControls(viewer) {
  const { shown } = viewer;
  document.getElementById("controls").addEventListener("change", ({ target }) => {
    if (target.name === "cloud") shown.cloud = Number(target.value);
    if (target.name === "mode") shown.mode = target.value;
    if (target.name === "mesh") shown.mesh = target.checked;
    if (target.name === "cameras") {
      shown.cameras = target.checked;
      if (target.checked) viewer.fit();
      else viewer.reset();
    }
    viewer.redraw();
  });
  document.getElementById("front").addEventListener("click", () => viewer.reset());
  document.getElementById("fit").addEventListener("click", () => viewer.fit());
  new ResizeObserver(() => viewer.redraw()).observe(canvas);
}

function start() {
  const gl = canvas.getContext("webgl2", { antialias: true, alpha: false });
  if (!gl) return;
  const still = document.getElementById("still");
  const live = document.querySelectorAll("[data-live]");
  const viewer = new Viewer(gl);
  for (const part of live) part.hidden = false;
  still.hidden = document.getElementById("plain").hidden = true;
  followPointers(viewer);
  followControls(viewer);
  viewer.redraw();

  // A lost context comes back with nothing in it.
  canvas.addEventListener("webglcontextlost", (event) => event.preventDefault());
  canvas.addEventListener("webglcontextrestored", () => {
    const { shown, yaw, pitch, target, distance } = viewer;
    Object.assign(viewer, new Viewer(gl), { shown, yaw, pitch, target, distance, waiting: false });
    viewer.redraw();
  });
}

start();
