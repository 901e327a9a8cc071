// The axes of an X/Y/Z plot: settings that the model can use, and their values.

import { t } from "./words.js";

const AXES = ["x", "y", "z"];
const EXAMPLES = { seed: "1-4", steps: "4, 8, 16", scale: "1, 2, 4", prompt: "red, blue, green", strength: "0.4, 0.6, 0.8",
  rescale: "0, 0.5", variation: "0, 0.1, 0.2", variation_seed: "1-4" };
const place = document.getElementById("axes");
let names = [];
let samples = EXAMPLES;

const setting = (axis) => document.getElementById(`${axis}-setting`);
const values = (axis) => document.getElementById(`${axis}-values`);

function build() {
  for (const axis of AXES) {
    const [label, select, other, input] = ["label", "select", "label", "input"].map((tag) => document.createElement(tag));
    select.id = `${axis}-setting`;
    Object.assign(input, { id: `${axis}-values`, autocomplete: "off", maxLength: 2000 });
    for (const part of [label, other]) part.append(document.createElement("span"));
    label.append(select);
    other.append(input);
    select.addEventListener("change", fitValues);
    place.append(label, other);
  }
}

// Values are asked for where there is a setting.
function fitValues() {
  for (const axis of AXES) {
    const chosen = setting(axis).value;
    values(axis).parentElement.hidden = !chosen;
    values(axis).disabled = !chosen;
    values(axis).required = Boolean(chosen);
    values(axis).placeholder = samples[chosen] ?? "";
  }
}

// Offer the settings that the model can use now.
export function fit(model, solvers, strength) {
  if (!place.children.length) build();
  const guided = model.prompts || model.classes.length > 0;
  const can = { seed: true, steps: true, scale: guided, solver: true, class: model.classes.length > 0, prompt: model.prompts,
    strength, rescale: guided, variation: true, variation_seed: true };
  names = Object.keys(can).filter((name) => can[name]);
  samples = { ...EXAMPLES, solver: solvers.slice(0, 3).join(", "), class: model.classes.slice(0, 3).join(", ") };
  for (const axis of AXES) {
    const before = setting(axis).value;
    setting(axis).replaceChildren(new Option(t("no_axis"), ""), ...names.map((name) => new Option(t(`axis_${name}`), name)));
    setting(axis).value = names.includes(before) ? before : "";
    setting(axis).previousElementSibling.textContent = t("axis", { axis: axis.toUpperCase() });
    values(axis).previousElementSibling.textContent = t("values", { axis: axis.toUpperCase() });
  }
  fitValues();
}

// The axes of a job; none: no plot.
export function axes() {
  const used = AXES.filter((axis) => setting(axis).value);
  return Object.fromEntries(used.map((axis) => [axis, { setting: setting(axis).value, values: values(axis).value }]));
}

export function restore(found) {
  for (const axis of AXES) {
    setting(axis).value = names.includes(found[axis]?.setting) ? found[axis].setting : "";
    values(axis).value = found[axis]?.values ?? "";
  }
  if (Object.keys(found).length) document.getElementById("plot").open = true;
  fitValues();
}
