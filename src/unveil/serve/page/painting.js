// An image to change, and a mask that is painted over it.

import { guarded } from "./errors.js";
import { base64 } from "./server.js";
import { t } from "./words.js";

const INK = "#e0218a";
const canvas = document.getElementById("canvas");
const draw = canvas.getContext("2d");
const mask = document.createElement("canvas"); // transparent where nothing is painted
const ink = mask.getContext("2d");
let image = null; // a data URL, sent as it is
let picture = null;
let file = null; // a mask file, in place of a painted one
let paints = false;
let touched = false; // something is painted
let last = null; // where the brush was
let pointer = null; // where the keyboard has moved it

export const loaded = () => image !== null;

export async function load(blob) {
  picture = await createImageBitmap(blob);
  image = await base64(blob);
  for (const it of [canvas, mask]) [it.width, it.height] = [picture.width, picture.height];
  erase();
}

export function forget() {
  image = picture = file = null;
}

export function erase() {
  file = last = pointer = null;
  touched = false;
  ink.clearRect(0, 0, mask.width, mask.height);
  show();
}

export async function useMask(blob) {
  const bitmap = await createImageBitmap(blob);
  erase();
  file = await base64(blob);
  draw.globalAlpha = 0.6;
  draw.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  draw.globalAlpha = 1;
}

// Whether the brush paints, or the image is only shown.
export function enable(yes) {
  paints = yes;
  show();
}

const radius = () => (Number(document.getElementById("brush").value) / 100) * Math.min(mask.width, mask.height);

function show() {
  if (!picture) return;
  draw.drawImage(picture, 0, 0);
  if (!paints) return;
  draw.globalAlpha = 0.65;
  draw.drawImage(mask, 0, 0);
  draw.globalAlpha = 1;
  if (!pointer) return;
  draw.strokeStyle = INK;
  draw.lineWidth = Math.max(1, mask.width / 64);
  draw.beginPath();
  draw.arc(pointer.x, pointer.y, radius(), 0, 2 * Math.PI);
  draw.stroke();
}

function stroke(x, y) {
  [file, touched] = [null, true];
  [ink.strokeStyle, ink.lineCap, ink.lineWidth] = [INK, "round", 2 * radius()];
  ink.beginPath();
  ink.moveTo(last?.x ?? x, last?.y ?? y);
  ink.lineTo(x, y);
  ink.stroke();
  last = { x, y };
  show();
}

function paint(event) {
  if (!picture || !paints || !(event.buttons & 1)) return;
  const box = canvas.getBoundingClientRect();
  stroke(((event.clientX - box.left) * canvas.width) / box.width, ((event.clientY - box.top) * canvas.height) / box.height);
}

canvas.addEventListener("pointerdown", guarded(async (event) => { // painting ends the error that asked for it
  canvas.setPointerCapture(event.pointerId);
  last = pointer = null;
  paint(event);
}));
canvas.addEventListener("pointermove", paint);
canvas.addEventListener("keydown", (event) => {
  const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  if (!picture || !paints || (!step && event.key !== " ")) return;
  event.preventDefault();
  pointer ??= { x: mask.width / 2, y: mask.height / 2 };
  if (step) {
    const far = mask.width / 16;
    pointer = { x: Math.min(mask.width, Math.max(0, pointer.x + step[0] * far)), y: Math.min(mask.height, Math.max(0, pointer.y + step[1] * far)) };
  } else {
    last = null;
    stroke(pointer.x, pointer.y);
  }
  show();
});

// The painted mask, white on black.
function painted() {
  const page = document.createElement("canvas");
  [page.width, page.height] = [mask.width, mask.height];
  const it = page.getContext("2d");
  it.drawImage(mask, 0, 0);
  it.globalCompositeOperation = "source-in";
  it.fillStyle = "white";
  it.fillRect(0, 0, page.width, page.height);
  it.globalCompositeOperation = "destination-over";
  it.fillStyle = "black";
  it.fillRect(0, 0, page.width, page.height);
  return page.toDataURL("image/png");
}

// The uploads of a job.
export function uploads(task) {
  if (!image) return {};
  const found = { from: [image], task, fit: "resize" };
  if (task === "inpaint" && !touched && !file) throw new Error(t("paint_first"));
  return task === "inpaint" ? { ...found, mask: file ?? painted() } : found;
}
