// The three probes as the kubelet sees them: what they answer now, since when, what follows from it, and how it was before.

const FOLLOWS = {
  "/startup": { 200: "Liveness and readiness are asked from now on.", 503: "Until 200, liveness and readiness are not asked. At failureThreshold the container is restarted." },
  "/health": { 200: "The container is left running.", 503: "At failureThreshold the container is restarted." },
  "/ready": { 200: "Services send requests here.", 503: "Services send no requests here." },
};
const KUBELET = { "/startup": "startupProbe", "/health": "livenessProbe", "/ready": "readinessProbe" };
// The longest that the strips show, in seconds.
const LOOK_BACK = 600;

function drawProbes(place, state) {
  draw(place, state.probes, () => state.probes.map((probe) => el("article", { class: `card ${probe.status === 200 ? "pass" : "fail"}` },
    el("h3", {}, el("a", { href: `${probe.path}?verbose` }, probe.path), el("span", { class: "quiet" }, ` ${KUBELET[probe.path]}`)),
    el("p", { class: "verdict" }, el("b", {}, String(probe.status)), el("span", { class: "quiet" }, probe.since ? `since ${clock(probe.since)}` : "since the start")),
    el("code", { class: "body" }, JSON.stringify(probe.body)),
    el("p", { class: "quiet" }, FOLLOWS[probe.path][probe.status]))));
}

// Each change of what a probe answers, the first first: [time in seconds, status].
function changes(state, probe, start) {
  const made = [...state.transitions].reverse();
  // The first transition turns no probe.
  const first = made.length ? made[0][probe] : state.probes.find((known) => known.path === `/${probe}`).status;
  const all = [[start, first]];
  for (const one of made) if (one[probe] !== all.at(-1)[1]) all.push([Date.parse(one.at) / 1000, one[probe]]);
  return all;
}

function drawStrips(place, state) {
  const now = Date.parse(state.now) / 1000;
  const started = Date.parse(state.started) / 1000;
  // Of what came before the oldest transition that is kept, nothing is known.
  const oldest = state.transitions.length < 100 ? started : Date.parse(state.transitions.at(-1).at) / 1000;
  const from = Math.max(oldest, now - LOOK_BACK);
  const width = Math.max(280, place.clientWidth);
  const left = 64;
  const x = (time) => left + ((width - left) * (Math.max(time, from) - from)) / Math.max(1, now - from);
  const rows = ["startup", "health", "ready"].map((probe, row) => {
    const all = changes(state, probe, oldest);
    const bars = all.map(([time, status], index) => {
      const end = all[index + 1]?.[0] ?? now;
      if (end < from) return null;
      const is_pass = status === 200;
      const y = 4 + row * 22;
      return svg("rect", { class: is_pass ? "pass" : "fail", x: x(time), y: is_pass ? y : y + 9, width: Math.max(1.5, x(end) - x(time)), height: is_pass ? 14 : 5 }, svg("title", {}, `${probe} ${status} from ${clock(time * 1000)}`));
    });
    return svg("g", {}, svg("text", { x: 0, y: 15 + row * 22 }, probe), ...bars);
  });
  const past = `${from > started ? "" : "start, "}${lasted(now - from)} ago`;
  const said = state.probes.map((probe) => `${probe.path} ${probe.status}`).join(", ");
  place.replaceChildren(svg("svg", { viewBox: `0 0 ${width} 86`, width, height: 86, class: "strips", role: "img", "aria-label": `The probes over time; now ${said}` },
    ...rows, svg("text", { x: left, y: 82, class: "tick" }, past), svg("text", { x: width, y: 82, class: "tick end" }, "now")));
}

