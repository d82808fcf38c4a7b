// Puts an answer of the server's where it belongs, and says what is the matter where none comes.

const CHARTS = [
  new Chart("Requests a second", [["ok", "answered", "a"], ["failed", "failed", "c"]], number),
  new Chart("Latency", [["p50", "p50", "a"], ["p99", "p99", "b"]], took),
  new Chart("Rows a batch", [["rows", "mean", "a"]], number),
];
at("charts").append(...CHARTS.map((chart) => chart.node));
const COLORS = { serving: "#1a7f4b", failed: "#b3261e", stopped: "#6b7280", draining: "#b7791f" };

let known = null;
let lost = null;
let recent = new Recent();
const trial = new Trial(at("trial"), at("model"), at("model-label"));

function onstate(state) {
  const is_other = known !== null && known.started !== state.started;
  if (is_other) {
    recent = new Recent();
    say(`Another process answers: it started at ${clock(state.started)}.`);
  } else if (lost && known) say("The server answers again.");
  const phase = known?.phase;
  [known, lost] = [state, null];
  recent.take(state.models, performance.now() / 1000);
  write(at("version"), state.version);
  write(at("who"), `${state.who} at ${location.host}`);
  document.title = `${state.phase} · ${state.who} · torchpod`;
  pill(state.phase, state.phase);
  notice(trouble(state));
  if (phase !== state.phase) say(`${state.phase}: ${WHAT[state.phase]}`);
  render();
}

function render() {
  if (!known) return;
  const state = known;
  write(at("sentence"), sentence(state));
  drawMachine(at("machine"), state);
  drawProbes(at("probes"), state);
  drawStrips(at("strips"), state);
  drawFigures(state);
  const scope = at("scope").value;
  for (const chart of CHARTS) chart.draw(recent.points.get(scope) ?? recent.points.get(ALL), performance.now() / 1000);
  drawModels(at("models"), state.models);
  drawDependencies(at("dependencies"), state.dependencies);
  drawTransitions(at("transitions"), state);
  trial.offer(state.models);
}

function drawFigures(state) {
  const serving = state.models.filter((model) => model.figures);
  const total = (name) => serving.reduce((all, model) => all + model.figures[name], 0);
  const ids = serving.map((model) => `${model.name}@${model.version}`);
  at("scope-label").hidden = ids.length < 2;
  const before = at("scope").value;
  draw(at("scope"), ids, () => [el("option", { value: ALL }, "all models"), ...ids.map((id) => el("option", { value: id }, id))]);
  at("scope").value = ids.includes(before) ? before : ALL;
  const figures = [
    ["in flight", number(state.in_flight)],
    ["waiting", `${number(total("queue_requests"))} (${counted(total("queue_rows"), "row")})`],
    ["oldest batch", state.oldest_batch_seconds ? took(state.oldest_batch_seconds) : "–"],
    ["answered", total("ok").toLocaleString("en")],
    ["failed", total("failed").toLocaleString("en")],
    ["request memory", `${bytes(state.request_memory_bytes)} of ${bytes(state.request_memory_limit_bytes)}`],
  ];
  if (!at("figures").children.length) at("figures").append(...figures.map(([name]) => el("div", {}, el("dt", {}, name), el("dd"))));
  figures.forEach(([, value], index) => write(at("figures").children[index].lastChild, value));
}

// What somebody who looks should know at once.
function trouble(state) {
  if (state.phase === "draining") return `Draining for ${lasted(state.seconds)}, after ${state.transition}. ${state.probes[0].status === 200 ? "Requests are still answered; new ones should go to another server." : "It never served."}`;
  if (state.phase === "failed") return `Loading failed: ${state.transition}. The process is ending.`;
  if (state.faults.length) return `Fault: ${state.faults.join(", ")}. The kubelet will restart this container if it lasts.`;
  const down = state.dependencies.filter((known) => known.required && known.state === "down");
  if (state.phase === "serving" && down.length) return `Not ready: ${down.map((known) => known.name).join(", ")} ${down.length > 1 ? "are" : "is"} down.`;
  return "";
}

function onlost(why) {
  lost ??= { at: new Date() };
  pill("no answer", "failed");
  document.title = "no answer · torchpod";
  const how = why ? ` (${why})` : "";
  const last = !known ? "" : known.phase === "draining"
    ? " It was draining, so it has most likely ended as it was asked to."
    : ` It was ${known.phase}, and said no farewell.`;
  notice(`No answer since ${clock(lost.at)}${how}.${last} This page goes on by itself when a server answers here. What it shows is how things were.`);
}

function notice(text) {
  const place = at("notice");
  // Seconds that go on are no news: they are not read out again.
  const gist = text.replace(/for [^,]+,/, "");
  if (place.dataset.gist !== gist) place.setAttribute("aria-live", "polite");
  else place.setAttribute("aria-live", "off");
  place.dataset.gist = gist;
  place.hidden = !text;
  write(place, text);
  document.body.classList.toggle("lost", lost !== null);
}

const say = (text) => write(at("spoken"), text);

function pill(text, phase) {
  write(at("link"), text);
  at("link").className = `pill ${phase}`;
  const color = encodeURIComponent(COLORS[phase] ?? "#2f6fd0");
  const icon = `data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'><circle cx='8' cy='8' r='7' fill='${color}'/></svg>`;
  if (at("icon").href !== icon) at("icon").href = icon;
}

const server = new Server(onstate, onlost);
at("scope").addEventListener("change", render);
addEventListener("resize", render);
server.look();
