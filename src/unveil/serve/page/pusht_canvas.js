// The table of PushT: target, T, agent, keep-out disc and the predicted chunk, in pixels of 512.

const SIDE = 512;
const BARS = [[[-60, 0], [60, 0], [60, 30], [-60, 30]], [[-15, 30], [15, 30], [15, 120], [-15, 120]]];
const TARGET = [256, 256, Math.PI / 4];

export class Table {
  constructor(canvas) {
    this.canvas = canvas;
    this.pen = canvas.getContext("2d");
    this.pen.scale(canvas.width / SIDE, canvas.height / SIDE);
  }

  // x and y of a place on the screen, on the table.
  at(event) {
    const box = this.canvas.getBoundingClientRect();
    const within = (value) => Math.round(10 * Math.min(SIDE, Math.max(0, value * SIDE))) / 10;
    return [within((event.clientX - box.left) / box.width), within((event.clientY - box.top) / box.height)];
  }

  block([x, y, angle], fill, edge) {
    const { pen } = this;
    pen.save();
    pen.translate(x, y);
    pen.rotate(angle);
    pen.beginPath();
    for (const bar of BARS) {
      bar.forEach(([a, b], k) => (k ? pen.lineTo(a, b) : pen.moveTo(a, b)));
      pen.closePath();
    }
    pen.fillStyle = fill;
    pen.fill();
    if (edge) {
      pen.beginPath();
      for (const [a, b] of [[-60, 0], [60, 0], [60, 30], [15, 30], [15, 120], [-15, 120], [-15, 30], [-60, 30]]) pen.lineTo(a, b);
      pen.closePath();
      pen.lineWidth = 2.5;
      pen.lineJoin = "round";
      pen.strokeStyle = edge;
      pen.stroke();
    }
    pen.restore();
  }

  disc(x, y, radius, fill, edge = null, width = 2) {
    const { pen } = this;
    pen.beginPath();
    pen.arc(x, y, radius, 0, 7);
    if (fill) {
      pen.fillStyle = fill;
      pen.fill();
    }
    if (!edge) return;
    pen.lineWidth = width;
    pen.strokeStyle = edge;
    pen.stroke();
  }

  chunk(places, [first, last]) {
    const { pen } = this;
    pen.lineWidth = 2;
    pen.lineJoin = "round";
    pen.strokeStyle = "rgba(60,70,90,.55)";
    pen.beginPath();
    places.forEach(([x, y], k) => (k ? pen.lineTo(x, y) : pen.moveTo(x, y)));
    pen.stroke();
    places.forEach(([x, y], k) => {
      const inside = k >= first && k < last;
      const part = (k - first) / Math.max(1, last - first - 1);
      const warm = `rgb(${Math.round(255 - 20 * part)},${Math.round(190 - 130 * part)},${Math.round(40 + 20 * part)})`;
      this.disc(x, y, inside ? 5 : 3, inside ? warm : "rgba(60,70,90,.5)", inside ? "#fff" : null, 1);
    });
  }

  // Draw a state of the server.
  draw(it, { chunks, recording, reached }) {
    const { pen } = this;
    pen.fillStyle = "#fbfbf8";
    pen.fillRect(0, 0, SIDE, SIDE);
    pen.lineWidth = 6;
    pen.strokeStyle = recording ? "#c22b2b" : "#b9c1cc";
    pen.strokeRect(3, 3, SIDE - 6, SIDE - 6);
    this.block(TARGET, reached ? "#7ad07a" : "#bfe6bf");
    if (it.keep_out.length) {
      const [x, y, radius] = it.keep_out;
      this.disc(x, y, radius, "rgba(194,43,43,.14)", "#c22b2b", 2);
    }
    this.block(it.block, "#778ba5", "#54657c");
    if (chunks && it.chunk.length) this.chunk(it.chunk, it.executed);
    const [[x, y], [to, down]] = [it.agent, it.target];
    if (it.driver === "person" && Math.hypot(to - x, down - y) > 12) {
      pen.setLineDash([4, 5]);
      pen.lineWidth = 1.5;
      pen.strokeStyle = "#1f5fbf";
      pen.beginPath();
      pen.moveTo(x, y);
      pen.lineTo(to, down);
      pen.stroke();
      pen.setLineDash([]);
      this.disc(to, down, 5, null, "#1f5fbf", 1.5);
    }
    this.disc(x, y, 15, it.driver === "person" ? "#2f6fe0" : "#7c4dbe", "#fff", 2);
  }
}
