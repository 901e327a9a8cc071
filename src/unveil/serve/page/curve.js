// A curve of losses as SVG: steps to the right, the loss upwards, on a logarithmic axis where it falls far.

import { t } from "./words.js";

const [LEFT, MARGIN, TOP, BOTTOM, HEIGHT] = [64, 12, 12, 226, 260];
const [NARROW, WIDE] = [320, 640]; // where fewer marks of steps have room; usual width
const ROWS = 10; // of the table

const short = (value) => Number(value.toPrecision(3)).toLocaleString(document.documentElement.lang, { maximumSignificantDigits: 3 });
const whole = (value) => Number(value).toLocaleString(document.documentElement.lang);

function part(svg, name, attributes, text) {
  const it = document.createElementNS(svg.namespaceURI, name);
  for (const [key, value] of Object.entries(attributes)) it.setAttribute(key, value);
  if (text !== undefined) it.textContent = text;
  return it;
}

// Marks of an axis from `low` to `high`.
function marks(low, high, log, count = 4) {
  const places = [...Array(count + 1).keys()].map((k) => k / count);
  return places.map((share) => (log ? low * (high / low) ** share : low + (high - low) * share));
}

// Draw pairs of step and loss up to the step `last`.
export function draw(svg, points, last) {
  svg.replaceChildren();
  const width = svg.clientWidth || WIDE;
  const right = width - MARGIN;
  svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
  if (!points.length) return;
  const losses = points.map((it) => it[1]);
  let [low, high] = [Math.min(...losses), Math.max(...losses)];
  const log = low > 0 && high / low > 4;
  if (low === high) [low, high] = [low - Math.abs(low) * 0.1 - 1e-9, high + Math.abs(high) * 0.1 + 1e-9];
  const across = (step) => LEFT + ((right - LEFT) * step) / Math.max(1, last);
  const share = (loss) => (log ? Math.log(loss / low) / Math.log(high / low) : (loss - low) / (high - low));
  const up = (loss) => BOTTOM - (BOTTOM - TOP) * share(loss);
  for (const loss of marks(low, high, log)) {
    svg.append(part(svg, "line", { x1: LEFT, x2: right, y1: up(loss), y2: up(loss), class: "grid" }));
    svg.append(part(svg, "text", { x: LEFT - 8, y: up(loss) + 5, "text-anchor": "end" }, short(loss)));
  }
  for (const step of marks(0, last, false, width - LEFT > NARROW ? 4 : 2))
    svg.append(part(svg, "text", { x: across(step), y: BOTTOM + 22, "text-anchor": step < last ? "middle" : "end" }, whole(Math.round(step))));
  const line = points.map(([step, loss]) => `${across(step).toFixed(1)},${up(loss).toFixed(1)}`).join(" ");
  svg.append(part(svg, "polyline", { points: line, class: "curve" }));
  const [step, loss] = points.at(-1);
  svg.append(part(svg, "circle", { cx: across(step), cy: up(loss), r: 4.5, class: "end" }));
}

// The curve in a sentence, and in a table of a few rows.
export function say(points, caption, body) {
  const [first, final] = [points[0], points.at(-1)];
  const words = points.length < 2 ? "train_said_one" : "train_said";
  caption.textContent = points.length
    ? t(words, { first: short(first[1]), from: whole(first[0]), last: short(final[1]), to: whole(final[0]) }) : "";
  const every = Math.max(1, Math.ceil(points.length / ROWS));
  const kept = points.filter((_, k) => (points.length - 1 - k) % every === 0);
  body.replaceChildren(...kept.map((pair) => {
    const row = document.createElement("tr");
    row.append(...[whole(pair[0]), short(pair[1])].map((value) => {
      const cell = document.createElement("td");
      cell.textContent = value;
      return cell;
    }));
    return row;
  }));
}
