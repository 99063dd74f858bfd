// The GLSL programs of the renderer.
//
// Pass 1 (`mixSource`) computes one Gaussian a pixel: canonical parameters plus bases times
// coefficients, then activation, projection and colour. It writes four pixels of bits of floats,
// because every WebGL2 can draw into integer textures, but not into those of float32.
// Pass 2 (`splatSource`) draws one quad a Gaussian, back to front.
// Pass 3 (`finishSource`) puts the head over the plate.
//
// All positions are in px of the avatar's own image (pixel centres at whole numbers, y down), whatever
// the size of the picture. The formulas are those of being/splat/torch_rasterizer.py.

/** Fills the screen with one triangle. */
export const SCREEN_VERTEX = `#version 300 es
void main() {
  vec2 corner = vec2(float(gl_VertexID & 1), float(gl_VertexID >> 1)) * 4.0 - 1.0;
  gl_Position = vec4(corner, 0.0, 1.0);
}`;

/**
 * Pass 1. count: of bases; groups: textures of four fields that the bases have; degree: of the
 * spherical harmonics.
 */
export function mixSource(count, groups, degree) {
  const fields = 11 + 3 * (degree + 1) ** 2;
  const all = Math.ceil(fields / 4);
  return `#version 300 es
precision highp float;
precision highp int;
precision highp sampler2DArray;
precision highp isampler2DArray;
const float FIELD_OF_VIEW_MARGIN = 1.3;
const float EIGENVALUE_FLOOR = 0.1;
const float LOW_PASS = 0.3;
const float NEAR_PLANE = 0.2;
const float ALPHA_MIN = 1.0 / 255.0;
const float TILE = 16.0;
const float HALF_LOG2E = 0.72134752;
uniform sampler2DArray canonical;
uniform isampler2DArray bases;
uniform sampler2D weights;
uniform int number;
uniform mat3 rotation;
uniform vec3 translation;
uniform float focal;
uniform float size;
layout(location = 0) out uvec4 shape;
layout(location = 1) out uvec4 rest;
layout(location = 2) out uvec4 rectangle;
layout(location = 3) out uvec4 colour;

void skip() {
  shape = rest = colour = uvec4(0u);
  rectangle = floatBitsToUint(vec4(0.0));
}

bool finite(float x) {
  return abs(x) < 1e30;
}

void main() {
  ivec2 place = ivec2(gl_FragCoord.xy);
  skip();
  if (place.y * textureSize(canonical, 0).x + place.x >= number) return;

  // Canonical parameters plus offsets, four fields a group.
  vec4 field[${all}];
  for (int g = 0; g < ${all}; g++) field[g] = texelFetch(canonical, ivec3(place, g), 0);
  for (int k = 0; k < ${count}; k++) {
    for (int g = 0; g < ${groups}; g++) {
      vec4 basis = vec4(texelFetch(bases, ivec3(place, k * ${groups} + g), 0));
      field[g] += texelFetch(weights, ivec2(g, k), 0) * basis;
    }
  }
  vec3 mean = field[0].xyz;
  vec3 scale = exp(vec3(field[0].w, field[1].xy));
  vec4 q = vec4(field[1].zw, field[2].xy);
  float opacity = 1.0 / (1.0 + exp(-field[2].z));
  float lengthOfQ = length(q);
  q /= lengthOfQ;

  // Centre on the screen.
  vec3 view = rotation * mean + translation;
  if (!(view.z > NEAR_PLANE) || lengthOfQ < 1e-10 || !(opacity >= ALPHA_MIN)) return;
  vec2 slope = view.xy / view.z;
  vec2 centre = focal * slope + 0.5 * (size - 1.0);
  float limit = FIELD_OF_VIEW_MARGIN * size / (2.0 * focal);
  vec2 clamped = clamp(slope, -limit, limit);

  // The covariance on the screen. Rows of the Jacobian times the rotation of the camera.
  float magnified = focal / view.z;
  vec3 row2 = vec3(rotation[0].z, rotation[1].z, rotation[2].z);
  vec3 jacobianX = magnified * (vec3(rotation[0].x, rotation[1].x, rotation[2].x) - clamped.x * row2);
  vec3 jacobianY = magnified * (vec3(rotation[0].y, rotation[1].y, rotation[2].y) - clamped.y * row2);
  float w = q.x, x = q.y, y = q.z, z = q.w;
  mat3 turn = mat3(  // columns
    1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y + w * z), 2.0 * (x * z - w * y),
    2.0 * (x * y - w * z), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z + w * x),
    2.0 * (x * z + w * y), 2.0 * (y * z - w * x), 1.0 - 2.0 * (x * x + y * y));
  vec3 axisX = (jacobianX * turn) * scale;
  vec3 axisY = (jacobianY * turn) * scale;
  float xx = dot(axisX, axisX), xy = dot(axisX, axisY), yy = dot(axisY, axisY);
  vec3 area = cross(axisX, axisY);
  float determinant = dot(area, area) + LOW_PASS * (xx + yy) + LOW_PASS * LOW_PASS;
  xx += LOW_PASS;
  yy += LOW_PASS;

  // The tiles that a square round the centre meets, cut to the ellipse where alpha is 1/255.
  float middle = 0.5 * (xx + yy);
  float largest = middle + sqrt(max(EIGENVALUE_FLOOR, middle * middle - determinant));
  float radius = ceil(3.0 * sqrt(largest));
  if (!finite(centre.x) || !finite(centre.y) || !finite(largest)) return;
  float tiles = ceil(size / TILE);
  vec2 first = clamp(floor((centre - radius) / TILE), 0.0, tiles) * TILE - 0.5;
  vec2 last = clamp(floor((centre + radius + (TILE - 1.0)) / TILE), 0.0, tiles) * TILE - 0.5;
  vec2 reach = sqrt(2.0 * log(255.0 * opacity) * vec2(xx, yy)) * 1.0001 + 0.02;
  first = max(first, centre - reach);
  last = min(last, centre + reach);
  if (!(first.x < last.x) || !(first.y < last.y)) return;

  // Colour as seen from the camera's centre.
  vec3 sh[${(degree + 1) ** 2}];
${Array.from({ length: (degree + 1) ** 2 }, (_, k) => {
  const part = (c) => {
    const at = 11 + 3 * k + c;
    return `field[${at >> 2}].${"xyzw"[at & 3]}`;
  };
  return `  sh[${k}] = vec3(${part(0)}, ${part(1)}, ${part(2)});`;
}).join("\n")}
  vec3 d = normalize(mean + translation * rotation);  // rotation^T translation
  vec3 rgb = 0.28209479177387814 * sh[0];
${harmonics(degree)}
  rgb = max(rgb + 0.5, 0.0);

  // exp(-d^T covariance^-1 d / 2) = 2^-(u^2 + v^2), u = a (dx - lean dy), v = b dy.
  float a = sqrt(HALF_LOG2E * yy / determinant), b = sqrt(HALF_LOG2E / yy);
  shape = floatBitsToUint(vec4(centre, a, xy / yy));
  rest = floatBitsToUint(vec4(b, opacity, 0.0, 0.0));
  rectangle = floatBitsToUint(vec4(first, last));
  colour = floatBitsToUint(vec4(rgb, view.z));
}`;
}

/** The terms of the spherical harmonics after the constant one. */
function harmonics(degree) {
  const lines = [];
  if (degree > 0) lines.push("rgb += 0.4886025119029199 * (-d.y * sh[1] + d.z * sh[2] - d.x * sh[3]);");
  if (degree > 1) {
    lines.push(
      "vec3 s = d * d;",
      "rgb += 1.0925484305920792 * (d.x * d.y * sh[4] - d.y * d.z * sh[5] - d.x * d.z * sh[7]);",
      "rgb += 0.31539156525252005 * (2.0 * s.z - s.x - s.y) * sh[6];",
      "rgb += 0.5462742152960396 * (s.x - s.y) * sh[8];",
    );
  }
  if (degree > 2) {
    lines.push(
      "rgb += -0.5900435899266435 * (d.y * (3.0 * s.x - s.y) * sh[9] + d.x * (s.x - 3.0 * s.y) * sh[15]);",
      "rgb += 2.890611442640554 * d.x * d.y * d.z * sh[10];",
      "rgb += -0.4570457994644658 * (4.0 * s.z - s.x - s.y) * (d.y * sh[11] + d.x * sh[13]);",
      "rgb += 0.3731763325901154 * d.z * (2.0 * s.z - 3.0 * s.x - 3.0 * s.y) * sh[12];",
      "rgb += 1.445305721320277 * d.z * (s.x - s.y) * sh[14];",
    );
  }
  return lines.map((line) => `  ${line}`).join("\n");
}

/** Pass 2: the corners of a Gaussian's quad. */
export const SPLAT_VERTEX = `#version 300 es
precision highp float;
precision highp int;
precision highp usampler2D;
uniform usampler2D shapes;
uniform usampler2D rests;
uniform usampler2D rectangles;
uniform usampler2D colours;
uniform float size;
layout(location = 0) in uint gaussian;
flat out vec4 shape;
flat out vec2 rest;
flat out vec3 colour;
void main() {
  int width = textureSize(shapes, 0).x;
  ivec2 place = ivec2(int(gaussian) % width, int(gaussian) / width);
  vec4 rectangle = uintBitsToFloat(texelFetch(rectangles, place, 0));
  shape = uintBitsToFloat(texelFetch(shapes, place, 0));
  rest = uintBitsToFloat(texelFetch(rests, place, 0)).xy;
  colour = uintBitsToFloat(texelFetch(colours, place, 0)).rgb;
  vec2 at = vec2((gl_VertexID & 1) == 0 ? rectangle.x : rectangle.z,
                 (gl_VertexID & 2) == 0 ? rectangle.y : rectangle.w);
  gl_Position = vec4((at + 0.5) * 2.0 / size - 1.0, 0.0, 1.0);
}`;

/** Pass 2: the alpha of a pixel. */
export const SPLAT_FRAGMENT = `#version 300 es
precision highp float;
uniform float pitch;  // px of the avatar's image for each px of the picture
flat in vec4 shape;
flat in vec2 rest;
flat in vec3 colour;
out vec4 result;
void main() {
  vec2 d = gl_FragCoord.xy * pitch - 0.5 - shape.xy;
  float u = shape.z * (d.x - shape.w * d.y), v = rest.x * d.y;
  float alpha = min(0.99, rest.y * exp2(-(u * u + v * v)));
  if (alpha < 1.0 / 255.0) discard;
  result = vec4(colour * alpha, alpha);
}`;

/**
 * Pass 3. `planar` plates are Y, U and V (BT.709, limited range) of a video, stacked over their
 * mattes where there are any; others are one RGB picture.
 */
export const FINISH_FRAGMENT = `#version 300 es
precision highp float;
uniform sampler2D head;
uniform sampler2D luma;
uniform sampler2D chromaBlue;
uniform sampler2D chromaRed;
uniform sampler2D picture;
uniform sampler2D background;
uniform vec2 extent;  // px of the picture
uniform int plate;  // 0: none, 1: planar, 2: one RGB picture
uniform bool stacked;  // the mattes lie under the plates
uniform bool interleaved;  // chromaBlue holds both
uniform bool transparent;
out vec4 result;

vec3 plateColour(vec2 at) {
  if (plate == 2) return texture(picture, at).rgb;
  vec2 place = stacked ? vec2(at.x, at.y * 0.5) : at;
  float y = texture(luma, place).r * 255.0;
  if (stacked) place.y = min(place.y, 0.5 - 0.5 / float(textureSize(chromaBlue, 0).y));
  vec2 chroma = interleaved ? texture(chromaBlue, place).rg
                            : vec2(texture(chromaBlue, place).r, texture(chromaRed, place).r);
  chroma = chroma * 255.0 - 128.0;
  float light = (y - 16.0) / 219.0;
  vec3 rgb = vec3(light + 1.5748 * chroma.y / 224.0,
                  light - 0.187324 * chroma.x / 224.0 - 0.468124 * chroma.y / 224.0,
                  light + 1.8556 * chroma.x / 224.0);
  return clamp(rgb, 0.0, 1.0);
}

void main() {
  vec2 at = vec2(gl_FragCoord.x, extent.y - gl_FragCoord.y) / extent;
  vec4 front = texelFetch(head, ivec2(gl_FragCoord.x, extent.y - gl_FragCoord.y), 0);
  float through = 1.0 - front.a;
  if (plate == 0) {
    result = clamp(front, 0.0, 1.0);
    return;
  }
  vec3 behind = plateColour(at);
  if (!transparent) {
    result = vec4(clamp(front.rgb + through * behind, 0.0, 1.0), 1.0);
    return;
  }
  // What of the plate is torso: plate = torso + (1 - matte) background.
  float matte = (texture(luma, vec2(at.x, 0.5 + at.y * 0.5)).r * 255.0 - 16.0) / 219.0;
  matte = clamp(matte, 0.0, 1.0);
  vec3 torso = clamp(behind - (1.0 - matte) * texture(background, at).rgb, 0.0, matte);
  float alpha = clamp(front.a + through * matte, 0.0, 1.0);
  result = vec4(clamp(front.rgb + through * torso, 0.0, alpha), alpha);
}`;
