// LoRA files and learned words that the server has been started with: they are named in the prompt.

const $ = (id) => document.getElementById(id);
let loras = [];
let words = [];

// Put a text behind each line of the prompt: all prompts of a job name the same LoRA files.
function append(text) {
  const prompt = document.querySelector("#form [name=prompt]");
  prompt.value = prompt.value.split("\n").map((line) => `${line} ${text}`.trim()).join("\n");
}

const tag = (id) => new RegExp(` ?<lora:${id.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")}:[^<>]*>`, "g");

$("lora-add").addEventListener("click", () => {
  const prompt = document.querySelector("#form [name=prompt]");
  prompt.value = prompt.value.replace(tag($("lora").value), "");
  append(`<lora:${$("lora").value}:${$("lora-weight").value || 1}>`);
});
$("word-add").addEventListener("click", () => append($("word").value));

export function fill(found, learned) {
  [loras, words] = [found, learned];
  $("word").replaceChildren(...words.map((it) => new Option(it.word)));
  for (const id of ["word-label", "word-add"]) $(id).hidden = !words.length;
}

// Show those that the model can use.
export function fit(model) {
  const usable = loras.filter((it) => !it.base || it.base === model.id);
  $("lora").replaceChildren(...usable.map((it) => new Option(it.id)));
  for (const id of ["lora-label", "weight-label", "lora-add"]) $(id).hidden = !usable.length;
  $("networks").hidden = !model.prompts || !(usable.length || words.length);
}
