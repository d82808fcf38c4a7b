// A small chart of the last minutes: lines over time, and their latest values beside their names.

const HEIGHT = 132;

class Chart {
  // `lines` are [name of a point's value, word, class]; `form` makes a text of a value.
  constructor(title, lines, form) {
    this.lines = lines;
    this.form = form;
    this.values = lines.map(() => el("b", {}, "–"));
    const key = lines.map(([, word, kind], index) => el("span", {}, el("i", { class: `key ${kind}` }), `${word} `, this.values[index]));
    this.title = title;
    this.place = el("div", { class: "plot" });
    this.node = el("figure", { class: "card" }, el("figcaption", {}, el("h3", {}, title), el("span", { class: "legend" }, ...key)), this.place);
    this.cursor = null;
    this.place.addEventListener("pointermove", (event) => this.point(event.offsetX));
    this.place.addEventListener("pointerleave", () => this.point(null));
  }

  point(x) {
    this.cursor = x;
    if (this.points) this.draw(this.points, this.now);
  }

  draw(points, now) {
    [this.points, this.now] = [points, now];
    const width = Math.max(240, this.place.clientWidth);
    const [left, bottom] = [58, 18];
    const values = this.lines.flatMap(([name]) => points.map((point) => point[name]));
    const most = ceiling(Math.max(0, ...values.filter((value) => value !== null)));
    const x = (time) => left + (width - left - 2) * (1 - (now - time) / SPAN);
    const y = (value) => 6 + (HEIGHT - bottom - 6) * (1 - value / most);
    const grid = [0, 0.5, 1].flatMap((share) => [
      svg("line", { class: "grid", x1: left, x2: width, y1: y(share * most), y2: y(share * most) }),
      svg("text", { class: "tick end", x: left - 6, y: y(share * most) + 4 }, share === 0 ? "0" : this.form(share * most)),
    ]);
    const traces = this.lines.flatMap(([name, , kind]) => [
      svg("path", { class: `line ${kind}`, d: trace(points, name, x, y) }),
      ...alone(points, name).map((point) => svg("circle", { class: `dot ${kind}`, cx: x(point.time), cy: y(point[name]), r: 2 })),
    ]);
    const shown = this.cursor === null || this.cursor < left ? null : nearest(points, now - SPAN * (1 - (this.cursor - left) / (width - left - 2)));
    const last = shown ?? points.at(-1);
    this.lines.forEach(([name], index) => write(this.values[index], this.form(last?.[name] ?? null)));
    const ago = shown ? `${Math.round(now - shown.time)} s ago` : "";
    this.place.replaceChildren(svg("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, width, height: HEIGHT, role: "img", "aria-label": `${this.title} over the last three minutes` },
      ...grid, ...traces,
      shown ? svg("line", { class: "cursor", x1: x(shown.time), x2: x(shown.time), y1: 6, y2: HEIGHT - bottom }) : null,
      svg("text", { class: "tick", x: left, y: HEIGHT - 4 }, "3 min ago"), svg("text", { class: "tick end", x: width, y: HEIGHT - 4 }, ago || "now")));
  }
}

// A line, which breaks off where nothing is known.
function trace(points, name, x, y) {
  let path = "";
  let is_open = false;
  for (const point of points) {
    const is_known = point[name] !== null;
    if (is_known) path += `${is_open ? "L" : "M"}${x(point.time).toFixed(1)},${y(point[name]).toFixed(1)}`;
    is_open = is_known;
  }
  return path;
}

// The points of which no line could be drawn.
function alone(points, name) {
  const is_known = (point) => point !== undefined && point[name] !== null;
  return points.filter((point, index) => is_known(point) && !is_known(points[index - 1]) && !is_known(points[index + 1]));
}

// The next round number.
function ceiling(value) {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 1.5, 2, 3, 4, 5, 6, 8, 10].map((step) => step * power).find((step) => step >= value * 0.999);
}

function nearest(points, time) {
  return points.reduce((best, point) => (best && Math.abs(best.time - time) < Math.abs(point.time - time) ? best : point), null);
}

