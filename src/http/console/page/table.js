// Models, dependencies and transitions, a row each.

const counted = (count, word, many = `${word}s`) => `${count.toLocaleString("en")} ${count === 1 ? word : many}`;

const field = (name, value) => (value === null || value === undefined || value === "" ? null : el("span", { class: "field" }, el("span", { class: "quiet" }, `${name} `), value));

function drawModels(place, models) {
  draw(place, models.map(({ figures, ...known }) => known), () => models.length ? models.map((model) => el("li", {},
    el("b", {}, model.version ? `${model.name}@${model.version}` : model.name),
    el("span", { class: `tag ${model.state.toLowerCase()}` }, model.state.toLowerCase()),
    el("span", { class: "fields" }, field("on", model.device), el("span", { class: "load" })),
    model.digest ? el("code", { class: "digest", title: "SHA-256 of the model’s file" }, model.digest) : null,
    model.reason ? el("p", { class: "reason" }, model.reason) : null)) : [el("li", { class: "quiet" }, "None yet.")]);
  models.forEach((model, index) => {
    const load = place.children[index]?.querySelector(".load");
    if (!load || !model.figures) return;
    const { ok, failed, rows, batches, max_batch_rows } = model.figures;
    const batch = max_batch_rows === null ? "one by one" : `at most ${max_batch_rows} rows a batch`;
    write(load, `${counted(ok + failed, "request")}, ${counted(rows, "row")} in ${counted(batches, "batch", "batches")}, ${batch}`);
  });
}

function drawDependencies(place, dependencies) {
  if (!dependencies.length) {
    draw(place, [], () => [el("li", { class: "quiet" }, "None: readiness waits for nobody. ", el("code", {}, "--dependency"), " names them.")]);
    return;
  }
  draw(place, dependencies.map((known) => [known.name, known.state, known.required, known.error]), () => dependencies.map((known) => el("li", {},
    el("b", {}, known.name), el("span", { class: `tag ${known.state}` }, known.state),
    el("span", { class: "fields" }, el("span", { class: "quiet" }, known.required ? "required" : "optional"), el("span", { class: "load" })),
    known.error ? el("p", { class: "reason" }, known.error) : null)));
  dependencies.forEach((known, index) => {
    const load = place.children[index]?.querySelector(".load");
    const checked = known.checked_seconds_ago === null ? "never checked" : `checked ${known.checked_seconds_ago < 1 ? "just now" : `${lasted(known.checked_seconds_ago)} ago`}, in ${took(known.latency_seconds)}`;
    if (load) write(load, `${known.state} for ${lasted(known.seconds)}, ${checked}`);
  });
}

function drawTransitions(place, state) {
  const start = { at: state.started, subject: "process", from: "", to: "started", reason: "" };
  const all = state.transitions.length < 100 ? [...state.transitions, start] : state.transitions;
  draw(place, all, () => all.map((made) => el("li", {},
    el("time", { datetime: made.at, title: made.at }, clock(made.at)),
    el("span", {}, made.subject === "phase" || made.subject === "process" ? null : `${made.subject} `, made.from ? `${made.from} → ` : null, el("b", { class: `to ${made.to}` }, made.to),
      made.from ? el("span", { class: "quiet" }, ` after ${lasted(made.seconds)}`) : null,
      made.reason ? el("span", { class: "reason" }, made.reason) : null))));
}

