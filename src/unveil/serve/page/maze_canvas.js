// A maze on a canvas: walls, start, goal, waypoints, candidates, the plan and the ball.
//
// Positions are row and column in cells; cell (i, j) reaches from i - 0.7 to i + 0.3, as in D4RL.

const OFFSET = 0.2;
const COLOURS = { floor: "#f6f4ee", wall: "#39415a", edge: "#2c3348", start: "#2a9d8f", goal: "#e76f51", via: "#f2c14e", ball: "#264653" };
const PLASMA = [[40, 11, 150], [126, 3, 168], [190, 50, 130], [229, 107, 93], [248, 160, 60]];

// The colour of a fraction of a path.
export function shade(part, alpha = 1) {
  const at = Math.min(0.999, Math.max(0, part)) * (PLASMA.length - 1);
  const [a, b] = [PLASMA[Math.floor(at)], PLASMA[Math.floor(at) + 1]];
  const mixed = a.map((value, k) => Math.round(value + (b[k] - value) * (at % 1)));
  return `rgba(${mixed.join(",")},${alpha})`;
}

export class MazeCanvas {
  constructor(canvas) {
    this.canvas = canvas;
    this.pen = canvas.getContext("2d");
    this.rows = ["###", "#O#", "###"];
  }

  // Show another map. The canvas gets the aspect of the map, and the pixels of the screen.
  fit(rows) {
    this.rows = rows;
    this.cell = Math.max(24, Math.floor(1440 / Math.max(rows[0].length, rows.length * 1.2)));
    this.canvas.width = rows[0].length * this.cell;
    this.canvas.height = rows.length * this.cell;
  }

  // Row and column of a place on the screen.
  at(event) {
    const box = this.canvas.getBoundingClientRect();
    const x = (event.clientX - box.left) / box.width * this.rows[0].length;
    const y = (event.clientY - box.top) / box.height * this.rows.length;
    return [y - 0.5 - OFFSET, x - 0.5 - OFFSET];
  }

  x(column) { return (column + 0.5 + OFFSET) * this.cell; }
  y(row) { return (row + 0.5 + OFFSET) * this.cell; }

  // Whether the ball can be there: a tenth of a cell from every wall.
  free([row, column]) {
    const reach = 0.1;
    return [[-reach, -reach], [-reach, reach], [reach, -reach], [reach, reach]].every(([a, b]) => {
      const tile = this.rows[Math.floor(row + a + 0.5 + OFFSET)]?.[Math.floor(column + b + 0.5 + OFFSET)];
      return tile !== undefined && tile !== "#";
    });
  }

  disc(place, radius, fill, edge = null) {
    this.pen.beginPath();
    this.pen.arc(this.x(place[1]), this.y(place[0]), radius * this.cell, 0, 7);
    this.pen.fillStyle = fill;
    this.pen.fill();
    if (!edge) return;
    this.pen.lineWidth = this.cell * 0.04;
    this.pen.strokeStyle = edge;
    this.pen.stroke();
  }

  // The maze alone, with its points.
  ground(points) {
    const { pen, cell, rows } = this;
    pen.fillStyle = COLOURS.floor;
    pen.fillRect(0, 0, this.canvas.width, this.canvas.height);
    pen.fillStyle = COLOURS.wall;
    rows.forEach((row, i) => [...row].forEach((tile, j) => {
      if (tile === "#") pen.fillRect(j * cell, i * cell, cell + 1, cell + 1);
    }));
    this.disc(points.goal, 0.5, "rgba(231,111,81,.22)");
  }

  marks(points) {
    points.via.forEach((place, k) => {
      this.disc(place, 0.17, COLOURS.via, COLOURS.edge);
      this.write(String(k + 1), place);
    });
    this.disc(points.start, 0.16, COLOURS.start, "#fff");
    this.star(points.goal);
  }

  write(text, place) {
    this.pen.fillStyle = "#1f2430";
    this.pen.font = `600 ${this.cell * 0.22}px system-ui, sans-serif`;
    this.pen.textAlign = "center";
    this.pen.textBaseline = "middle";
    this.pen.fillText(text, this.x(place[1]), this.y(place[0]));
  }

  star(place) {
    const { pen, cell } = this;
    pen.beginPath();
    for (let k = 0; k < 10; k++) {
      const [radius, angle] = [(k % 2 ? 0.1 : 0.24) * cell, Math.PI * (k / 5 - 0.5)];
      pen.lineTo(this.x(place[1]) + radius * Math.cos(angle), this.y(place[0]) + radius * Math.sin(angle));
    }
    pen.closePath();
    pen.fillStyle = COLOURS.goal;
    pen.fill();
    pen.lineWidth = cell * 0.03;
    pen.strokeStyle = "#fff";
    pen.stroke();
  }

  path(places, width, alpha, dots = false) {
    const { pen, cell } = this;
    pen.lineWidth = width * cell;
    pen.lineCap = pen.lineJoin = "round";
    for (let k = 1; k < places.length; k++) {
      pen.strokeStyle = shade(k / places.length, alpha);
      pen.beginPath();
      pen.moveTo(this.x(places[k - 1][1]), this.y(places[k - 1][0]));
      pen.lineTo(this.x(places[k][1]), this.y(places[k][0]));
      pen.stroke();
    }
    if (dots) places.forEach((place, k) => this.disc(place, 0.045, shade(k / places.length, Math.min(1, alpha + 0.3))));
  }

  // Where the ball went.
  trace(places) {
    const { pen } = this;
    pen.beginPath();
    places.forEach(([row, column], k) => (k ? pen.lineTo(this.x(column), this.y(row)) : pen.moveTo(this.x(column), this.y(row))));
    pen.lineWidth = 0.06 * this.cell;
    pen.lineCap = pen.lineJoin = "round";
    pen.strokeStyle = COLOURS.ball;
    pen.stroke();
  }

  ball(place) {
    this.disc(place, 0.2, "rgba(255,255,255,.9)");
    this.disc(place, 0.14, COLOURS.ball);
  }
}
