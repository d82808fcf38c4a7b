// A digit that somebody draws, as the model saw its digits in training: 8 × 8 counts of ink, 0 to 16, of a drawing that
// NIST's programs had made upright, as large as fits, and of even ink. The strokes are kept, and drawn again like that.

const PAPER = 32;
const CELL = 4;
// Of the paper: the training's digits are higher than wide.
const WIDTH = 24;
// How much of its slant a drawing loses: with all of it, a 7 would lose what makes it one.
const UPRIGHT = 0.5;
// What the training's digits have on average, in cells full of ink; measured over golden.json.
const INK = 19.3;
const [THIN, THICK] = [2.5, 9];
// Of the pad's height: what is smaller than this is a dot, and not a digit from afar.
const SMALLEST = 0.12;

class Digit {
  // `onchange` hears of each stroke that is done.
  constructor(onchange) {
    this.strokes = [];
    this.onchange = onchange;
    this.canvas = el("canvas", { width: 448, height: 448, class: "pad", tabindex: 0, role: "application", "aria-label": "Drawing pad, 8 by 8 places. Arrow keys move, Space puts the pen down or lifts it, Delete clears." });
    this.paper = document.createElement("canvas");
    this.paper.width = this.paper.height = PAPER;
    this.pen = null;
    this.keys = null;
    this.listen();
    this.show();
  }

  listen() {
    const where = (event) => [event.offsetX / this.canvas.clientWidth, event.offsetY / this.canvas.clientHeight];
    this.canvas.addEventListener("pointerdown", (event) => {
      this.canvas.setPointerCapture(event.pointerId);
      this.pen = [where(event)];
      this.strokes.push(this.pen);
      this.keys = null;
      this.show();
    });
    this.canvas.addEventListener("pointermove", (event) => {
      if (!this.pen) return;
      for (const part of event.getCoalescedEvents?.().length ? event.getCoalescedEvents() : [event]) this.pen.push(where(part));
      this.show();
    });
    for (const end of ["pointerup", "pointercancel"]) {
      this.canvas.addEventListener(end, () => {
        if (this.pen) { this.pen = null; this.onchange(); }
      });
    }
    this.canvas.addEventListener("keydown", (event) => this.press(event));
    this.canvas.addEventListener("blur", () => { this.keys = null; this.show(); });
  }

  press(event) {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!step && event.key !== " " && event.key !== "Delete") return;
    event.preventDefault();
    if (event.key === "Delete") { this.clear(); return; }
    this.keys ??= { place: [3, 0], is_down: false };
    const { keys } = this;
    if (step) keys.place = keys.place.map((value, axis) => Math.min(7, Math.max(0, value + step[axis])));
    const middle = keys.place.map((value) => (value + 0.5) / 8);
    if (event.key === " ") {
      keys.is_down = !keys.is_down;
      if (keys.is_down) this.strokes.push([middle]);
    } else if (keys.is_down) this.strokes.at(-1).push(middle);
    this.show();
    if (this.strokes.length) this.onchange();
  }

  clear() {
    this.strokes = [];
    this.show();
    this.onchange();
  }

  show() {
    const context = this.canvas.getContext("2d");
    const side = this.canvas.width;
    const style = getComputedStyle(this.canvas);
    context.clearRect(0, 0, side, side);
    context.strokeStyle = style.color;
    stroke(context, this.strokes, ([x, y]) => [x * side, y * side], side / 11);
    if (!this.keys) return;
    const [x, y] = this.keys.place.map((value) => ((value + 0.5) / 8) * side);
    context.beginPath();
    context.arc(x, y, this.keys.is_down ? 26 : 16, 0, 7);
    context.lineWidth = 5;
    context.strokeStyle = style.outlineColor;
    context.stroke();
  }

  // The rows that the model takes; null where nothing is drawn.
  pixels() {
    if (!this.strokes.length) return null;
    const strokes = upright(this.strokes);
    // As much ink as the training's digits have, by the width of the pen.
    let [low, high] = [THIN, THICK];
    for (let round = 0; round < 6; round += 1) {
      const width = (low + high) / 2;
      if (sum(this.counts(strokes, width)) < INK * 16) low = width;
      else high = width;
    }
    return this.counts(strokes, low).map((row) => row.map((value) => Math.min(16, Math.round(value))));
  }

  // The ink in each cell, of strokes this wide.
  counts(strokes, width) {
    const all = strokes.flat();
    const [xs, ys] = [all.map(([x]) => x), all.map(([, y]) => y)];
    const [left, top] = [Math.min(...xs), Math.min(...ys)];
    const [wide, high] = [Math.max(...xs) - left, Math.max(...ys) - top];
    const down = (PAPER - width) / Math.max(high, SMALLEST);
    const across = Math.min((WIDTH - width) / Math.max(wide, 1e-6), down);
    const place = ([x, y]) => [PAPER / 2 + (x - left - wide / 2) * across, PAPER / 2 + (y - top - high / 2) * down];
    const context = this.paper.getContext("2d", { willReadFrequently: true });
    context.clearRect(0, 0, PAPER, PAPER);
    stroke(context, strokes, place, width);
    const { data } = context.getImageData(0, 0, PAPER, PAPER);
    const rows = Array.from({ length: PAPER / CELL }, () => new Array(PAPER / CELL).fill(0));
    for (let y = 0; y < PAPER; y += 1) for (let x = 0; x < PAPER; x += 1) rows[y >> 2][x >> 2] += data[(y * PAPER + x) * 4 + 3] / 255;
    return rows;
  }
}

// The strokes sheared, so that what leans stands.
function upright(strokes) {
  const ink = strokes.flatMap((points) => points.slice(1).flatMap(([x, y], index) => {
    const [u, v] = points[index];
    const steps = Math.max(1, Math.ceil(Math.hypot(x - u, y - v) * 100));
    return Array.from({ length: steps }, (_, step) => [u + ((x - u) * step) / steps, v + ((y - v) * step) / steps]);
  }));
  const mean = [0, 1].map((axis) => ink.reduce((all, point) => all + point[axis], 0) / Math.max(1, ink.length));
  const [both, high] = ink.reduce(([a, b], [x, y]) => [a + (x - mean[0]) * (y - mean[1]), b + (y - mean[1]) ** 2], [0, 0]);
  const lean = high > 0 ? (UPRIGHT * both) / high : 0;
  return strokes.map((points) => points.map(([x, y]) => [x - lean * (y - mean[1]), y]));
}

const sum = (rows) => rows.flat().reduce((all, value) => all + value, 0);

function stroke(context, strokes, place, width) {
  Object.assign(context, { lineWidth: width, lineCap: "round", lineJoin: "round" });
  for (const points of strokes) {
    context.beginPath();
    points.map(place).forEach(([x, y], index) => (index ? context.lineTo(x, y) : context.moveTo(x, y)));
    if (points.length === 1) context.lineTo(...place(points[0]).map((value) => value + 0.01));
    context.stroke();
  }
}

// The 64 numbers, as shades.
function shades(rows) {
  const cells = (rows ?? []).flatMap((row, y) => row.map((value, x) => svg("rect", { x, y, width: 1, height: 1, "fill-opacity": (value / 16).toFixed(3) })));
  return svg("svg", { viewBox: "0 0 8 8", class: "shades", role: "img", "aria-label": "What the model sees, 8 by 8" }, ...cells);
}

