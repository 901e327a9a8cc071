// An image to change, and a mask that is painted over it.

import { base64 } from "./server.js";

const canvas = document.getElementById("canvas");
const draw = canvas.getContext("2d");
const mask = document.createElement("canvas");
const ink = mask.getContext("2d", { willReadFrequently: true });
let image = null; // a data URL, sent as it is
let picture = null;
let file = null; // a mask file, in place of a painted one

export const loaded = () => image !== null;

export async function load(blob) {
  image = await base64(blob);
  picture = await createImageBitmap(blob);
  for (const it of [canvas, mask]) [it.width, it.height] = [picture.width, picture.height];
  erase();
}

export function forget() {
  image = picture = file = null;
  draw.clearRect(0, 0, canvas.width, canvas.height);
}

export function erase() {
  file = null;
  ink.fillStyle = "black";
  ink.fillRect(0, 0, mask.width, mask.height);
  show();
}

export async function useMask(blob) {
  file = await base64(blob);
}

function show() {
  if (!picture) return;
  draw.drawImage(picture, 0, 0);
  draw.globalCompositeOperation = "lighter";
  draw.globalAlpha = 0.6;
  draw.drawImage(mask, 0, 0);
  draw.globalCompositeOperation = "source-over";
  draw.globalAlpha = 1;
}

function paint(event) {
  if (!picture || !(event.buttons & 1)) return;
  const box = canvas.getBoundingClientRect();
  const x = ((event.clientX - box.left) * canvas.width) / box.width;
  const y = ((event.clientY - box.top) * canvas.height) / box.height;
  const radius = (Number(document.getElementById("brush").value) / 100) * Math.min(mask.width, mask.height);
  ink.fillStyle = "white";
  ink.beginPath();
  ink.arc(x, y, radius, 0, 2 * Math.PI);
  ink.fill();
  show();
}

canvas.addEventListener("pointerdown", (event) => {
  canvas.setPointerCapture(event.pointerId);
  paint(event);
});
canvas.addEventListener("pointermove", paint);

// The uploads of a job.
export function uploads(task) {
  if (!image) return {};
  const found = { from: [image], task, fit: "resize" };
  return task === "inpaint" ? { ...found, mask: file ?? mask.toDataURL("image/png") } : found;
}
