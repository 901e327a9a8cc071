// The Policy tab: PushT with the pointer, and with the policy.

import { guarded } from "./errors.js";
import "./policy_words.js";
import { Table } from "./pusht_canvas.js";
import { blob, json, listen } from "./server.js";
import { t } from "./words.js";

const $ = (id) => document.getElementById(id);
const form = $("policy-form");
const table = new Table($("policy-canvas"));
const PERIOD = 100; // ms of a control step
const STEP = 14; // pixels that an arrow key moves the target
const FRAME = 30; // ms between two frames on the screen

let models = [];
let session = null; // its id
let states = []; // the last two, with the time of their arrival
let pointing = null; // where the pointer is, if it is not sent yet
let sending = false;
let dragged = ""; // "", "agent" or "disc"
let opening = false;
let drawn = 0; // when the last frame was drawn

const field = (name) => form.elements.namedItem(name);
const latest = () => states.at(-1)?.it;

// Drawing: the table is shown one control step late, between the last two states.

function mixed(a, b, part) {
  const turn = ((b.block[2] - a.block[2] + 3 * Math.PI) % (2 * Math.PI)) - Math.PI;
  const line = (from, to) => from + (to - from) * part;
  return { ...b, agent: b.agent.map((value, k) => line(a.agent[k], value)),
    block: [line(a.block[0], b.block[0]), line(a.block[1], b.block[1]), a.block[2] + turn * part] };
}

function frame(now) {
  if ($("panel-policy").hidden) return;
  requestAnimationFrame(frame);
  if (now - drawn < FRAME) return;
  drawn = now;
  const [before, last] = states.length > 1 ? states : [states[0], states[0]];
  if (!last) return;
  const part = Math.min(1, Math.max(0, (now - last.when) / PERIOD));
  const jumped = before.it.start !== last.it.start;
  const it = jumped ? last.it : mixed(before.it, last.it, part);
  if (dragged === "disc" || field("disc").checked) it.keep_out = disc();
  table.draw(it, { chunks: field("chunks").checked, recording: it.recording && it.driver === "person", reached: it.solved });
}

// The server's states.

function took(it) {
  if (it.error) throw new Error(it.error);
  if (it.loading) {
    $("policy-status").textContent = t("loading");
    return;
  }
  const before = latest();
  states = [...states.slice(-1), { it, when: performance.now() }];
  if (!before || before.driver !== it.driver || before.solved !== it.solved) told(it);
  figures(it);
}

function told(it) {
  $("policy-status").textContent = it.solved ? t("policy_solved") : t(it.driver === "policy" ? "policy_drives" : "policy_you_drive");
  field("driver").value = it.driver;
  const hand = $("policy-hand");
  hand.dataset.t = it.driver === "policy" ? "policy_to_person" : "policy_to_policy";
  hand.textContent = t(hand.dataset.t);
}

function figures(it) {
  $("policy-coverage").textContent = `${(100 * it.coverage).toFixed(0)} %`;
  $("policy-best").textContent = it.best.toFixed(2);
  $("policy-decision").textContent = it.decision_ms ? t("policy_ms", { ms: it.decision_ms.toFixed(0) }) : "–";
  $("policy-rec").setAttribute("aria-pressed", String(it.recording));
  $("policy-rec").dataset.t = it.recording ? "policy_rec_stop" : "policy_rec";
  const words = t($("policy-rec").dataset.t);
  if ($("policy-rec").textContent !== words) $("policy-rec").textContent = words;
  $("policy-discard").disabled = $("policy-save").disabled = !it.episodes;
  const said = it.episodes || it.recording ? t("policy_count", { episodes: it.episodes, seconds: (it.recorded / 10).toFixed(1) }) : t("policy_rec_help");
  if ($("policy-recorded").textContent !== said) $("policy-recorded").textContent = said;
}

async function open() {
  if (opening) return;
  opening = true;
  try {
    const asked = { checkpoint: field("checkpoint").value, start: 100_000 + Math.floor(Math.random() * 50) };
    const made = await json("/api/policies", { method: "POST", json: asked });
    session = made.id;
    states = [];
    $("policy-status").textContent = t("loading");
    watch(made.id);
  } finally {
    opening = false;
  }
}

let reading = null; // ends the reading of events

const watch = guarded(async (id) => {
  reading?.abort();
  const mine = reading = new AbortController();
  let prepared = false;
  try {
    await listen(`/api/policies/${id}/events`, (it) => {
      if (mine.signal.aborted) return;
      took(it);
      if (!prepared && !it.loading) {
        prepared = true;
        settle();
      }
    }, mine.signal);
  } catch (error) {
    if (mine.signal.aborted) return;
    session = null;
    throw error;
  }
  if (!mine.signal.aborted) session = null; // the server dropped it
});

// What the form says, told to a new session.
function settle() {
  const it = {};
  if (Number(field("delay").value)) Object.assign(it, { delay: Number(field("delay").value), asynchronous: field("asynchronous").value });
  if (field("disc").checked) it.keep_out = disc();
  if (Object.keys(it).length) tell(it);
}

const tell = guarded(async (command) => {
  if (session) took(await json(`/api/policies/${session}`, { method: "POST", json: command }));
});

// The newest place of the pointer, one request at a time.
async function send() {
  if (sending || !pointing || !session) return;
  sending = true;
  const pointer = pointing;
  pointing = null;
  try {
    await json(`/api/policies/${session}`, { method: "POST", json: { pointer } });
  } catch { /* the reader of the events says it */ } finally {
    sending = false;
    if (pointing) send();
  }
}

const disc = () => [Number(field("x").value), Number(field("y").value), Number(field("radius").value)];

let discSent = 0;
function tellDisc(now = false) {
  const rest = discSent + PERIOD - performance.now();
  if (!now && rest > 0) return;
  discSent = performance.now();
  tell({ keep_out: field("disc").checked ? disc() : [] });
}

// Events.

const canvas = $("policy-canvas");
canvas.addEventListener("pointerdown", (event) => {
  const place = table.at(event);
  const [x, y, radius] = disc();
  const agent = latest()?.agent ?? [0, 0];
  const onDisc = field("disc").checked && Math.hypot(place[0] - x, place[1] - y) < radius;
  dragged = onDisc && Math.hypot(place[0] - agent[0], place[1] - agent[1]) > 25 ? "disc" : "agent";
  canvas.setPointerCapture(event.pointerId);
  moved(event);
});
function moved(event) {
  const place = table.at(event);
  if (dragged === "disc") {
    [field("x").value, field("y").value] = place.map(Math.round);
    tellDisc();
  } else if (dragged === "agent" && latest()?.driver === "person") {
    pointing = place;
    send();
  }
}
canvas.addEventListener("pointermove", moved);
for (const kind of ["pointerup", "pointercancel"]) canvas.addEventListener(kind, () => {
  if (dragged === "disc") tellDisc(true);
  dragged = "";
});
canvas.addEventListener("keydown", (event) => {
  const move = { ArrowUp: [0, -1], ArrowDown: [0, 1], ArrowLeft: [-1, 0], ArrowRight: [1, 0] }[event.key];
  if (!move || latest()?.driver !== "person") return;
  event.preventDefault();
  const from = pointing ?? latest().target;
  pointing = from.map((value, k) => Math.min(512, Math.max(0, value + STEP * move[k])));
  send();
});
$("policy-hand").addEventListener("click", () => tell({ driver: latest()?.driver === "policy" ? "person" : "policy" }));
$("policy-restart").addEventListener("click", () => tell({ restart: true }));
$("policy-rec").addEventListener("click", () => tell({ record: !latest()?.recording }));
$("policy-discard").addEventListener("click", () => tell({ discard: true }));
$("policy-save").addEventListener("click", guarded(async () => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await blob(`/api/policies/${session}/demonstrations`));
  link.download = "pusht-demonstrations.npz";
  link.click();
  URL.revokeObjectURL(link.href);
  $("policy-train-help").hidden = false;
}));
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("input", (event) => {
  if (["x", "y", "radius"].includes(event.target.name) && event.target.reportValidity()) tellDisc();
});
form.addEventListener("change", guarded(async (event) => {
  const name = event.target.name;
  if (name === "driver") tell({ driver: field("driver").value });
  if (name === "delay" || name === "asynchronous") tell({ delay: Number(field("delay").value), asynchronous: field("asynchronous").value });
  if (name === "disc") $("policy-disc-fields").hidden = !field("disc").checked;
  if (["disc", "x", "y", "radius"].includes(name)) tellDisc(true);
  if (name === "checkpoint") {
    fit();
    const old = session;
    await open();
    if (old) json(`/api/policies/${old}`, { method: "DELETE" }).catch(() => {});
  }
}));
form.addEventListener("input", (event) => event.target.name === "delay" && labels());
form.addEventListener("change", (event) => event.target.name === "asynchronous" && fit());

// Fields that the model can use.

function fit() {
  const it = models.find((one) => one.id === field("checkpoint").value);
  if (!it) return;
  const before = field("asynchronous").value;
  field("asynchronous").replaceChildren(...it.methods.map((name) => new Option(t(`policy_${name}`), name)));
  field("asynchronous").value = it.methods.includes(before) ? before : it.methods[0];
  field("delay").max = field("asynchronous").value === "prefix" ? it.prefix : it.most_delay;
  labels();
}

function labels() {
  const steps = Number(field("delay").value);
  $("policy-delay").textContent = t("policy_steps", { steps, seconds: (steps / 10).toFixed(1) });
  $("policy-method").hidden = steps === 0;
}

let needs = "";

function show() {
  $("policy-needs").hidden = !needs;
  $("policy-needs").textContent = needs ? t("policy_needs", { command: needs }) : "";
  form.hidden = needs !== "";
  document.querySelector(".policy-stage").hidden = needs !== "";
}

export function spoken() {
  show();
  fit();
  if (!latest()) return;
  told(latest());
  figures(latest());
}

async function offer() {
  models = (await json("/api/models")).filter((it) => it.kind === "policy");
  const names = models.map((it) => it.id);
  const before = field("checkpoint").value;
  field("checkpoint").replaceChildren(...names.map((name) => new Option(name, name)));
  field("checkpoint").value = names.includes(before) ? before : names[0] ?? "";
  fit();
}

export const shown = guarded(async () => {
  if (needs || !models.length) return;
  requestAnimationFrame(frame);
  if (!session) await open();
  else if (reading?.signal.aborted) watch(session);
});

// Nobody watches: the simulation waits, and is dropped after a minute.
function pause() {
  const away = document.hidden || $("panel-policy").hidden;
  if (away) reading?.abort();
  else shown();
}
document.addEventListener("visibilitychange", pause);
new MutationObserver(pause).observe($("panel-policy"), { attributes: true, attributeFilter: ["hidden"] });

export async function begin() {
  needs = (await json("/api/policies")).simulator_needs;
  show();
  await offer();
}
