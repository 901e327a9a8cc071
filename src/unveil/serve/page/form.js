// The form: fields that the chosen model can use, as a job, and filled from a PNG.

const NUMBERS = ["n", "seed", "steps", "scale", "hires", "hires_steps", "hires_strength", "variation", "variation_seed", "strength"];
const SECOND = ["hires_steps", "hires_strength", "hires_upscaler"];

export const form = document.getElementById("form");
const field = (name) => form.elements.namedItem(name);

let models = [];
let extra = {}; // settings of a PNG that have no field

export const model = () => models.find((it) => it.id === field("checkpoint").value);

function options(select, values, names = values) {
  select.replaceChildren(...values.map((value, k) => new Option(names[k], value)));
}

export function fill(found, schema, t) {
  models = found.filter((it) => it.kind === "image");
  const chosen = field("checkpoint").value;
  const first = models.find((it) => it.prompts) ?? models[0];
  options(field("checkpoint"), models.map((it) => it.id));
  field("checkpoint").value = chosen || first?.id;
  const choices = (name) => schema.properties[name].anyOf.find((it) => it.enum).enum;
  options(field("solver"), choices("solver"));
  field("solver").value = "dpmpp";
  options(field("hires_upscaler"), choices("hires_upscaler"));
  fit(t);
}

// Show the fields that the model can use, and no others.
export function fit(t) {
  const it = model();
  if (!it) return;
  const can = { prompts: it.prompts, classes: it.classes.length > 0, masks: it.masks, free_size: it.free_size,
    guided: it.prompts || it.classes.length > 0 };
  for (const part of form.querySelectorAll("[data-if]")) show(part, can[part.dataset.if]);
  for (const part of form.querySelectorAll("[data-unless]")) show(part, !can[part.dataset.unless]);
  const before = field("label").value;
  options(field("label"), ["", "-1", ...it.classes], [t("every"), t("none"), ...it.classes]);
  field("label").value = [...field("label").options].some((one) => one.value === before) ? before : "";
  field("width").placeholder = it.width;
  field("height").placeholder = it.height;
}

function show(part, yes) {
  part.hidden = !yes;
  for (const it of part.querySelectorAll("input, select, textarea")) it.disabled = !yes;
}

const used = (name) => !field(name).disabled && field(name).value !== "";

// The settings of a job; what is empty is left out.
export function job() {
  const asked = { ...extra, checkpoint: field("checkpoint").value, solver: field("solver").value };
  for (const name of NUMBERS) if (used(name)) asked[name] = Number(field(name).value);
  if (used("prompt")) asked.prompt = field("prompt").value.split("\n").filter((line) => line.trim());
  if (used("negative")) asked.negative = field("negative").value;
  if (used("label")) asked.class = [field("label").value === "-1" ? -1 : field("label").value];
  if (used("width") || used("height")) {
    const it = model();
    asked.size = [Number(field("width").value || it.width), Number(field("height").value || it.height)];
  }
  if (used("hires_upscaler")) asked.hires_upscaler = field("hires_upscaler").value;
  if (!(asked.hires > 1)) for (const name of ["hires", ...SECOND]) delete asked[name];
  if (!(asked.variation > 0)) for (const name of ["variation", "variation_seed"]) delete asked[name];
  delete asked.strength;
  return asked;
}

export const strength = () => (used("strength") ? { strength: Number(field("strength").value) } : {});
export const task = () => field("task").value;

// Put the settings of a PNG into the form.
export function restore(fields, t) {
  const { checkpoint, size, prompt, label, negative, ...rest } = fields;
  for (const name of [...NUMBERS, "prompt", "negative", "width", "height"]) field(name).value = "";
  field("n").value = 1;
  if (checkpoint) field("checkpoint").value = checkpoint;
  fit(t);
  if (prompt) field("prompt").value = prompt.join("\n");
  if (size?.length === 2) [field("width").value, field("height").value] = size;
  extra = {};
  const classes = label ?? [];
  const names = model()?.classes ?? [];
  if (classes.length === 1) field("label").value = typeof classes[0] === "number" && classes[0] >= 0 ? names[classes[0]] : String(classes[0]);
  if (classes.length > 1) extra.label = classes;
  if (negative !== undefined) {
    if (model()?.prompts) field("negative").value = negative;
    else extra.negative = negative;
  }
  for (const [name, value] of Object.entries(rest)) {
    const it = field(name);
    if (it && name !== "task") it.value = value;
    else if (name !== "task") extra[name] = value;
  }
  showExtra();
}

export function forgetExtra() {
  extra = {};
  showExtra();
}

function showExtra() {
  const list = Object.entries(extra).map(([name, value]) => `${name} ${value === "" ? "-" : value}`);
  document.getElementById("others").hidden = list.length === 0;
  document.getElementById("others-list").textContent = list.join(", ");
}
