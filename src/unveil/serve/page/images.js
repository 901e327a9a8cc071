// The Images tab: make images, follow the job, show the gallery, read PNG files.

import "./images_words.js";
import { guarded } from "./errors.js";
import * as fields from "./form.js";
import * as gallery from "./gallery.js";
import * as networks from "./networks.js";
import * as painting from "./painting.js";
import * as plot from "./plot.js";
import { base64, blob, follow, json } from "./server.js";
import { t } from "./words.js";

const EXAMPLES = { // prompts that packaged models know
  "emoji-text": ["noto emoji of panda", "twemoji emoji of red apple", "fluent flat emoji of whale",
    "noto emoji of sunflower", "noto emoji of pizza"],
  "shapes-text": ["a red circle left of a small blue square", "a large green triangle", "a yellow square above a red circle"],
};
const $ = (id) => document.getElementById(id);
let running = null;
let shownPreview = null;

function busy(yes) {
  $("go").disabled = yes;
  $("stop").hidden = $("progress").hidden = !yes;
  if (yes) $("empty").hidden = true;
  else {
    $("preview").hidden = true;
    if (shownPreview) URL.revokeObjectURL(shownPreview);
    shownPreview = null;
  }
}

async function preview(id) {
  const data = await blob(`/api/jobs/${id}/preview`).catch(() => null);
  if (!data?.size) return;
  if (shownPreview) URL.revokeObjectURL(shownPreview);
  shownPreview = URL.createObjectURL(data);
  $("preview").src = shownPreview;
  $("preview").hidden = false;
}

function status(job) {
  if (job.state === "failed") return "";
  if (job.state === "running" && job.steps === 0) return t("loading");
  const cells = job.state === "running" && job.data.of ? `, ${t("cells_done", { ...job.data, cells: job.data.cells + 1 })}` : "";
  return t(job.state, job) + cells;
}

const make = guarded(async () => {
  const image = { ...fields.job(), ...painting.uploads(fields.task()) };
  if (image.task === "img2img") Object.assign(image, fields.strength());
  const axes = plot.axes();
  const plots = Object.keys(axes).length > 0;
  const { id } = plots ? await json("/api/plots", { method: "POST", json: { image: { ...image, n: 1 }, ...axes } })
    : await json("/api/images", { method: "POST", json: image });
  running = id;
  busy(true);
  await preview(id); // previews are made from now on
  const top = $("results").getBoundingClientRect().top;
  if (top < 0 || top > innerHeight / 2) $("results").scrollIntoView();
  try {
    let last = null;
    await follow(id, async (job) => {
      last = job;
      $("progress").value = job.progress;
      $("status").textContent = status(job);
      if (job.preview) await preview(id);
    });
    if (last?.state === "failed") throw new Error(last.error);
    if (last?.state === "done" && last.grid) await showPlot(last, axes);
    else if (last?.state === "done") await showImages(last);
  } finally {
    running = null;
    busy(false);
  }
});

async function showImages(job) {
  for (let k = 0; k < job.images; k++) {
    const data = await blob(`/api/jobs/${job.id}/images/${k}`);
    const said = job.infotexts[k];
    gallery.add(data, { name: `${job.id.slice(0, 8)}-${k}.png`, said, title: said.split("\n")[0] || fields.model().id,
      actions: [["again", () => read(data)], ["change", () => start(data, "img2img")], ["paint", () => start(data, "inpaint")]] });
  }
}

async function showPlot(job, axes) {
  const data = await blob(`/api/jobs/${job.id}/grid`);
  const title = t("plot_alt", { axes: Object.values(axes).map((it) => `${t(`axis_${it.setting}`)} ${it.values}`).join("; ") });
  gallery.add(data, { name: `${job.id.slice(0, 8)}-plot.png`, title, wide: true,
    actions: [["again", () => read(data)], ["cells", guarded(() => showImages(job))]] });
}

const read = guarded(async (file) => {
  const found = await json("/api/png-info", { method: "POST", json: { image: await base64(file) } });
  if (Object.keys(found.fields).length > 2 || found.fields.prompt || found.fields.checkpoint) {
    fields.restore(found.fields, t);
    fit();
    plot.restore(found.plot);
    $("status").textContent = found.note || t("read");
  } else {
    await start(file, fields.task());
    $("status").textContent = t("started");
  }
});

const start = guarded(async (data, task) => {
  await painting.load(data);
  $("start").open = true;
  fields.form.elements.namedItem("task").value = task;
  fit();
  $("canvas").scrollIntoView({ block: "nearest" });
});

// What the model, and the image to change, allow.
function fit() {
  const has = painting.loaded();
  const paints = has && fields.task() === "inpaint";
  $("canvas").hidden = $("forget").hidden = !has;
  $("brushes").hidden = $("brush-help").hidden = !paints;
  $("strength-label").hidden = fields.task() === "inpaint";
  $("larger").hidden = has || fields.model().masks;
  painting.enable(paints);
  const solvers = [...fields.form.elements.namedItem("solver").options].map((it) => it.value);
  plot.fit(fields.model(), solvers, has && !paints);
  networks.fit(fields.model());
  document.querySelector("#empty .large").dataset.t = fields.model().classes.length ? "empty_class" : "empty";
  document.querySelector("#empty .large").textContent = t(fields.model().classes.length ? "empty_class" : "empty");
  const known = EXAMPLES[fields.model().id] ?? [];
  $("examples").hidden = !known.length;
  $("examples").replaceChildren($("examples").firstElementChild, ...known.map(example));
}

function example(text) {
  const it = document.createElement("button");
  [it.type, it.textContent, it.lang] = ["button", text, "en"];
  it.addEventListener("click", () => {
    fields.form.elements.namedItem("prompt").value = text;
    make();
  });
  return it;
}

fields.form.addEventListener("submit", (event) => {
  event.preventDefault();
  make();
});
fields.form.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !$("go").disabled) fields.form.requestSubmit();
});
fields.form.addEventListener("change", (event) => {
  if (event.target.name === "checkpoint") fields.fit(t);
  if (event.target.name === "checkpoint" || event.target.name === "task") fit();
});
$("stop").addEventListener("click", guarded(async () => {
  if (running) await json(`/api/jobs/${running}`, { method: "DELETE" });
}));
const chosen = (id, act) => $(id).addEventListener("change", async (event) => {
  if (event.target.files[0]) await act(event.target.files[0]);
  event.target.value = ""; // so that the same file can be chosen again
});
chosen("info", read);
chosen("image", (file) => start(file, fields.task()));
chosen("mask", guarded(painting.useMask));
$("erase").addEventListener("click", painting.erase);
$("forget").addEventListener("click", () => {
  painting.forget();
  fit();
});
$("others-clear").addEventListener("click", fields.forgetExtra);
const panel = $("panel-images");
panel.addEventListener("dragover", (event) => {
  event.preventDefault();
  panel.classList.add("over");
});
for (const kind of ["dragleave", "drop"]) panel.addEventListener(kind, () => panel.classList.remove("over"));
panel.addEventListener("drop", (event) => {
  event.preventDefault();
  const file = event.dataTransfer.files[0];
  if (file) read(file);
});

document.addEventListener("models", guarded(() => begin())); // the Train tab has added one

export function spoken() {
  fields.fit(t);
  fit();
}

export async function begin() {
  const [models, document_, loras, words] = await Promise.all(
    ["/api/models", "/api/openapi.json", "/api/loras", "/api/embeddings"].map((path) => json(path)));
  fields.fill(models, document_.components.schemas.ImageJob, t);
  networks.fill(loras, words);
  fit();
}
