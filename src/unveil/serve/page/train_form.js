// The form of the Train tab: the settings of the recipe's command line, with the defaults of its preset.

import { base64 } from "./server.js";
import { has, t } from "./words.js";

const $ = (id) => document.getElementById(`train-${id}`);
const MAIN = ["base", "dreambooth", "token", "steps", "size", "fit"]; // outside of "More settings"
const APART = ["data", "maze"]; // with fields of their own
const [UPLOAD, USUAL, DRAWN] = ["/upload", "/usual", "/drawn"]; // no id has a slash
const MAP = "maze-map"; // of the Plan tab, in sessionStorage

let recipes = [];
let chosen = ""; // the recipe whose fields are shown
let map = ""; // the drawn maze that was offered last

export const recipe = () => recipes.find((it) => it.name === $("recipe").value);
const preset = () => $("preset").value || recipe().presets[0];
const drawn = () => sessionStorage.getItem(MAP) ?? "";
const setting = (name) => recipe().settings.find((it) => it.name === name);
const said = (name) => (has(`train_f_${name}`) ? t(`train_f_${name}`) : name.replaceAll("_", " "));

function options(select, pairs, chosen = select.value) {
  select.replaceChildren(...pairs.map(([value, text]) => new Option(text, value)));
  if (pairs.some(([value]) => value === chosen)) select.value = chosen;
}

export function fill(found) {
  recipes = found;
  options($("recipe"), recipes.map((it) => [it.name, t(`train_r_${it.name}`)]));
  choose();
}

// Offer a maze that has been drawn since.
export function offer() {
  if (drawn() === map || !recipes.some((it) => it.name === "maze")) return;
  if (drawn()) $("recipe").value = "maze";
  choose();
}

// Show the fields of the chosen recipe; what was typed for it stays.
export function choose() {
  const it = recipe();
  if (!it) return;
  const same = chosen === it.name;
  $("about").textContent = t(`train_a_${it.name}`);
  options($("preset"), it.presets.map((name) => [name, t(`train_p_${name}`)]), same ? $("preset").value : it.presets[0]);
  $("preset-part").hidden = it.presets.length < 2;
  const data = setting("data");
  const sources = data.choices.map((id) => [id, id]);
  if (it.usual_data) sources.push([USUAL, it.name === "maze" ? t("train_generated") : t("train_usual", { data: data.defaults[it.presets[0]] })]);
  if (it.upload) sources.push([UPLOAD, t("train_upload")]);
  options($("source"), sources);
  $("no-data").hidden = sources.some(([value]) => value !== UPLOAD);
  const maze = setting("maze");
  $("maze-part").hidden = !maze;
  if (maze) {
    const mazes = maze.choices.map((name) => [name, name]);
    const usual = drawn() ? DRAWN : maze.defaults[preset()];
    options($("maze"), drawn() ? [[DRAWN, t("train_drawn")], ...mazes] : mazes, same && drawn() === map ? $("maze").value : usual);
    map = drawn();
  }
  fields();
  show();
}

// The fields of the settings; those of the main part first.
export function fields() {
  const shown = recipe().settings.filter((it) => !APART.includes(it.name) && !(["data", "model"].includes(it.kind) && !it.choices.length));
  const typed = chosen === recipe().name ? inputs().filter((it) => it.value !== "").map((it) => [it.name, it.value]) : [];
  const of = (list) => list.map((it) => field(it));
  $("main").replaceChildren(...of(shown.filter((it) => MAIN.includes(it.name))));
  $("more").replaceChildren(...of(shown.filter((it) => !MAIN.includes(it.name))));
  for (const [name, value] of typed) {
    const input = inputs().find((it) => it.name === name);
    if (input) input.value = value;
  }
  chosen = recipe().name;
}

const inputs = () => [...document.querySelectorAll("#train-main [name], #train-more [name]")];

function field(it) {
  const label = document.createElement("label");
  const [name, help] = [document.createElement("span"), document.createElement("small")];
  const input = document.createElement(["choice", "data", "model", "switch"].includes(it.kind) ? "select" : "input");
  const usual = it.defaults[preset()];
  name.textContent = said(it.name);
  const flag = document.createElement("code");
  flag.textContent = ` ${it.flag}`;
  name.append(flag);
  [input.name, input.id] = [it.name, `train-f-${it.name}`];
  const empty = usual === null || usual === "" ? t("train_default") : String(usual);
  if (it.kind === "switch") options(input, [["", t(usual ? "train_yes" : "train_no")], [String(!usual), t(usual ? "train_no" : "train_yes")]]);
  else if (input.tagName === "SELECT") options(input, [...(it.name === "base" ? [] : [["", empty]]), ...it.choices.filter((one) => one !== usual).map((one) => [one, one])]);
  else {
    input.placeholder = empty;
    if (["whole", "number"].includes(it.kind)) [input.type, input.step] = ["number", it.kind === "whole" ? "1" : "any"];
    else input.maxLength = 1000;
  }
  help.id = `${input.id}-help`;
  const own = has(`train_h_${it.name}`) ? t(`train_h_${it.name}`) : "";
  [help.textContent, help.lang] = own ? [own, document.documentElement.lang] : [it.help, "en"];
  input.setAttribute("aria-describedby", help.id);
  label.append(name, input, help);
  return label;
}

// What follows from the choices.
export function show() {
  const upload = $("source").value === UPLOAD;
  $("upload-part").hidden = !upload;
  $("upload-label").textContent = t(`train_u_${recipe().upload.includes("txt") ? "text" : recipe().upload.includes("zip") ? "pictures" : "arrays"}`);
  $("upload").accept = recipe().upload.split(" or ").map((end) => `.${end}`).join(",");
  const own = !$("maze-part").hidden && $("maze").value === DRAWN;
  $("map").hidden = !own;
  $("map").textContent = own ? drawn() : "";
}

// The request.
export async function asked() {
  const made = { preset: preset() };
  if ($("name").value) made.name = $("name").value;
  for (const input of inputs()) {
    if (input.value === "") continue;
    const { kind } = setting(input.name);
    made[input.name] = kind === "switch" ? input.value === "true" : ["whole", "number"].includes(kind) ? Number(input.value) : input.value;
  }
  if (setting("maze")) Object.assign(made, $("maze").value === DRAWN ? { map: drawn() } : { maze: $("maze").value });
  const source = $("source").value;
  if (source === UPLOAD) {
    const file = $("upload").files[0];
    if (!file) throw new Error(t("train_choose_file"));
    made.upload = (await base64(file)).replace(/^[^,]*,/, "");
  } else if (source !== USUAL && source) made.data = source;
  return made;
}
