// The page of a running training: asks for new rows and previews, and draws them.

import { chart } from "./chart.js";

const EVERY_MS = 2000;
const LEAST_WIDTH = 280; // px of a chart
const PADDING = 14; // px round a chart
const AT_ONCE = 2000; // rows of one answer: there may be more
const part = (id) => document.getElementById(id);

const rows = [];
let next = 0;
let serving = ""; // the process that the rows are from
let shown = { sheet: "", preview: "" };
let chosen = ""; // a sheet that the viewer chose; "" follows the newest

const ask = async (path) => {
  const answer = await fetch(path);
  if (!answer.ok) throw new Error(String(answer.status));
  return answer.json();
};

async function newRows() {
  let count = AT_ONCE;
  let found = false;
  while (count === AT_ONCE) {
    const answer = await ask(`metrics?start=${next}`);
    if (answer.again) rows.length = 0; // the run was taken back to an earlier step
    found ||= answer.again || answer.rows.length > 0;
    rows.push(...answer.rows);
    next = answer.next;
    count = answer.again ? AT_ONCE : answer.rows.length;
  }
  return found;
}

function drawState(facts) {
  document.title = `${facts.name}: training`;
  part("title").textContent = facts.name;
  part("facts").textContent = `config ${facts.config}, on ${facts.device}, ${facts.folder}`;
  const last = rows.at(-1);
  if (!last) return;
  const steps = facts.steps[last.stage];
  part("state").textContent = facts.finished
    ? "Finished: the avatar is in the run's folder."
    : `${last.stage} stage, step ${last.step} of ${steps}`;
  part("progress").value = facts.finished ? 1 : last.step / steps;
}

function drawFigures() {
  const latest = (key) => rows.findLast((row) => Number.isFinite(row[key]))?.[key];
  const figures = [
    ["PSNR of the head", latest("psnr_head"), 2, "dB"],
    ["PSNR of the frame", latest("psnr"), 2, "dB"],
    ["Loss", latest("loss"), 4, ""],
    ["Gaussians", latest("gaussians"), 0, ""],
  ];
  part("figures").replaceChildren(
    ...figures
      .filter(([, value]) => value !== undefined)
      .map(([name, value, digits, unit]) => {
        const box = document.createElement("div");
        const number = document.createElement("b");
        const label = document.createElement("span");
        number.textContent = `${value.toFixed(digits)} ${unit}`.trim();
        label.textContent = name;
        box.append(number, label);
        return box;
      }),
  );
}

// Steps of both stages follow each other on the axis.
function pointsOf(key, facts) {
  const before = { coarse: 0, fine: facts.steps.coarse };
  return rows
    .filter((row) => Number.isFinite(row[key]) && row.stage in before)
    .map((row) => [before[row.stage] + row.step, row[key]]);
}

function drawCharts(facts) {
  const total = facts.steps.coarse + facts.steps.fine;
  const draw = (id, lines) => {
    const drawn = lines.map(([key, name]) => ({ name, points: pointsOf(key, facts) }));
    const width = Math.max(LEAST_WIDTH, part(id).clientWidth - 2 * PADDING);
    part(id).replaceChildren(chart(drawn, { total, border: facts.steps.coarse, width }));
  };
  draw("quality", [
    ["psnr_head", "head box"],
    ["psnr", "whole frame"],
  ]);
  draw("loss", [["loss", "loss"]]);
}

const step = (name) => {
  const [, stage, digits] = name.split(/[_.]/);
  return `${stage} stage, step ${Number(digits)}`;
};

function drawSheets(names) {
  if (!names.length) return;
  const name = names.includes(chosen) ? chosen : names.at(-1);
  if (name === shown.sheet && part("earlier")?.options.length === names.length) return;
  const image = document.createElement("img");
  image.src = `previews/${name}`;
  image.alt = `True and rendered held-out frames, ${step(name)}`;
  const menu = document.createElement("select");
  menu.id = "earlier";
  menu.setAttribute("aria-label", "Sheet of which step");
  menu.append(...names.toReversed().map((one) => new Option(step(one), one)));
  menu.value = name;
  menu.onchange = () => {
    chosen = menu.value === names.at(-1) ? "" : menu.value;
    drawSheets(names);
  };
  part("sheet").replaceChildren(image, menu);
  shown.sheet = name;
}

function drawVideo(name) {
  if (!name || name === shown.preview) return;
  const playing = part("video").querySelector("video");
  if (playing && !playing.paused) return; // it is being watched
  const video = document.createElement("video");
  video.src = `previews/${name}`;
  video.controls = true;
  video.preload = "metadata";
  const label = document.createElement("p");
  label.className = "quiet";
  label.textContent = step(name);
  part("video").replaceChildren(video, label);
  shown.preview = name;
}

// Names sort by stage, then by step; the coarse stage comes first in the alphabet too.
async function renew() {
  const facts = await ask("run");
  if (facts.process !== serving) {
    serving = facts.process;
    rows.length = next = 0;
  }
  const found = await newRows();
  drawState(facts);
  if (found) {
    drawFigures();
    drawCharts(facts);
  }
  drawSheets(facts.previews.filter((name) => name.startsWith("sheet_")));
  drawVideo(facts.previews.filter((name) => name.startsWith("preview_")).at(-1));
}

let reached = false;
for (;;) {
  try {
    await renew();
    reached = true;
  } catch (error) {
    if (reached && error instanceof TypeError)
      part("state").textContent = "The training process has ended or cannot be reached.";
  }
  await new Promise((done) => setTimeout(done, EVERY_MS));
}
