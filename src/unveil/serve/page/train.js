// The Train tab: start a training, watch its loss and samples, stop it, go on, and use what it learned.

import * as curve from "./curve.js";
import { guarded } from "./errors.js";
import { blob, json, request } from "./server.js";
import * as form from "./train_form.js";
import "./train_words.js";
import { t } from "./words.js";

const $ = (id) => document.getElementById(`train-${id}`);
const PACE = 2000; // milliseconds between two looks at a training
const post = (path, body = {}) => json(path, { method: "POST", json: body });

let runs = [];
let shown = null; // the training that is shown
let timer = 0;
const samples = new Map(); // "run/step" -> its item in the list
let most = 1;

const busy = () => runs.some((it) => ["running", "stopping"].includes(it.state));

function clock(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const two = (value) => String(value).padStart(2, "0");
  return hours ? `${hours}:${two(minutes)}:${two(rest)}` : `${minutes}:${two(rest)}`;
}

async function list(chosen) {
  const found = await json("/api/trainings");
  [runs, most] = [found.trainings, found.most];
  $("folder").textContent = most ? t("train_folder", { folder: found.folder }) : t("train_forbidden");
  const wanted = chosen ?? ($("run").value || runs[0]?.id);
  $("run").replaceChildren(...runs.map((it) => new Option(`${it.id} (${t(`train_s_${it.state}`)})`, it.id)));
  if (runs.some((it) => it.id === wanted)) $("run").value = wanted;
  $("choose").hidden = !runs.length;
  $("empty").hidden = runs.length > 0;
  $("go").disabled = !most || busy();
  await look();
}

// Look at the chosen training, and again while it runs and the tab is seen.
async function look() {
  clearTimeout(timer);
  const name = $("run").value;
  if (!name) $("shown").hidden = true;
  if (!name) return;
  const before = shown;
  const found = await json(`/api/trainings/${encodeURIComponent(name)}`);
  if (name !== $("run").value) return;
  shown = found;
  $("shown").hidden = false; // not before there is something to show
  draw();
  const active = ["running", "stopping"].includes(shown.state);
  if (before?.id === shown.id && before.state !== shown.state) return list(name);
  if (active && !$("shown").closest("[hidden]")) timer = setTimeout(again, PACE);
}
const again = guarded(look);

function draw() {
  const { state, step, steps, saved } = shown;
  const active = state === "running" || state === "stopping";
  const text = t(`train_l_${state}`);
  if ($("status").textContent !== text) $("status").textContent = text;
  $("progress").value = steps ? step / steps : 0;
  const numbers = [t("train_steps_of", { step: step.toLocaleString(), steps: steps.toLocaleString() })];
  if (shown.seconds !== null && active) numbers.push(t("train_eta", { time: clock(shown.seconds) }));
  if (shown.curve.length) numbers.push(t("train_loss_now", { loss: Number(shown.curve.at(-1)[1].toPrecision(3)) }));
  if (saved) numbers.push(t("train_saved", { saved: saved.toLocaleString() }));
  $("numbers").textContent = numbers.join(" · ");
  $("stop").hidden = !active;
  $("stop").disabled = state === "stopping";
  $("resume").hidden = $("until-part").hidden = active || !most;
  $("resume").disabled = busy();
  if (document.activeElement !== $("until")) $("until").value = saved >= steps ? steps + Math.max(1, Math.round(steps / 2)) : steps;
  $("use").hidden = !saved;
  used();
  $("curve-part").hidden = !shown.curve.length;
  curve.draw($("curve"), shown.curve, Math.max(steps, step));
  curve.say(shown.curve, $("curve-said"), $("table").tBodies[0]);
  $("command").textContent = shown.command.map((word) => (/[^\w@%+=:,./-]/.test(word) ? `'${word.replaceAll("'", "'\\''")}'` : word)).join(" \\\n  ");
  $("message").textContent = state === "failed" || (active && !shown.curve.length) ? shown.message.replace(/^unveil: (note: )?/, "") : "";
  pictures();
}

const tabOf = (recipe) => ({ text: "text", maze: "plan", pusht: "policy" })[recipe] ?? "images";

// Where the result is used, with a link to the tab.
function used() {
  const words = shown.model ? t("train_is_used", { model: shown.model }) : "";
  if ($("used").firstChild?.textContent === words) return;
  $("used").replaceChildren(words);
  if (!words) return;
  const link = document.createElement("a");
  link.href = `#${tabOf(shown.recipe)}`;
  link.textContent = t("train_open", { tab: t(`train_t_${tabOf(shown.recipe)}`) });
  $("used").append(" ", link);
}

// The samples, the newest first; each is loaded once.
function pictures() {
  $("samples-part").hidden = !shown.samples.length;
  const items = shown.samples.map((it) => {
    const key = `${shown.id}/${shown.began}/${it.step}`;
    if (!samples.has(key)) samples.set(key, sample(shown.id, it));
    return samples.get(key);
  }).reverse();
  const now = [...$("samples").children];
  if (items.length !== now.length || items.some((it, k) => it !== now[k])) $("samples").replaceChildren(...items);
}

function sample(run, { step, kind }) {
  const [item, caption] = [document.createElement("li"), document.createElement("p")];
  const path = `/api/trainings/${encodeURIComponent(run)}/samples/${step}`;
  caption.textContent = t("train_at", { step: step.toLocaleString() });
  item.append(caption);
  const load = guarded(async () => {
    if (kind === "png") {
      const image = document.createElement("img");
      image.alt = t("train_samples");
      image.addEventListener("load", () => item.classList.toggle("wide", image.naturalWidth > 1.5 * image.naturalHeight));
      image.src = URL.createObjectURL(await blob(path));
      item.append(image);
    } else {
      const text = document.createElement("pre");
      text.tabIndex = 0;
      text.textContent = await (await request(path)).text();
      item.append(text);
    }
  });
  load();
  return item;
}

$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  start();
});
const start = guarded(async () => {
  $("go").disabled = true;
  try {
    const { id } = await post(`/api/trainings/${form.recipe().name}`, await form.asked());
    $("name").value = "";
    await list(id);
    $("shown").scrollIntoView({ block: "nearest" });
  } finally {
    $("go").disabled = !most || busy();
  }
});
$("recipe").addEventListener("change", form.choose);
$("preset").addEventListener("change", form.fields);
$("source").addEventListener("change", form.show);
$("maze").addEventListener("change", form.show);
$("run").addEventListener("change", again);
$("stop").addEventListener("click", guarded(async () => {
  await post(`/api/trainings/${shown.id}/stop`);
  await look();
}));
$("resume").addEventListener("click", guarded(async () => {
  await post(`/api/trainings/${shown.id}/resume`, { steps: Number($("until").value) });
  await list(shown.id);
}));
$("use").addEventListener("click", guarded(async () => {
  await post(`/api/trainings/${shown.id}/use`);
  document.dispatchEvent(new Event("models")); // the other tabs list the models again
  form.fill(await json("/api/recipes"));
  await look();
}));

export function spoken() {
  samples.clear();
  form.choose();
  again();
  if (runs.length) guarded(list)($("run").value);
}

// The Plan tab may have left another maze, and a training may have ended.
const seen = guarded(async () => {
  form.offer();
  await list();
});
export { seen as shown };

export async function begin() {
  form.fill(await json("/api/recipes"));
}
