// A line chart as SVG: steps to the right, values upward.

const HEIGHT = 240;
const LEFT = 56;
const RIGHT = 12;
const TOP = 22;
const BOTTOM = 28;
const TICKS = 4;
const NAMESPACE = "http://www.w3.org/2000/svg";

function element(name, attributes, text = "") {
  const made = document.createElementNS(NAMESPACE, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  return made;
}

function rounded(value, span) {
  return value.toFixed(Math.max(0, Math.min(4, 1 - Math.floor(Math.log10(span || 1)))));
}

/** lines: [{name, points: [[step, value], ...]}]; total: last step; border: a step to mark;
 *  width: px. */
export function chart(lines, { total, border, width }) {
  const svg = element("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, role: "img" });
  const values = lines.flatMap((line) => line.points.map(([, value]) => value));
  if (!values.length) return svg;
  const low = values.reduce((a, b) => Math.min(a, b));
  const high = values.reduce((a, b) => Math.max(a, b));
  const span = high - low || Math.abs(high) || 1;
  const x = (step) => LEFT + (step / total) * (width - LEFT - RIGHT);
  const y = (value) => TOP + (1 - (value - low) / span) * (HEIGHT - TOP - BOTTOM);
  svg.append(
    element("title", {}, `${lines.map((line) => line.name).join(", ")}, ${total} steps`),
  );
  for (let k = 0; k <= TICKS; k++) {
    const value = low + (k / TICKS) * span;
    const step = Math.round((k / TICKS) * total);
    svg.append(
      element("line", { class: "axis", x1: LEFT, x2: width - RIGHT, y1: y(value), y2: y(value) }),
      element("text", { x: LEFT - 6, y: y(value) + 4, "text-anchor": "end" }, rounded(value, span)),
      element("text", { x: x(step), y: HEIGHT - 8, "text-anchor": k === TICKS ? "end" : "middle" }, step),
    );
  }
  svg.append(
    element("line", { class: "axis", x1: x(border), x2: x(border), y1: TOP, y2: HEIGHT - BOTTOM }),
  );
  lines.forEach((line, k) => {
    const points = line.points.map(([step, value]) => `${x(step)},${y(value)}`).join(" ");
    svg.append(
      element("polyline", { class: `line-${k}`, points }),
      element("text", { class: `name-${k}`, x: LEFT + k * 140, y: 14 }, line.name),
    );
  });
  return svg;
}
