// The state machine, drawn: where the server is, where it has been and for how long, and where it can go.

const PHASES = ["starting", "loading", "warming", "serving", "draining", "stopped", "failed"];
const WIDE = { width: 1096, height: 132, node: [132, 48], places: { starting: [0, 0], loading: [1, 0], warming: [2, 0], serving: [3, 0], draining: [4, 0], stopped: [5, 0], failed: [2, 1] }, step: [192.2, 82] };
const NARROW = { width: 350, height: 400, node: [132, 46], places: { starting: [0, 0], loading: [0, 1], warming: [0, 2], serving: [0, 3], draining: [0, 4], stopped: [0, 5], failed: [1, 2] }, step: [217, 70] };
const WAYS = [["starting", "loading"], ["loading", "warming"], ["warming", "serving"], ["serving", "draining"], ["draining", "stopped"]];
const WHAT = {
  starting: "ports are open, nothing has been read",
  loading: "models are being read",
  warming: "models prove themselves and warm up",
  serving: "every model is loaded, checked and warm",
  draining: "asked to end",
  stopped: "it has ended",
  failed: "loading failed for good; the process is ending",
};

// How long each phase lasted that is over, as far as transitions are kept.
function durations(transitions) {
  const known = {};
  for (const made of transitions) if (made.subject === "phase") known[made.from] ??= made.seconds;
  return known;
}

function drawMachine(place, state) {
  const layout = place.clientWidth < 700 ? NARROW : WIDE;
  const past = durations(state.transitions);
  const label = `${state.phase}: ${WHAT[state.phase]}`;
  const body = state.probes[0].body;
  draw(place, [layout === WIDE, state.phase, past, body.progress], () => {
    const boxes = PHASES.map((phase) => node(layout, phase, state.phase, past[phase], body.progress));
    return [svg("svg", { viewBox: `0 0 ${layout.width} ${layout.height}`, role: "img", "aria-label": label, class: "machine" }, ...ways(layout, past, state.phase), ...boxes)];
  });
  const now = place.querySelector(".now .for");
  if (now) write(now, lasted(state.seconds));
}

function corner(layout, phase) {
  const [column, row] = layout.places[phase];
  return [1 + column * layout.step[0], 1 + row * layout.step[1]];
}

function node(layout, phase, current, seconds, progress) {
  const [x, y] = corner(layout, phase);
  const [width, height] = layout.node;
  const is_now = phase === current;
  const kind = is_now ? `now ${phase}` : seconds === undefined ? "never" : "been";
  const done = is_now && progress !== undefined ? svg("rect", { class: "done", x, y, width: Math.max(6, width * progress), height, rx: 6 }) : null;
  return svg("g", { class: `node ${kind}` },
    svg("rect", { x, y, width, height, rx: 6 }), done,
    svg("text", { x: x + width / 2, y: y + (kind === "never" ? height / 2 + 5 : 20), class: "name" }, phase),
    svg("text", { x: x + width / 2, y: y + 37, class: "for" }, kind === "been" ? lasted(seconds) : ""));
}

// From each phase to the next, and the two that lead to `failed`.
function ways(layout, past, current) {
  const [width, height] = layout.node;
  const is_wide = layout === WIDE;
  const been = (phase) => phase === current || past[phase] !== undefined;
  const arrow = (path, taken) => svg("path", { d: path, class: taken ? "way taken" : "way" });
  const tip = (x, y) => (is_wide ? `M${x - 6},${y - 4} L${x},${y} L${x - 6},${y + 4}` : `M${x - 4},${y - 6} L${x},${y} L${x + 4},${y - 6}`);
  const all = WAYS.map(([from, to]) => {
    const [a, b] = [corner(layout, from), corner(layout, to)];
    const [x, y] = is_wide ? [a[0] + width, a[1] + height / 2] : [a[0] + width / 2, a[1] + height];
    const [u, v] = is_wide ? [b[0], b[1] + height / 2] : [b[0] + width / 2, b[1]];
    const [p, q] = is_wide ? [u - 3, v] : [u, v - 3];
    return arrow(`M${x},${y} L${p},${q} ${tip(p, q)}`, been(from) && been(to));
  });
  const [fx, fy] = corner(layout, "failed");
  for (const from of ["loading", "warming"]) {
    const [x, y] = corner(layout, from);
    const is_taken = current === "failed" && been(from) && !(from === "loading" && been("warming"));
    const straight = from === "warming";
    const end = is_wide ? [straight ? fx + width / 2 : fx - 3, straight ? fy - 3 : fy + height / 2] : [fx - 3, fy + height / 2];
    const path = is_wide
      ? straight ? `M${x + width / 2},${y + height} L${end}` : `M${x + width / 2},${y + height} V${end[1]} H${end[0]}`
      : straight ? `M${x + width},${y + height / 2} H${end[0]}` : `M${x + width},${y + height / 2} H${fx + width / 2} V${fy - 3}`;
    const [u, v] = is_wide || straight ? end : [fx + width / 2, fy - 3];
    const down = is_wide === straight;
    const head = down ? `M${u - 4},${v - 6} L${u},${v} L${u + 4},${v - 6}` : `M${u - 6},${v - 4} L${u},${v} L${u - 6},${v + 4}`;
    all.push(arrow(`${path} ${head}`, is_taken));
  }
  return all;
}

// What is going on, in a sentence.
function sentence(state) {
  const { stage, progress } = state.probes[0].body;
  const doing = stage ? `${stage}, ${Math.floor(progress * 100)} %` : WHAT[state.phase];
  const faults = state.faults.length ? ` Fault: ${state.faults.join(", ")}.` : "";
  return `${state.phase} for ${lasted(state.seconds)}: ${doing}.${faults}`;
}

