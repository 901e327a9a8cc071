// The Plan tab: points in a maze, candidates that appear out of noise, the ball that drives the plan, and clips.

import { guarded } from "./errors.js";
import { MazeCanvas } from "./maze_canvas.js";
import { edit } from "./maze_editor.js";
import "./plan_words.js";
import { follow, json } from "./server.js";
import { t } from "./words.js";

const $ = (id) => document.getElementById(id);
const form = $("plan-form");
const canvas = new MazeCanvas($("plan-canvas"));
const still = matchMedia("(prefers-reduced-motion: reduce)");
const STATE_MS = 90; // of a denoising step on the screen, at least
const SPEED = 1; // times the ball's own

let models = [];
let points = { start: [1, 1], goal: [1, 1], via: [] };
let result = null; // of the last plan
let running = null; // id of the job
let drawing = 0; // the animation that may draw; others end

const field = (name) => form.elements.namedItem(name);
const model = () => models.find((it) => it.id === field("checkpoint").value);
const rounded = (place) => place.map((value) => Math.round(value * 100) / 100);
const budget = () => Math.round(2 * 10 ** (field("budget").value / 100 * 2.7)); // 2 ms .. 1 s

// Points and their fields.

function all() {
  return [["start", points.start], ...points.via.map((place, k) => [k, place]), ["goal", points.goal]];
}

function put(name, place) {
  if (typeof name === "number") points.via[name] = place;
  else points[name] = place;
}

function pointFields() {
  const rows = all().map(([name, place]) => {
    const row = document.createElement("div");
    row.className = "plan-point";
    const [label, dot] = [document.createElement("span"), document.createElement("span")];
    const kind = typeof name === "number" ? "via" : name;
    dot.className = `dot ${kind}`;
    label.append(dot, typeof name === "number" ? t("plan_stop", { k: name + 1 }) : t(`plan_the_${name}`));
    row.append(label);
    ["plan_row", "plan_column"].forEach((key, axis) => {
      const wrapped = document.createElement("label");
      const input = document.createElement("input");
      Object.assign(input, { type: "number", step: "any", value: place[axis], required: true });
      input.setAttribute("aria-label", `${label.textContent}: ${t(key)}`);
      input.addEventListener("change", () => {
        const moved = [...all().find(([other]) => other === name)[1]];
        moved[axis] = Number(input.value);
        put(name, moved);
        changed();
      });
      wrapped.append(t(key), input);
      row.append(wrapped);
    });
    if (kind === "via") {
      const away = document.createElement("button");
      Object.assign(away, { type: "button", textContent: "✕" });
      away.setAttribute("aria-label", t("plan_remove", { k: name + 1 }));
      away.addEventListener("click", () => {
        points.via.splice(name, 1);
        changed();
        pointFields();
      });
      row.append(away);
    }
    return row;
  });
  $("plan-points").replaceChildren(...rows);
}

function cells(rows) {
  return rows.flatMap((row, i) => [...row].flatMap((tile, j) => (tile === "#" ? [] : [[i, j]])));
}

function randomPoints() {
  const free = cells(canvas.rows);
  const one = () => free[Math.floor(Math.random() * free.length)];
  points = { start: one(), goal: one(), via: [] };
  for (let k = 0; k < 20 && Math.hypot(points.start[0] - points.goal[0], points.start[1] - points.goal[1]) < 4; k++) points.goal = one();
  changed();
  pointFields();
}

// Drawing.

function changed() {
  drawing += 1;
  result = null;
  $("plan-again").hidden = true;
  $("plan-status").textContent = $("plan-note").textContent = "";
  draw();
}

function draw(over = () => {}) {
  canvas.ground(points);
  over();
  canvas.marks(points);
}

function drawCandidates(candidates, chosen = -1) {
  candidates.forEach((path, k) => k !== chosen && canvas.path(path, 0.035, 0.35));
  if (chosen >= 0 && candidates[chosen]) canvas.path(candidates[chosen], 0.07, 0.95);
}

const between = (a, b, part) => a.map((value, k) => value + (b[k] - value) * part);

// Call `each` with 0 .. 1 for some milliseconds; false if another drawing has begun.
function play(milliseconds, mine, each) {
  return new Promise((resolve) => {
    const began = performance.now();
    const step = (now) => {
      if (mine !== drawing) return resolve(false);
      const part = Math.min(1, Math.max(0, (now - began) / milliseconds));
      each(part);
      return part < 1 ? requestAnimationFrame(step) : resolve(true);
    };
    requestAnimationFrame(step);
  });
}

// The candidates step by step, from frame `first` on; steps that came faster than can be seen are slowed down.
async function appear(frames, mine, first = 1) {
  const each = Math.min(500, Math.max(STATE_MS, 2200 / frames.length));
  for (let k = first; k < frames.length; k++) {
    const [from, to] = [frames[k - 1].candidates, frames[k].candidates];
    const shown = await play(each, mine, (part) => draw(() => drawCandidates(
      to.map((path, c) => path.map((place, i) => (from[c]?.[i] ? between(from[c][i], place, part) : place))))));
    if (!shown) return false;
    $("plan-status").textContent = t("plan_denoising", { t: frames[k].t.toFixed(2) });
  }
  return true;
}

async function drive(it, mine) {
  const track = it.track;
  if (!track.length) return true;
  return play(track.length * 20 / SPEED, mine, (part) => {
    const at = part * (track.length - 1);
    const k = Math.min(track.length - 2, Math.floor(at));
    draw(() => {
      drawPlan(it);
      canvas.trace(track.slice(0, k + 1));
      canvas.ball(between(track[k], track[k + 1], at - k));
    });
  });
}

function drawPlan(it) {
  const last = it.frames.at(-1)?.candidates ?? [];
  drawCandidates(last.filter((_, k) => k !== it.chosen || last.length !== it.lengths.length));
  canvas.path(it.path, 0.16, 0.3);
  canvas.path(it.path, 0.07, 0.95);
}

async function show(it, seen = 1) {
  const mine = ++drawing;
  if (still.matches) draw(() => drawPlan(it));
  else {
    if (!await appear(it.frames, mine, seen)) return;
    draw(() => drawPlan(it));
    report(it, false);
    if (!await drive(it, mine)) return;
  }
  report(it, true);
  if (it.track.length && still.matches) draw(() => { drawPlan(it); canvas.ball(it.track.at(-1)); });
}

function report(it, driven) {
  const parts = [t("plan_planned", { ...it, ms: Math.round(it.ms) }), t(it.wall_crossing ? "plan_crosses" : "plan_free", {})];
  parts.push(t("plan_predicted", { steps: Math.round(it.arrival_step_predicted) }));
  if (driven && it.track.length) parts.push(it.arrival === null ? t("plan_lost") : t("plan_arrived", { steps: it.arrival }));
  if (driven && it.replans) parts.push(t("plan_replanned", { n: it.replans }));
  $("plan-status").textContent = parts.join(" ");
  $("plan-note").textContent = it.note ? t("plan_no_simulator", { command: it.note.split(": ").at(-1) }) : "";
}

// Planning.

function asked() {
  const it = { checkpoint: field("checkpoint").value, start: points.start, goal: points.goal, via: points.via,
    temperature: Number(field("temperature").value),
    seed: field("seed").value === "" ? Math.floor(Math.random() * 2 ** 32) : Number(field("seed").value) };
  if (field("limited").checked) it.budget_ms = budget();
  else for (const name of ["steps", "candidates"]) it[name] = Number(field(name).value);
  return it;
}

function busy(yes) {
  $("plan-go").disabled = yes;
  $("plan-stop").hidden = !yes;
}

const make = guarded(async () => {
  changed();
  const mine = drawing;
  const { id } = await json("/api/plans", { method: "POST", json: asked() });
  running = id;
  busy(true);
  try {
    let last = null;
    let seen = 0;
    await follow(id, (job) => {
      last = job;
      if (mine !== drawing) return;
      if (job.data.candidates && job.data.frame >= seen) {
        seen = job.data.frame + 1;
        if (!still.matches && seen === 1) draw(() => drawCandidates(job.data.candidates));
        $("plan-status").textContent = t("plan_denoising", { t: job.data.t.toFixed(2) });
      } else if (job.state === "running" && !job.steps) $("plan-status").textContent = t(field("limited").checked ? "plan_measuring" : "loading");
      else if (job.state === "queued") $("plan-status").textContent = t("queued");
    });
    if (last?.state === "failed") throw new Error(last.error);
    if (last?.state === "cancelled") $("plan-status").textContent = t("cancelled");
    if (last?.state !== "done" || mine !== drawing) return;
    result = await json(`/api/jobs/${id}/result`);
    $("plan-again").hidden = false;
  } finally {
    running = null;
    busy(false);
  }
  show(result);
});

// Clips of bodies.

let walking = null;
let clip = null;

const walk = guarded(async () => {
  const it = $("plan-clip-form").elements;
  const asked = { checkpoint: it.namedItem("checkpoint").value,
    max_episode_length: Number(it.namedItem("max_episode_length").value), seed: Number(it.namedItem("seed").value) };
  const { id } = await json("/api/clips", { method: "POST", json: asked });
  walking = id;
  const waiting = (yes) => {
    $("plan-walk").disabled = yes;
    $("plan-walk-stop").hidden = $("plan-walk-progress").hidden = !yes;
  };
  waiting(true);
  try {
    let last = null;
    await follow(id, (job) => {
      last = job;
      $("plan-walk-progress").value = job.progress;
      $("plan-walk-status").textContent = job.state === "running" && !job.steps ? t("loading") : job.state === "running" ? t("running", job) : "";
    });
    if (last?.state === "failed") throw new Error(last.error);
    if (last?.state === "cancelled") $("plan-walk-status").textContent = t("cancelled");
    if (last?.state !== "done") return;
    clip = await json(`/api/jobs/${id}/result`);
    $("plan-walk-image").src = $("plan-walk-save").href = `data:image/gif;base64,${clip.gif}`;
    $("plan-walk-figure").hidden = false;
    walked();
  } finally {
    walking = null;
    waiting(false);
  }
});

function walked() {
  if (!clip) return;
  const values = { steps: clip.steps, value: clip.return.toFixed(1), score: clip.score.toFixed(1) };
  $("plan-walk-status").textContent = t(clip.fell ? "plan_fell" : "plan_walked", values);
}

// Events.

function fit() {
  const it = model();
  if (!it) return;
  canvas.fit(it.maze);
  const free = cells(it.maze);
  const goal = it.maze.flatMap((row, i) => (row.includes("G") ? [[i, row.indexOf("G")]] : []))[0] ?? free.at(-1);
  const far = ([i, j]) => Math.hypot(i - goal[0], j - goal[1]);
  points = { start: free.reduce((best, place) => (far(place) > far(best) ? place : best), free[0]), goal, via: [] };
  changed();
  pointFields();
}

function limits() {
  const limited = field("limited").checked;
  $("plan-budget").hidden = !limited;
  for (const part of form.querySelectorAll("[data-if=unlimited]")) part.hidden = limited;
  for (const name of ["steps", "candidates"]) field(name).disabled = limited;
  $("plan-budget-ms").textContent = t("plan_ms", { ms: budget() });
}

let dragged = null;

$("plan-canvas").addEventListener("pointerdown", (event) => {
  const place = canvas.at(event);
  const near = all().find(([, other]) => Math.hypot(other[0] - place[0], other[1] - place[1]) < 0.3);
  if (near) dragged = near[0];
  else {
    if (!canvas.free(place)) return;
    const tool = field("tool").value;
    dragged = tool === "via" ? points.via.length : tool;
    put(dragged, rounded(place));
  }
  $("plan-canvas").setPointerCapture(event.pointerId);
  changed();
});
$("plan-canvas").addEventListener("pointermove", (event) => {
  const place = canvas.at(event);
  $("plan-canvas").style.cursor = canvas.free(place) ? "crosshair" : "default";
  if (dragged === null || !canvas.free(place)) return;
  put(dragged, rounded(place));
  changed();
});
for (const kind of ["pointerup", "pointercancel"]) $("plan-canvas").addEventListener(kind, () => {
  if (dragged === null) return;
  if (dragged === "start" && kind === "pointerup" && field("tool").value === "start") field("tool").value = "goal";
  dragged = null;
  pointFields();
});
form.addEventListener("submit", (event) => {
  event.preventDefault();
  make();
});
form.addEventListener("change", (event) => event.target.name === "checkpoint" && fit());
form.addEventListener("input", limits);
$("plan-add").addEventListener("click", () => {
  const free = cells(canvas.rows);
  points.via.push(free[Math.floor(free.length / 2 + points.via.length) % free.length]);
  changed();
  pointFields();
});
$("plan-random").addEventListener("click", randomPoints);
$("plan-again").addEventListener("click", () => result && show(result));
$("plan-stop").addEventListener("click", guarded(async () => {
  if (running) await json(`/api/jobs/${running}`, { method: "DELETE" });
}));
$("plan-clip-form").addEventListener("submit", (event) => {
  event.preventDefault();
  walk();
});
$("plan-walk-stop").addEventListener("click", guarded(async () => {
  if (walking) await json(`/api/jobs/${walking}`, { method: "DELETE" });
}));

let needs = {};

function notes() {
  $("plan-clips").hidden = needs.clips_need !== "" || !models.some((it) => it.body);
  $("plan-clips-need").hidden = !needs.clips_need;
  $("plan-clips-need").textContent = needs.clips_need ? t("plan_clips_need", { command: needs.clips_need }) : "";
  $("plan-note").textContent = needs.drive_needs ? t("plan_no_simulator", { command: needs.drive_needs }) : "";
}

export function spoken() {
  pointFields();
  limits();
  notes();
  walked();
  if (result) report(result, true);
}

async function offer() {
  models = (await json("/api/models")).filter((it) => it.kind === "planner");
  const fill = (select, chosen, names) => {
    const before = select.value;
    select.replaceChildren(...names.map((name) => new Option(name, name)));
    select.value = names.includes(before) ? before : chosen ?? "";
    return before !== select.value;
  };
  const mazes = models.filter((it) => it.maze.length).map((it) => it.id);
  const bodies = models.filter((it) => it.body).map((it) => it.id);
  fill($("plan-clip-form").elements.namedItem("checkpoint"), bodies.find((it) => it.startsWith("walker")) ?? bodies[0], bodies);
  return fill(field("checkpoint"), mazes[0], mazes);
}

// Models that were trained meanwhile.
export const shown = guarded(async () => {
  if (models.length && await offer()) fit();
});

export async function begin() {
  needs = await json("/api/plans");
  await offer();
  edit(() => canvas.rows);
  fit();
  limits();
  notes();
}
