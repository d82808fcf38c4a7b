// A real server and a real browser: what every test of the console starts from.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

import { chromium } from "playwright-core";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const TORCHPOD = process.env.TORCHPOD ?? join(ROOT, "target/debug/torchpod");
const AXE = createRequire(import.meta.url).resolve("axe-core/axe.min.js");
// Long enough for a loaded machine; a test that passes never waits for it.
export const PATIENCE = 60_000;

// A browser with a folder of its own, which asks nobody but the pages it is shown.
export async function browse() {
  const folder = await mkdtemp(join(tmpdir(), "torchpod-console-"));
  const quiet = ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
  // As root Chromium has no sandbox of its own to offer.
  const sandbox = process.getuid() === 0 ? ["--no-sandbox"] : [];
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: [...quiet, ...sandbox, `--disk-cache-dir=${folder}`], timeout: PATIENCE });
  const close = browser.close.bind(browser);
  browser.close = async () => {
    await close();
    await rm(folder, { recursive: true, force: true });
  };
  return browser;
}

// A page that fails its test for an error, for what its policy forbids, and for a request to anybody else.
export async function open(browser, server, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, reducedMotion: "reduce", ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  page.wrong = [];
  page.on("pageerror", (error) => page.wrong.push(String(error)));
  page.on("console", (message) => {
    // A server that has ended refuses connections, which Chromium notes as errors.
    if (message.type() === "error" && !message.text().startsWith("Failed to load resource")) page.wrong.push(message.text());
  });
  page.on("request", (request) => {
    const { protocol, origin } = new URL(request.url());
    if (protocol !== "data:" && origin !== server.url) page.wrong.push(`asked ${request.url()}`);
  });
  await page.goto(server.url);
  return page;
}

export class Server {
  static running = new Set();

  // Of a test that failed, too: a child that lives on would keep its tests from ending.
  static async endAll() {
    await Promise.all([...Server.running].map((server) => server.kill()));
  }

  // Its port is open when this resolves. `listen` is one that another has had.
  static async start(flags = [], listen = "127.0.0.1:0") {
    const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("TORCHPOD")));
    const all = ["serve", "--listen", listen, "--grpc-listen", "off", "--log-format", "json", ...flags];
    const child = spawn(TORCHPOD, all, { cwd: ROOT, env, stdio: ["ignore", "ignore", "pipe"] });
    const server = new Server();
    Object.assign(server, { child, log: [], ended: once(child, "exit").then(([code]) => code) });
    Server.running.add(server);
    server.ended.finally(() => Server.running.delete(server));
    const listening = new Promise((resolve, reject) => {
      createInterface({ input: child.stderr }).on("line", (line) => {
        server.log.push(line);
        if (line.includes('"message":"listening"')) resolve(JSON.parse(line).http);
      });
      server.ended.then(() => reject(new Error(`the server ended:\n${server.log.join("\n")}`)), reject);
    });
    server.address = await listening;
    server.url = `http://${server.address}`;
    return server;
  }

  // A request for a prediction, answered or not.
  predict(path = "/predict", body = SAMPLE) {
    return fetch(this.url + path, { method: "POST", body, headers: { "Content-Type": "application/json" } });
  }

  async kill() {
    this.child.kill("SIGKILL");
    await this.ended;
  }
}

// One row of a seven, as the README's curl sends it.
export const SAMPLE = await readFile(join(ROOT, "models/digits/sample.json"));

export const text = (page, selector) => page.locator(selector).innerText();

// Waits until an element says something like `pattern`.
export function says(page, selector, pattern) {
  return page.locator(selector).filter({ hasText: pattern }).first().waitFor();
}

// What axe-core finds wrong with a page. Its own script may not run under the page's policy, which the context must pass by.
export async function violations(page) {
  await page.addScriptTag({ path: AXE });
  const { violations: found } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
  return found.map(({ id, nodes }) => `${id}: ${nodes.map((node) => `${node.html} ${node.failureSummary}`).join("; ")}`);
}

// A pen's way over the pad, in shares of its width and height.
export async function strokes(page, all) {
  const pad = page.locator("canvas.pad");
  await pad.scrollIntoViewIfNeeded();
  const { x, y, width, height } = await pad.boundingBox();
  for (const points of all) {
    const places = points.map(([u, v]) => [x + u * width, y + v * height]);
    await page.mouse.move(...places[0]);
    await page.mouse.down();
    for (const place of places.slice(1)) await page.mouse.move(...place, { steps: 2 });
    await page.mouse.up();
  }
}
