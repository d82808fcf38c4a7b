// Asks a model by hand: a digit that is drawn for a model that takes one, a form for every other. What is sent is shown as
// the curl line that does the same.

const EXAMPLES = { BOOL: false, BYTES: "a text" };
const FEW = 16;
const MOST = 10;

class Trial {
  constructor(place, select, label) {
    [this.place, this.select, this.label] = [place, select, label];
    this.ids = null;
    this.turn = 0;
    select.addEventListener("change", () => this.open());
  }

  // The versions that serve, each time they are told: a form that somebody fills in stays as it is.
  offer(models) {
    const ids = models.filter((model) => model.figures).map(({ name, version }) => JSON.stringify([name, version]));
    if (JSON.stringify(ids) === JSON.stringify(this.ids)) return;
    const before = this.ids?.length ? this.select.value : null;
    this.ids = ids;
    this.label.hidden = ids.length < 2;
    this.select.replaceChildren(...ids.map((id) => el("option", { value: id }, JSON.parse(id).join("@"))));
    if (ids.includes(before)) this.select.value = before;
    else if (ids.length) this.open();
    else if (before === null) this.place.replaceChildren(el("p", { class: "quiet" }, "No model serves yet."));
  }

  async open() {
    const [name, version] = JSON.parse(this.select.value);
    const turn = (this.turn += 1);
    const path = `${encodeURIComponent(name)}/versions/${encodeURIComponent(version)}`;
    let signature;
    try {
      signature = await (await fetch(`/v2/models/${path}`)).json();
    } catch {
      signature = {};
    }
    if (turn !== this.turn) return;
    if (!signature.inputs) { this.ids = null; return; }
    this.target = { route: `/predict/${encodeURIComponent(name)}/${encodeURIComponent(version)}`, infer: `/v2/models/${path}/infer`, signature, labels: null };
    this.bars = el("div", { class: "bars" });
    this.said = el("p", { class: "quiet", role: "status" }, "");
    this.raw = el("pre", { tabindex: 0, "aria-label": "The answer" });
    this.curl = el("pre", { tabindex: 0, "aria-label": "The same with curl" });
    this.copied = el("button", { type: "button", onclick: () => this.copy() }, "Copy");
    const [input, ...others] = signature.inputs;
    const is_digit = !others.length && input.datatype === "FP32" && JSON.stringify(input.shape) === "[-1,8,8]";
    this.place.replaceChildren(...(is_digit ? this.pad() : this.form()), el("details", { class: "more" },
      el("summary", {}, "With curl, and the answer in full"), el("div", { class: "copy" }, this.curl, this.copied), this.raw));
  }

  pad() {
    const seen = el("div", { class: "seen" }, shades(null));
    const digit = new Digit(() => {
      const rows = digit.pixels();
      seen.replaceChildren(shades(rows));
      if (rows) this.ask(rows);
      else this.forget();
    });
    this.forget();
    const clear = el("button", { type: "button", onclick: () => digit.clear() }, "Clear");
    const sight = el("div", { class: "sight" }, seen, el("p", { class: "quiet" }, "what the model sees"), clear);
    return [el("div", { class: "draw" }, digit.canvas, sight, el("div", { class: "result" }, this.bars, this.said))];
  }

  form() {
    const fields = this.target.signature.inputs.map((input) => {
      const value = JSON.stringify(example(input));
      return { name: input.name, area: el("textarea", { rows: Math.min(6, 1 + Math.ceil(value.length / 60)), spellcheck: "false" }, value), input };
    });
    const kind = ({ datatype, shape }) => (datatype ? `${datatype} [${shape.join(", ")}]` : "any type and shape, rows first");
    const labels = fields.map(({ name, area, input }) => el("label", {}, el("span", {}, el("b", {}, name), ` ${kind(input)}`), area));
    const send = (event) => {
      event.preventDefault();
      const inputs = {};
      for (const { name, area } of fields) {
        try {
          inputs[name] = JSON.parse(area.value);
        } catch (error) {
          this.forget(`${name} is no JSON: ${error.message}`);
          area.focus();
          return;
        }
      }
      this.ask(inputs);
    };
    return [el("form", { onsubmit: send, "aria-label": `Ask ${JSON.parse(this.select.value).join("@")}` }, ...labels, el("button", { type: "submit", class: "main" }, "Ask")), el("div", { class: "result" }, this.bars, this.said)];
  }

  forget(why = "Draw a digit: the answer comes with each stroke.") {
    this.turn += 1;
    this.bars.replaceChildren();
    write(this.said, why);
    write(this.raw, "");
    write(this.curl, "");
  }

  async ask(inputs) {
    const { target } = this;
    const turn = (this.turn += 1);
    const body = JSON.stringify({ inputs });
    write(this.curl, `curl -H 'Content-Type: application/json' -d '${body.replaceAll("'", "'\\''")}' '${location.origin}${target.route}'`);
    const started = performance.now();
    let answer, text;
    try {
      answer = await post(target.route, body);
      text = await answer.text();
    } catch {
      if (turn === this.turn) write(this.said, "The server gave no answer.");
      return;
    }
    const seconds = (performance.now() - started) / 1000;
    if (turn !== this.turn) return;
    write(this.raw, text.length > 20000 ? `${text.slice(0, 20000)} …` : text);
    const told = answer.headers.get("torchpod-model") ? ` by ${answer.headers.get("torchpod-model")}@${answer.headers.get("torchpod-model-version")}` : "";
    const value = parsed(text);
    if (!answer.ok) {
      this.bars.replaceChildren();
      const error = value?.error ?? {};
      write(this.said, `${answer.status} ${error.code ?? ""}: ${error.message ?? text}${error.hint ? ` (${error.hint})` : ""}`);
      return;
    }
    write(this.said, `Answered${told} in ${took(seconds)}.`);
    target.labels ??= value.predictions ? await labels(target, inputs, value) : [];
    if (turn !== this.turn) return;
    this.bars.replaceChildren(...bars(value, target.labels));
    if (!value.predictions) this.place.querySelector("details").open = true;
  }

  async copy() {
    const text = this.curl.textContent;
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // Without TLS only localhost has a clipboard: then it is selected, for the keyboard to copy.
      getSelection().selectAllChildren(this.curl);
      write(this.copied, "Selected");
      return;
    }
    write(this.copied, "Copied");
    setTimeout(() => write(this.copied, "Copy"), 1500);
  }
}

const post = (route, body) => fetch(route, { method: "POST", headers: { "Content-Type": "application/json" }, body });

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

// One row that fits an input, of nothing but zeros.
function example({ datatype, shape }) {
  const value = EXAMPLES[datatype] ?? 0;
  const lengths = shape.length ? shape.map((length) => (length < 0 ? 1 : length)) : [1];
  return lengths.reduceRight((inner, length) => new Array(Math.min(length, 4096)).fill(inner), value);
}

const flat = (value) => (Array.isArray(value) ? value.flat(Infinity) : [value]);

function lengths(value) {
  return Array.isArray(value) ? [value.length, ...lengths(value[0])] : [];
}

// The words of a model's classes, by their places: its best classes, as the inference protocol tells them, all of them.
async function labels(target, inputs, value) {
  const known = [];
  const [name, rows] = Object.entries(value.outputs)[0];
  const described = target.signature.inputs;
  const of = (input) => (Array.isArray(inputs) ? inputs : inputs[input.name]);
  const body = {
    inputs: described.map((input) => ({ name: input.name, datatype: input.datatype, shape: lengths(of(input)), data: flat(of(input)) })),
    outputs: [{ name, parameters: { classification: flat(rows[0]).length } }],
  };
  try {
    const answer = await (await post(target.infer, JSON.stringify(body))).json();
    for (const text of answer.outputs[0].data) {
      const [, index, ...label] = text.split(":");
      known[index] = label.join(":") || index;
    }
  } catch {
    // Then only the best one has its word.
  }
  return known;
}

const softmax = (values) => {
  const powers = values.map((value) => Math.exp(value - Math.max(...values)));
  const all = powers.reduce((total, power) => total + power, 0);
  return powers.map((power) => power / all);
};
// How a model's numbers may become scores; which of them its own does, its answer's score tells.
const SCORES = [softmax, (values) => values.map((value) => 1 / (1 + Math.exp(-value))), (values) => values];

// The classes of the first row and their scores: all of a few, the best of many.
function bars(value, known) {
  const best = value.predictions?.[0];
  if (!best) return [];
  const numbers = flat(Object.values(value.outputs)[0][0]);
  const scored = SCORES.map((score) => score(numbers)).find((scores) => Math.abs(Math.max(...scores) - best.score) < 1e-4);
  let rows = scored && known.length ? scored.map((score, index) => [known[index] ?? String(index), score]) : [[best.label, best.score]];
  if (rows.length > FEW) rows = rows.sort(([, a], [, b]) => b - a).slice(0, MOST);
  const most = Math.max(...rows.map(([, score]) => Math.abs(score)), 1e-9);
  const row = ([label, score]) => {
    const bar = el("span", { class: "bar" });
    bar.style.width = `${Math.max(0, (score / (scored === undefined || most <= 1 ? 1 : most)) * 100)}%`;
    return el("li", { class: label === best.label ? "best" : null }, el("span", { class: "label" }, label), el("span", { class: "track" }, bar), el("span", { class: "score" }, score.toFixed(3)));
  };
  return [el("p", { class: "best-label" }, el("b", {}, best.label), el("span", { class: "quiet" }, ` ${(best.score * 100).toFixed(1)} %`)), el("ul", {}, ...rows.map(row))];
}

