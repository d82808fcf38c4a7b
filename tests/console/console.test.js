// The console of a real server, seen by a real browser.

import assert from "node:assert/strict";
import { mkdir } from "node:fs/promises";
import { after, afterEach, before, test } from "node:test";

import { browse, open, says, Server, strokes, text, violations } from "./harness.js";

let browser;
before(async () => { browser = await browse(); });
afterEach(Server.endAll);
after(() => browser.close());

const DIGITS = {
  0: [arc(0.5, 0.5, 0.2, 0.32, -90, 270)],
  1: [[[0.5, 0.15], [0.5, 0.85]]],
  2: [[...arc(0.5, 0.33, 0.18, 0.17, 180, 380), [0.32, 0.85], [0.7, 0.85]]],
  3: [[...arc(0.48, 0.33, 0.18, 0.16, 200, 450), ...arc(0.48, 0.67, 0.2, 0.18, -90, 160)]],
  4: [[[0.35, 0.15], [0.32, 0.5], [0.7, 0.5]], [[0.65, 0.15], [0.65, 0.85]]],
  5: [[[0.68, 0.15], [0.36, 0.15], [0.34, 0.47], ...arc(0.48, 0.64, 0.2, 0.2, -120, 140)]],
  6: [[...arc(0.6, 0.5, 0.28, 0.36, -100, -180), ...arc(0.5, 0.66, 0.18, 0.19, 180, 540)]],
  7: [[[0.25, 0.2], [0.75, 0.2], [0.45, 0.85]]],
  8: [[...arc(0.5, 0.32, 0.15, 0.16, 90, 450), ...arc(0.5, 0.67, 0.18, 0.19, -90, 270)]],
  9: [[...arc(0.5, 0.35, 0.18, 0.19, 0, 360), [0.68, 0.85]]],
};

// Of an ellipse, from one angle to another, in degrees.
function arc(x, y, across, down, from, to) {
  return Array.from({ length: 13 }, (_, step) => {
    const angle = ((from + ((to - from) * step) / 12) * Math.PI) / 180;
    return [x + across * Math.cos(angle), y + down * Math.sin(angle)];
  });
}

const now = (phase) => `.node.now.${phase}`;
const answered = (page) => page.locator("#figures div", { hasText: "answered" }).locator("dd").innerText();

test("a life is watched from its loading to the server's end, and the next one's begins by itself", async () => {
  const server = await Server.start(["--chaos", "load-delay=4s", "--drain-delay", "3s"]);
  const page = await open(browser, server);
  const seen = [];
  await page.exposeFunction("seen", (phase) => seen.push(phase));
  await page.evaluate(() => new MutationObserver(() => globalThis.seen(document.querySelector("#link").textContent))
    .observe(document.querySelector("#link"), { childList: true, characterData: true, subtree: true }));
  await page.locator(now("loading")).waitFor();
  await says(page, "#sentence", /reading digits@1, \d+ %/);
  assert.match(await text(page, "#probes article >> nth=0"), /503.*"status":"loading"/s);

  await page.locator(now("serving")).waitFor();
  for (const [index, path] of ["/startup", "/health", "/ready"].entries()) {
    assert.match(await text(page, `#probes article >> nth=${index}`), new RegExp(`${path}.*200`, "s"));
  }
  // Its bars: not passing, and then passing.
  assert.deepEqual(await page.locator(".strips g").nth(2).locator("rect").evaluateAll((bars) => bars.map((bar) => bar.getAttribute("class"))), ["fail", "pass"]);
  const to = await page.locator("#transitions li b").allInnerTexts();
  assert.deepEqual(to, ["serving", "warming", "loading", "started"]);

  server.child.kill("SIGTERM");
  await page.locator(now("draining")).waitFor();
  await says(page, "#notice", /Draining for .*SIGTERM/);
  assert.match(await text(page, "#probes article >> nth=2"), /503.*"reason":"draining"/s);
  assert.equal(await server.ended, 0, "an open console holds no drain up");
  await says(page, "#notice", /No answer since .*It was draining/);
  assert.equal(await text(page, "#link"), "no answer");

  const next = await Server.start([], server.address);
  await page.locator(now("serving")).waitFor();
  await says(page, "#spoken", /serving/);
  assert.equal(await page.locator("#notice").isVisible(), false);
  // Between two looks a phase may have passed.
  const sure = seen.filter((phase) => ["serving", "draining", "no answer"].includes(phase));
  assert.deepEqual(sure.filter((phase, index) => phase !== sure[index - 1]), ["serving", "draining", "no answer", "serving"]);
  await next.kill();
  await says(page, "#notice", /It was serving, and said no farewell/);
  assert.deepEqual(page.wrong, []);
});

test("a digit that is drawn is the digit that is answered", async () => {
  const server = await Server.start();
  const page = await open(browser, server);
  await page.locator("canvas.pad").waitFor();
  for (const [digit, ways] of Object.entries(DIGITS)) {
    await strokes(page, ways);
    await says(page, ".best-label b", new RegExp(`^${digit}$`));
    assert.equal(await page.locator(".bars li").count(), 10);
    assert.equal(await text(page, ".bars li.best .label"), digit);
    await page.getByRole("button", { name: "Clear" }).click();
    assert.equal(await page.locator(".bars li").count(), 0);
  }
  assert.deepEqual(page.wrong, []);
  await server.kill();
});

test("the curl line asks the same, and a pen is moved by keys, too", async () => {
  const server = await Server.start();
  const page = await open(browser, server);
  await page.locator("canvas.pad").focus();
  // From the top left, right along the upper edge and down again: a 7.
  for (const key of ["ArrowLeft", "ArrowLeft", " ", ...Array(4).fill("ArrowRight"), ...Array(2).fill("ArrowDown"), "ArrowLeft", ...Array(2).fill("ArrowDown"), "ArrowLeft", ...Array(3).fill("ArrowDown")]) {
    await page.keyboard.press(key);
  }
  await says(page, ".best-label b", /^7$/);
  await page.getByText("With curl, and the answer in full").click();
  const line = await text(page, "pre[aria-label='The same with curl']");
  const [, body, url] = line.match(/-d '(.*)' '(.*)'$/s);
  const answer = await (await fetch(url, { method: "POST", body, headers: { "Content-Type": "application/json" } })).text();
  assert.equal(JSON.parse(answer).predictions[0].label, "7");
  await says(page, "pre[aria-label='The answer']", answer.trim());
  assert.deepEqual(page.wrong, []);
  await server.kill();
});

test("load is shown as it comes, and nobody is asked while nobody looks", async () => {
  const server = await Server.start(["--chaos", "batch-delay=20ms"]);
  const page = await open(browser, server);
  await page.locator("canvas.pad").waitFor();
  const charts = () => page.locator("#charts .legend").allInnerTexts();
  let over = false;
  const load = (async () => {
    while (!over) await Promise.all(Array.from({ length: 8 }, async () => (await server.predict()).text()));
  })();
  await page.waitForFunction(() => {
    const [requests, latency, rows] = [...document.querySelectorAll("#charts .legend")].map((node) => node.textContent);
    return /answered ([1-9]\d*)/.test(requests) && /p50 [2-9]\d(\.\d+)? ms/.test(latency) && /mean [2-8](\.\d+)?$/.test(rows);
  });
  over = true;
  await load;
  const count = (await page.evaluate(async () => (await (await fetch("/console/state")).json()).models[0].figures.ok)).toLocaleString("en");
  await page.waitForFunction((wanted) => [...document.querySelectorAll("#figures dd")].some((node) => node.textContent === wanted), count);
  assert.equal(await answered(page), count, (await charts()).join());

  let asked = 0;
  page.on("request", () => { asked += 1; });
  await page.evaluate(() => {
    Object.defineProperty(document, "hidden", { value: true, configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
  });
  // Nothing that could be waited for happens: three of its periods, in which it would have asked.
  await page.waitForTimeout(3000);
  assert.ok(asked <= 1, `${asked} requests`);
  await page.evaluate(() => {
    delete document.hidden;
    document.dispatchEvent(new Event("visibilitychange"));
  });
  await page.waitForRequest(/console\/state/);
  assert.deepEqual(page.wrong, []);
  await server.kill();
});

// Written where SHOTS says, for people to look at.
const SHOTS = process.env.SHOTS;

test("nobody is shut out of it, in light and dark, on wide and narrow screens, with a server and without", async () => {
  const server = await Server.start(["--dependency", "tcp://127.0.0.1:1#name=features,interval=1s"]);
  const pages = new Map();
  for (const colorScheme of ["light", "dark"]) {
    for (const width of [1280, 390]) {
      const page = await open(browser, server, { colorScheme, viewport: { width, height: 900 }, bypassCSP: true });
      pages.set(`${colorScheme}-${width}`, page);
      await page.locator("canvas.pad").waitFor();
      await strokes(page, DIGITS[7]);
      await says(page, ".best-label b", /^7$/);
      await page.getByText("With curl, and the answer in full").click();
      await says(page, "#notice", /Not ready: features is down/);
      assert.deepEqual(await violations(page), []);
      assert.equal(await page.evaluate(() => document.documentElement.scrollWidth > innerWidth), false, "nothing sticks out");
      if (SHOTS) await shoot(page, `${colorScheme}-${width}`);
    }
  }
  await server.kill();
  for (const [name, page] of pages) {
    await says(page, "#notice", /No answer/);
    assert.deepEqual(await violations(page), []);
    if (SHOTS) await shoot(page, `${name}-lost`);
  }
});

async function shoot(page, name) {
  await mkdir(SHOTS, { recursive: true });
  await page.evaluate(() => scrollTo(0, 0));
  await page.screenshot({ path: `${SHOTS}/${name}.png`, fullPage: true });
}
