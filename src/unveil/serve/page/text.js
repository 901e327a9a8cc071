// The Text tab: continue a text, fill gaps, or chat; watch the tokens, mask some, and let the model fill them again.

import { guarded } from "./errors.js";
import { follow, json } from "./server.js";
import "./text_words.js";
import * as tokens from "./tokens.js";
import { t } from "./words.js";

const $ = (id) => document.getElementById(`text-${id}`);
const USUAL = { // of `unveil sample text` and `unveil chat`
  prompt: { order: "first-hitting", temperature: 1, steps: 64, block: 0 },
  infill: { order: "first-hitting", temperature: 1, steps: 64, block: 0 },
  chat: { order: "confidence", temperature: 0, steps: 0, block: 32 },
};
const FRAME = 60; // milliseconds between two steps that are played

let models = [];
let orders = [];
let running = null;
let turns = []; // of the chat, the model's last answer among them
let written = null; // the task of the tokens that are shown
let playing = 0;

const task = () => document.querySelector("input[name=text-task]:checked").value;
const model = () => models.find((it) => it.id === $("checkpoint").value);

function fit() {
  const it = model();
  $("go").disabled = !it;
  if (!it) return;
  $("infills").hidden = it.window > 0;
  if (it.window > 0 && task() === "infill") document.querySelector("input[name=text-task]").checked = true;
  $("orders").hidden = it.window === 1;
  $("blocks").hidden = it.window > 0;
  for (const part of document.querySelectorAll("#panel-text [data-task]"))
    part.hidden = !part.dataset.task.split(" ").includes(task());
  $("untuned").hidden = task() !== "chat" || it.chats;
  const before = $("order").value;
  $("order").replaceChildren(...orders.map((name) => new Option(t(`order_${name}`), name)));
  $("order").value = before || USUAL[task()].order;
  $("length").max = $("gap").max = it.context;
  controls();
}

function usual() {
  for (const [name, value] of Object.entries(USUAL[task()])) $(name).value = value;
  fit();
}

const number = (name) => ($(name).value === "" || $(name).closest("[hidden]") ? {} : { [name]: Number($(name).value) });

function settings() {
  const asked = { checkpoint: $("checkpoint").value, ...number("temperature"), ...number("steps"), ...number("block") };
  if (!$("orders").hidden) asked.order = $("order").value;
  return asked;
}

async function run(asked) {
  stopPlaying();
  running = "asked";
  controls();
  let last = null;
  try {
    const { id } = await json("/api/texts", { method: "POST", json: asked });
    running = id;
    controls();
    await follow(id, (job) => {
      last = job;
      $("progress").value = job.progress;
      $("status").textContent = job.state === "failed" ? "" : job.state === "running" && !job.steps ? t("loading") : t(job.state, job);
      if (job.data.tokens) tokens.show(job.data.tokens, job.steps, false);
    });
    if (last.state === "failed") throw new Error(last.error);
    if (last.state !== "done") return null;
    const made = await json(`/api/jobs/${id}/result`);
    const count = made.tokens.filter((it) => it.step).length;
    $("status").textContent = t("text_done", { count, steps: made.steps, seed: made.seed });
    tokens.show(made.tokens, made.steps, masks());
    return made;
  } finally {
    running = null;
    if (last?.state !== "done" && last?.data.tokens) tokens.show(last.data.tokens, last.steps, masks());
    controls();
  }
}

// Whether this model can fill single tokens again.
const masks = () => model()?.window === 0;

const write = guarded(async () => {
  if (running) return;
  const asked = { ...settings(), ...number("seed") };
  if (task() === "chat" && !$("message").value.trim()) return $("message").focus();
  tokens.clear();
  written = task();
  if (written === "prompt") Object.assign(asked, { prompt: $("prompt").value }, number("length"));
  if (written === "infill") asked.infill = $("pattern").value;
  if (written === "chat") {
    const content = $("message").value.trim();
    turns = [...turns, { role: "user", content }];
    $("message").value = "";
    Object.assign(asked, { messages: turns }, number("length"));
    conversation();
  }
  const made = await run(asked);
  if (written === "chat") answered(made);
  return undefined;
});

const fill = guarded(async () => {
  const asked = { ...settings(), tokens: tokens.asked() };
  if (written === "chat") asked.messages = turns.at(-1)?.role === "assistant" ? turns.slice(0, -1) : turns;
  const made = await run(asked);
  if (written === "chat") answered(made);
});

function answered(made) {
  if (!made) return;
  if (turns.at(-1)?.role === "assistant") turns.pop();
  turns.push({ role: "assistant", content: made.text });
}

// The chat above the sheet; the last answer is in the sheet itself.
function conversation() {
  const before = turns.at(-1)?.role === "assistant" ? turns.slice(0, -1) : turns;
  $("turns").replaceChildren(...before.map(({ role, content }) => {
    const [item, who] = [document.createElement("li"), document.createElement("b")];
    item.dataset.role = role;
    who.textContent = t(`text_${role}`);
    item.append(who, document.createTextNode(content));
    return item;
  }));
}

function controls() {
  const [busy, any] = [running !== null, tokens.all().length > 0];
  $("go").disabled = busy || !model();
  $("progress").hidden = !busy;
  $("stop").hidden = !busy || running === "asked"; // there is nothing to stop yet
  $("sheet").hidden = !any;
  $("tools").hidden = busy || !any;
  $("turns").hidden = written !== "chat" || !turns.length;
  $("fill").disabled = busy || !tokens.open() || !masks();
  $("fill").hidden = $("help").hidden = !masks();
  $("step").max = tokens.steps();
  shownStep(tokens.steps());
}

function shownStep(step) {
  $("step").value = step;
  $("shown-step").textContent = t("text_step", { step, steps: tokens.steps() });
}

function stopPlaying() {
  clearInterval(playing);
  playing = 0;
}

function play() {
  stopPlaying();
  let step = 0;
  playing = setInterval(() => {
    tokens.at(step);
    shownStep(step);
    if (step >= tokens.steps()) stopPlaying();
    step += 1;
  }, FRAME);
}

$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  write();
});
$("tasks").addEventListener("change", usual);
$("checkpoint").addEventListener("change", fit);
$("fill").addEventListener("click", fill);
$("play").addEventListener("click", play);
$("step").addEventListener("input", () => {
  stopPlaying();
  tokens.at(Number($("step").value));
  shownStep(Number($("step").value));
});
$("insert").addEventListener("click", () => {
  const [area, gap] = [$("pattern"), `[*${$("gap").value || 8}]`];
  area.setRangeText(gap, area.selectionStart, area.selectionEnd, "end");
  area.focus();
});
$("new").addEventListener("click", () => {
  turns = [];
  tokens.clear();
  conversation();
  controls();
  $("status").textContent = "";
  $("message").focus();
});
$("message").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  if (!$("go").disabled) write();
});
$("copy").addEventListener("click", guarded(async () => {
  await navigator.clipboard.writeText(tokens.text());
  $("status").textContent = t("text_copied");
}));
$("stop").addEventListener("click", guarded(async () => {
  if (running) await json(`/api/jobs/${running}`, { method: "DELETE" });
}));
document.addEventListener("models", guarded(() => list()));
tokens.use($("sheet"), controls);

async function list() {
  const before = $("checkpoint").value;
  models = (await json("/api/models")).filter((it) => it.kind === "text");
  $("checkpoint").replaceChildren(...models.map((it) => new Option(it.id)));
  if (models.some((it) => it.id === before)) $("checkpoint").value = before;
  $("status").textContent = models.length ? "" : t("text_none");
  fit();
}

export function spoken() {
  fit();
  conversation();
  tokens.at(Infinity);
}

export async function begin() {
  const document_ = await json("/api/openapi.json");
  orders = document_.components.schemas.TextJob.properties.order.anyOf.find((it) => it.enum).enum;
  await list();
  usual();
}
