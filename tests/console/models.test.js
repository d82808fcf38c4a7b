// Models that are no digits: each gets a form that is made from what it says of itself.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";

import { browse, open, says, Server, text } from "./harness.js";

const MAKE = fileURLToPath(new URL("../models/make.py", import.meta.url));

let browser, models, server, page;
before(async () => {
  browser = await browse();
  models = await mkdtemp(join(tmpdir(), "torchpod-models-"));
  execFileSync("python3", ["-B", MAKE, models, "row_sum", "identity_bytes", "identity_bool"]);
  server = await Server.start([models]);
  page = await open(browser, server);
  await page.locator("#trial form").waitFor();
});
after(async () => {
  await browser.close();
  await server.kill();
  await rm(models, { recursive: true });
});

// The field of a model's form, once that is there.
async function field(model) {
  await page.locator("#model").selectOption({ label: model });
  const form = page.getByRole("form", { name: `Ask ${model}` });
  await form.waitFor();
  return form.locator("textarea");
}

// Asks what is given, or else the example that the form holds, which it returns.
async function ask(model, value) {
  const area = await field(model);
  const example = await area.inputValue();
  if (value !== undefined) await area.fill(value);
  await page.getByRole("button", { name: "Ask" }).click();
  return example;
}

test("a form holds a row that the model takes, and shows what it gives", async () => {
  await ask("row_sum@1", "[[1, 2, 3.5]]");
  await says(page, ".result", /Answered by row_sum@1 in/);
  assert.deepEqual(JSON.parse(await text(page, "pre[aria-label='The answer']")).outputs, { output_0: [[1, 2, 3.5]], output_1: [6.5] });
  for (const [model, example] of [["identity_bytes@1", '[["a text"]]'], ["identity_bool@1", "[[false]]"]]) {
    assert.equal(await ask(model), example);
    await says(page, ".result", new RegExp(`Answered by ${model}`));
    assert.deepEqual(JSON.parse(await text(page, "pre[aria-label='The answer']")).outputs, { OUTPUT0: JSON.parse(example) });
  }
});

test("what does not fit is explained where it was asked", async () => {
  await ask("row_sum@1", "[[1, 2,");
  await says(page, ".result", /x is no JSON/);
  await ask("row_sum@1", '[["one"]]');
  await says(page, ".result", /400 bad_input/);
  assert.deepEqual(page.wrong, []);
});

test("a quote in what is asked does not end the curl line", async () => {
  await ask("identity_bytes@1", `[["it's"]]`);
  await says(page, ".result", /Answered by identity_bytes@1/);
  const line = await text(page, "pre[aria-label='The same with curl']");
  const answer = JSON.parse(execFileSync("sh", ["-c", line.replace("curl", "curl -s")]));
  assert.deepEqual(answer.outputs.OUTPUT0, [["it's"]]);
});

test("a form stays as somebody filled it in, whatever else the page hears", async () => {
  const area = await field("identity_bool@1");
  await area.fill("[[true]]");
  for (let answers = 0; answers < 2; answers += 1) await page.waitForResponse(/console\/state/);
  assert.equal(await area.inputValue(), "[[true]]");
  assert.equal(await page.locator("#model").inputValue(), '["identity_bool","1"]');
});

test("load can be looked at by model", async () => {
  let over = false;
  const load = (async () => {
    while (!over) await (await server.predict("/predict/row_sum", '{"inputs": [[1, 2, 3]]}')).text();
  })();
  const legend = () => text(page, "#charts .legend >> nth=0");
  const shown = (pattern) => page.waitForFunction((source) => new RegExp(source).test(document.querySelector("#charts .legend").textContent), pattern);
  await shown("answered [1-9]");
  await page.locator("#scope").selectOption({ label: "identity_bool@1" });
  await page.waitForResponse(/console\/state/);
  assert.match(await legend(), /answered 0/);
  await page.locator("#scope").selectOption({ label: "row_sum@1" });
  await shown("answered [1-9]");
  over = true;
  await load;
});
