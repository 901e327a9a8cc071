// A sheet of tokens: coloured by the step at which each was decided, masked by a click or by Enter, played again.

import { t } from "./words.js";

const NEWLINE = "\u21b5";
const END = "\u220e";

export const marked = new Set(); // positions that the user has masked
let tokens = [];
let last = 1; // the last step
let now = Infinity; // the step that is shown
let sheet = null;
let changed = () => {};
let maskable = true;

// Put the sheet into an element; `onChange` is called when masks change.
export function use(element, onChange) {
  [sheet, changed] = [element, onChange];
  sheet.addEventListener("click", (event) => toggle(place(event.target)));
  sheet.addEventListener("keydown", keys);
}

const place = (target) => [...sheet.children].indexOf(target.closest?.(".token"));

export const all = () => tokens;
export const steps = () => last;
export const text = () => tokens.map((it) => it.text).join("");
export const asked = () => tokens.map((it, k) => (it.mask || marked.has(k) ? null : it.id));
export const open = () => tokens.filter((it, k) => it.mask || marked.has(k)).length;

// Show new tokens, of `count` steps; `may` says whether they can be masked. What was marked is written now.
export function show(found, count, may) {
  marked.clear();
  [tokens, last, now, maskable] = [found, Math.max(1, count), Infinity, may];
  draw();
}

export function clear() {
  marked.clear();
  tokens = [];
  draw();
}

// Show the tokens as they were after a step.
export function at(step) {
  now = step;
  draw();
}

const hidden = (it) => it.mask || it.step > now;

function word(it) {
  if (hidden(it)) return "\u2591\u2591";
  if (it.end) return END;
  return it.text.replace(/\r?\n/g, `${NEWLINE}\n`) || "\u00b7";
}

function label(it, k) {
  const said = it.end ? t("text_end") : it.text.replace(/\n/g, ` ${t("text_newline")} `) || t("text_part");
  if (hidden(it)) return t("text_is_masked");
  if (marked.has(k)) return t("text_will_mask", { token: said });
  return it.step ? t("text_decided", { token: said, step: it.step }) : t("text_was_given", { token: said });
}

function draw() {
  const focused = sheet.contains(document.activeElement) ? place(document.activeElement) : -1;
  while (sheet.children.length > tokens.length) sheet.lastChild.remove();
  while (sheet.children.length < tokens.length) {
    const it = document.createElement("span");
    it.className = "token";
    it.tabIndex = -1;
    sheet.append(it);
  }
  tokens.forEach((it, k) => one(sheet.children[k], it, k));
  if (tokens.length && ![...sheet.children].some((it) => it.tabIndex === 0)) sheet.children[0].tabIndex = 0;
  if (focused >= 0) sheet.children[Math.min(focused, tokens.length - 1)]?.focus();
}

function one(span, it, k) {
  const [shown, said] = [word(it), label(it, k)];
  if (span.textContent !== shown) span.textContent = shown;
  span.dataset.kind = hidden(it) ? "mask" : marked.has(k) ? "marked" : it.step ? "new" : "given";
  span.style.setProperty("--share", `${last > 1 && it.step ? Math.round((100 * (it.step - 1)) / (last - 1)) : 0}%`);
  span.title = said;
  span.setAttribute("aria-label", said);
  if (maskable) {
    span.setAttribute("role", "button");
    span.setAttribute("aria-pressed", String(marked.has(k) || it.mask));
  } else {
    span.setAttribute("role", "img");
    span.removeAttribute("aria-pressed");
  }
}

function toggle(k) {
  if (k < 0 || !maskable || tokens[k].mask || tokens[k].end) return;
  if (!marked.delete(k)) marked.add(k);
  one(sheet.children[k], tokens[k], k);
  changed();
}

function keys(event) {
  const k = place(event.target);
  if (k < 0) return;
  if (event.key === "Enter" || event.key === " ") {
    event.preventDefault();
    toggle(k);
    return;
  }
  const to = { ArrowRight: k + 1, ArrowLeft: k - 1, Home: 0, End: tokens.length - 1 }[event.key];
  if (to === undefined || !sheet.children[to]) return;
  event.preventDefault();
  sheet.children[k].tabIndex = -1;
  sheet.children[to].tabIndex = 0;
  sheet.children[to].focus();
}
