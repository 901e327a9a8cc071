// The editor of mazes: a text map of # walls, O free cells and at most one G goal, as `unveil train maze` reads it.

import { t } from "./words.js";

const $ = (id) => document.getElementById(id);
const MOST = 20;
const START = ["##########", "#OOOO#OOO#", "#O##O#O#O#", "#O#OOOO#O#", "#O#O##OOO#", "#OOO#OO#O#", "#O#OOO#OG#", "##########"];

let rows = START;
let cursor = [1, 1];
let brush = null; // what a drag paints
const canvas = $("plan-editor");
const pen = canvas.getContext("2d");

// Why a map cannot be used; "" if it can.
export function problem(map) {
  if (map.length < 3 || map[0].length < 3) return t("plan_small");
  if (map.length > MOST || map[0].length > MOST) return t("plan_large", { most: MOST });
  if (map.some((row) => row.length !== map[0].length)) return t("plan_ragged");
  const text = map.join("");
  if (/[^#OG]/.test(text)) return t("plan_tiles");
  if ((text.match(/G/g) ?? []).length > 1) return t("plan_goals");
  const border = map[0] + map.at(-1) + map.map((row) => row[0] + row.at(-1)).join("");
  if (/[^#]/.test(border)) return t("plan_border");
  if (reached(map) < (text.match(/[OG]/g) ?? []).length) return t("plan_apart");
  return (text.match(/[OG]/g) ?? []).length < 2 ? t("plan_empty") : "";
}

// The number of free cells that can be reached from the first one.
function reached(map) {
  const first = map.findIndex((row) => /[OG]/.test(row));
  if (first < 0) return 0;
  const seen = new Set();
  const open = [[first, map[first].search(/[OG]/)]];
  while (open.length) {
    const [i, j] = open.pop();
    if (!/[OG]/.test(map[i]?.[j] ?? "#") || seen.has(`${i},${j}`)) continue;
    seen.add(`${i},${j}`);
    open.push([i + 1, j], [i - 1, j], [i, j + 1], [i, j - 1]);
  }
  return seen.size;
}

function draw() {
  const cell = 40;
  canvas.width = rows[0].length * cell;
  canvas.height = rows.length * cell;
  rows.forEach((row, i) => [...row].forEach((tile, j) => {
    pen.fillStyle = tile === "#" ? "#39415a" : "#f6f4ee";
    pen.fillRect(j * cell, i * cell, cell, cell);
    pen.strokeStyle = "rgba(128,128,128,.25)";
    pen.lineWidth = 1;
    pen.strokeRect(j * cell + 0.5, i * cell + 0.5, cell, cell);
    if (tile !== "G") return;
    pen.fillStyle = "#e76f51";
    pen.beginPath();
    pen.arc((j + 0.5) * cell, (i + 0.5) * cell, cell * 0.25, 0, 7);
    pen.fill();
  }));
  if (document.activeElement !== canvas) return;
  pen.strokeStyle = "#1f5fbf";
  pen.lineWidth = 4;
  pen.strokeRect(cursor[1] * cell + 2, cursor[0] * cell + 2, cell - 4, cell - 4);
}

function show(fromText = false) {
  cursor = [Math.min(cursor[0], rows.length - 1), Math.min(cursor[1], rows[0].length - 1)];
  if (!fromText) $("plan-map").value = rows.join("\n");
  $("plan-rows").value = rows.length;
  $("plan-columns").value = rows[0].length;
  const wrong = problem(rows);
  $("plan-map-error").textContent = wrong;
  $("plan-train").disabled = $("plan-save").disabled = wrong !== "";
  draw();
}

const inner = ([i, j]) => i > 0 && j > 0 && i < rows.length - 1 && j < rows[0].length - 1;

function paint([i, j], tile) {
  if (!inner([i, j]) || rows[i][j] === tile) return;
  if (tile === "G") rows = rows.map((row) => row.replace("G", "O"));
  rows = rows.map((row, k) => (k === i ? row.slice(0, j) + tile + row.slice(j + 1) : row));
  show();
}

// A map of other sides: what fits is kept, and the border is walls.
function resized(height, width, old = rows) {
  return Array.from({ length: height }, (_, i) => Array.from({ length: width }, (_, j) => {
    if (!i || !j || i === height - 1 || j === width - 1) return "#";
    const kept = i < old.length - 1 && j < old[0].length - 1 ? old[i][j] : undefined;
    return kept ?? "O";
  }).join(""));
}

function cellOf(event) {
  const box = canvas.getBoundingClientRect();
  return [Math.floor((event.clientY - box.top) / box.height * rows.length), Math.floor((event.clientX - box.left) / box.width * rows[0].length)];
}

// Begin; `above` gives the map that is shown above.
export function edit(above) {
  canvas.addEventListener("pointerdown", (event) => {
    cursor = cellOf(event);
    if (!inner(cursor)) return;
    brush = rows[cursor[0]][cursor[1]] === "#" ? "O" : "#";
    canvas.setPointerCapture(event.pointerId);
    paint(cursor, brush);
  });
  canvas.addEventListener("pointermove", (event) => brush && paint(cellOf(event), brush));
  for (const kind of ["pointerup", "pointercancel"]) canvas.addEventListener(kind, () => { brush = null; });
  canvas.addEventListener("keydown", (event) => {
    const move = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (move && inner([cursor[0] + move[0], cursor[1] + move[1]])) cursor = [cursor[0] + move[0], cursor[1] + move[1]];
    else if (event.key === " ") paint(cursor, rows[cursor[0]][cursor[1]] === "#" ? "O" : "#");
    else if (event.key.toLowerCase() === "g") paint(cursor, "G");
    else if (!move) return;
    event.preventDefault();
    draw();
  });
  for (const kind of ["focus", "blur"]) canvas.addEventListener(kind, draw);
  $("plan-map").addEventListener("input", () => {
    const typed = $("plan-map").value.split("\n").map((row) => row.trimEnd().toUpperCase().replace(/[ 0]/g, "O")).filter((row) => row);
    const wrong = typed.length && typed[0].length ? problem(typed) : t("plan_small");
    $("plan-map-error").textContent = wrong;
    $("plan-train").disabled = $("plan-save").disabled = wrong !== "";
    if (wrong) return;
    rows = typed;
    show(true);
  });
  const side = (id) => Math.min(MOST, Math.max(4, Math.round(Number($(id).value)) || 4));
  for (const id of ["plan-rows", "plan-columns"]) $(id).addEventListener("change", () => {
    rows = resized(side("plan-rows"), side("plan-columns"));
    show();
  });
  $("plan-clear").addEventListener("click", () => {
    rows = resized(side("plan-rows"), side("plan-columns"), ["###", "###", "###"]);
    show();
  });
  $("plan-copy").addEventListener("click", () => {
    rows = [...above()];
    show();
  });
  $("plan-save").addEventListener("click", () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([`${rows.join("\n")}\n`], { type: "text/plain" }));
    link.download = "maze.txt";
    link.click();
    URL.revokeObjectURL(link.href);
  });
  $("plan-train").addEventListener("click", () => {
    sessionStorage.setItem("maze-map", `${rows.join("\n")}\n`);
    location.hash = "train";
  });
  show();
}
