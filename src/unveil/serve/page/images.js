// The Images tab: make images, follow the job, show the gallery, read PNG files.

import { guarded } from "./errors.js";
import * as fields from "./form.js";
import * as painting from "./painting.js";
import { base64, blob, follow, json } from "./server.js";
import { t } from "./words.js";

const $ = (id) => document.getElementById(id);
let running = null;
let shownPreview = null;

function busy(yes) {
  $("go").disabled = yes;
  $("stop").hidden = $("progress").hidden = !yes;
  if (!yes) {
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

const make = guarded(async () => {
  const asked = { ...fields.job(), ...painting.uploads(fields.task()) };
  if (asked.task === "img2img") Object.assign(asked, fields.strength());
  const { id } = await json("/api/images", { method: "POST", json: asked });
  running = id;
  busy(true);
  try {
    let last = null;
    await follow(id, async (job) => {
      last = job;
      $("progress").value = job.progress;
      $("status").textContent = job.state === "running" && job.steps === 0 ? t("loading")
        : job.state === "failed" ? "" : t(job.state, job);
      if (job.preview) await preview(id);
    });
    if (last?.state === "failed") throw new Error(last.error);
    if (last?.state === "done")
      for (let k = 0; k < last.images; k++) {
        const data = await blob(`/api/jobs/${id}/images/${k}`);
        add(data, last.infotexts[k], `${id.slice(0, 8)}-${k}.png`);
      }
  } finally {
    running = null;
    busy(false);
  }
});

function button(key, act) {
  const it = document.createElement("button");
  it.type = "button";
  it.dataset.t = key;
  it.textContent = t(key);
  it.addEventListener("click", act);
  return it;
}

function add(data, text, name) {
  const address = URL.createObjectURL(data);
  const [item, figure, image] = ["li", "figure", "img"].map((tag) => document.createElement(tag));
  const [caption, row, link] = ["figcaption", "div", "a"].map((tag) => document.createElement(tag));
  image.src = address;
  image.alt = text.split("\n")[0] || name;
  caption.textContent = text || fields.model().id;
  row.className = "row";
  [link.href, link.download, link.dataset.t, link.textContent] = [address, name, "download", t("download")];
  row.append(link, button("again", () => read(data)),
    button("change", () => start(data, "img2img")), button("paint", () => start(data, "inpaint")));
  figure.append(image, caption, row);
  item.append(figure);
  $("gallery").prepend(item);
}

const read = guarded(async (file) => {
  const { fields: found, note } = await json("/api/png-info", { method: "POST", json: { image: await base64(file) } });
  if (Object.keys(found).length > 1 || found.prompt) fields.restore(found, t);
  $("status").textContent = note || t("read");
});

const start = guarded(async (data, task) => {
  await painting.load(data);
  $("start").open = true;
  fields.form.elements.namedItem("task").value = task;
  showTask();
  $("start").scrollIntoView({ block: "nearest" });
});

function showTask() {
  const paints = painting.loaded() && fields.task() === "inpaint";
  $("painting").hidden = !paints;
  $("strength-label").hidden = fields.task() === "inpaint";
}

fields.form.addEventListener("submit", (event) => {
  event.preventDefault();
  make();
});
fields.form.addEventListener("change", (event) => {
  if (event.target.name === "checkpoint") fields.fit(t);
  if (event.target.name === "task") showTask();
});
$("stop").addEventListener("click", guarded(async () => {
  if (running) await json(`/api/jobs/${running}`, { method: "DELETE" });
}));
const chosen = (id, act) => $(id).addEventListener("change", (event) => {
  if (event.target.files[0]) act(event.target.files[0]);
});
chosen("info", read);
chosen("image", (file) => start(file, fields.task()));
chosen("mask", guarded(painting.useMask));
$("erase").addEventListener("click", painting.erase);
$("forget").addEventListener("click", () => {
  painting.forget();
  $("image").value = $("mask").value = "";
  showTask();
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

export const spoken = () => fields.fit(t);

export async function begin() {
  const [models, document_] = await Promise.all([json("/api/models"), json("/api/openapi.json")]);
  fields.fill(models, document_.components.schemas.ImageJob, t);
  showTask();
}
