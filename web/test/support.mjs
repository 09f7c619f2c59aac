// Starts what the tests need: the scripted server, something like a gateway in front of it, and Chromium.
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { createInterface } from "node:readline";
import { Worker } from "node:worker_threads";
import { after, before, beforeEach } from "node:test";
import { fileURLToPath } from "node:url";

import { build } from "esbuild";
import { chromium } from "playwright-core";

const TOP = fileURLToPath(new URL("../../", import.meta.url));

export const SIZES = {
  desktop: { viewport: { width: 1280, height: 800 } },
  phone: { viewport: { width: 390, height: 780 }, hasTouch: true, isMobile: true, deviceScaleFactor: 2 },
};

/** A module of web/src, for tests that need no browser. */
export async function source(path) {
  return import(`data:text/javascript;base64,${Buffer.from(await bundled(path, "esm")).toString("base64")}`);
}

async function bundled(path, format) {
  const options = { bundle: true, write: false, format, jsx: "automatic", jsxImportSource: "preact" };
  const built = await build({ ...options, entryPoints: [fileURLToPath(new URL(`../src/${path}`, import.meta.url))] });
  return built.outputFiles[0].contents;
}

/** Begins a worker of web/src/workers as a browser would; `begun` has all of them, to be ended behind the tests. */
export async function workerOf(path) {
  const scope = `
    const { parentPort } = require("node:worker_threads");
    globalThis.postMessage = (message) => parentPort.postMessage(message);
    parentPort.on("message", (data) => globalThis.onmessage({ data }));
  `;
  const code = scope + Buffer.from(await bundled(path, "iife")).toString();
  const begun = [];
  const start = () => {
    const worker = new Worker(code, { eval: true });
    const port = { onmessage: null, onerror: null, postMessage: (message) => worker.postMessage(message) };
    worker.on("message", (data) => port.onmessage?.({ data }));
    worker.on("error", (error) => port.onerror?.(error));
    port.terminate = () => void worker.terminate();
    begun.push(port);
    return port;
  };
  return { start, begun };
}

/** Why there can be no browser, for tests to be skipped with; false where there is one. */
export const noBrowser = findChromium() ? false : "there is no Chromium on PATH or in CHROMIUM";

function findChromium() {
  const names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
  const places = (process.env.PATH ?? "").split(delimiter).flatMap((folder) => names.map((name) => join(folder, name)));
  return process.env.CHROMIUM || places.find((place) => existsSync(place));
}

/** Starts Chromium; as root, as in many CI containers, it has no sandbox. */
export function launch() {
  return chromium.launch({ executablePath: findChromium(), chromiumSandbox: process.getuid?.() !== 0 });
}

/** Starts everything before the tests of a file and stops it behind them; its fields are there once tests run. */
export function world(serverEnv) {
  const all = {};
  before(async () => {
    if (noBrowser) return;
    all.server = await startServer(serverEnv);
    all.browser = await launch();
    all.front = await startFront(all.server.url);
  });
  beforeEach(() => all.front?.reset());
  after(async () => {
    await all.browser?.close();
    await all.front?.stop();
    await all.server?.stop();
  });
  return all;
}

/** `vicuna-server serve` with the scripted engine, which says the last message's words over and over. */
export async function startServer(env = {}) {
  const folder = mkdtempSync(join(tmpdir(), "page-"));
  const words = ["-m", "vicuna_server", "serve", "--model", folder, "--host", "127.0.0.1", "--port", "0"];
  const server = spawn(process.env.PYTHON || "python3", [...words, "--served-name", "tiny", "--drain-seconds", "0"], {
    env: { ...process.env, PYTHONPATH: [join(TOP, "server"), join(TOP, "contract")].join(":"), VICUNA_ENGINE: "scripted", ...env },
    stdio: ["ignore", "ignore", "pipe"],
  });
  const ended = new Promise((resolve) => server.once("exit", resolve));
  const said = [];
  for await (const line of createInterface(server.stderr)) {
    said.push(line);
    const found = /listening on (http:\S+)/.exec(line);
    if (!found) continue;
    const stop = async () => {
      server.kill("SIGKILL");
      await ended;
      rmSync(folder, { recursive: true, force: true });
    };
    await ready(found[1]);
    return { url: found[1], stop };
  }
  throw new Error(`the server did not start:\n${said.join("\n")}`);
}

async function ready(url) {
  while (!(await fetch(`${url}/readyz`)).ok) await new Promise((resolve) => setTimeout(resolve, 20));
}

/**
 * A server that passes everything on to `target` but what a test answers itself.
 *
 * `front.on["POST /v1/chat/completions"] = (request, response, body) => …`; `front.seen` has what was asked.
 */
export async function startFront(target) {
  const front = { on: {}, seen: [], url: "" };
  const server = createServer(async (request, response) => {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const text = Buffer.concat(chunks).toString();
    const body = text === "" ? null : JSON.parse(text);
    front.seen.push({ method: request.method, url: request.url, headers: request.headers, body });
    const own = front.on[`${request.method} ${request.url}`];
    if (own) return void own(request, response, body);
    const { host: _, connection: __, "content-length": ___, ...headers } = request.headers;
    const init = { method: request.method, headers, body: text === "" ? undefined : text };
    const answer = await fetch(target + request.url, init);
    const kept = [...answer.headers].filter(([name]) => !/^(content-(encoding|length)|transfer-encoding|connection)$/.test(name));
    response.writeHead(answer.status, Object.fromEntries(kept));
    for await (const chunk of answer.body ?? []) response.write(chunk);
    response.end();
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  front.url = `http://127.0.0.1:${server.address().port}`;
  front.asked = () => front.seen.filter(({ url }) => url === "/v1/chat/completions").map(({ body }) => body);
  front.reset = () => {
    front.on = {};
    front.seen = [];
  };
  front.stop = () => {
    server.closeAllConnections();
    return new Promise((resolve) => server.close(resolve));
  };
  return front;
}

/** Answers every chat with a text, in pieces of some characters, with some milliseconds of rest between them. */
export function says(text, { size = 7, finish = "stop", rest = 0 } = {}) {
  return async (_, response, body) => {
    const send = stream(response);
    for (let at = 0; at < text.length; at += size) {
      send({ delta: { content: text.slice(at, at + size) } });
      if (rest > 0) await new Promise((resolve) => setTimeout(resolve, rest));
    }
    send({ delta: {}, finish_reason: finish });
    if (body.stream_options?.include_usage) response.write(`data: ${JSON.stringify({ choices: [], usage: { completion_tokens: 12 } })}\n\n`);
    response.end("data: [DONE]\n\n");
  };
}

/** Begins a stream with a comment; the function it returns sends a choice. */
export function stream(response) {
  response.writeHead(200, { "content-type": "text/event-stream" });
  response.write(": keep-alive\n\n");
  return (choice) => response.write(`data: ${JSON.stringify({ choices: [{ index: 0, ...choice }] })}\n\n`);
}

/** Refuses with OpenAI's error object. */
export function refuses(status, message, headers = {}) {
  return (_, response) => {
    response.writeHead(status, { "content-type": "application/json", ...headers });
    response.end(JSON.stringify({ error: { message, type: "x", param: null, code: null } }));
  };
}

export function lists(...models) {
  return (_, response) => {
    response.writeHead(200, { "content-type": "application/json" });
    response.end(JSON.stringify({ object: "list", data: models.map((model) => ({ object: "model", ...model })) }));
  };
}

/** A browser window of its own, and what happened in it that should not: see `trouble`. */
export async function openPage(browser, url, options = SIZES.desktop) {
  const context = await browser.newContext(options);
  context.setDefaultTimeout(30_000);
  await context.addInitScript(() => {
    window.violations = [];
    document.addEventListener("securitypolicyviolation", (event) => window.violations.push(event.violatedDirective));
  });
  const page = await context.newPage();
  page.trouble = [];
  page.on("pageerror", (error) => page.trouble.push(`error: ${error}`));
  page.on("dialog", (dialog) => {
    page.trouble.push(`dialog: ${dialog.message()}`);
    void dialog.dismiss();
  });
  page.on("request", (request) => {
    if (!request.url().startsWith(`${url}/`)) page.trouble.push(`request: ${request.url()}`);
  });
  await page.goto(`${url}/`);
  await page.getByRole("textbox", { name: "Message", exact: true }).waitFor();
  return page;
}

/** Everything that must not have happened. */
export async function trouble(page) {
  return [...page.trouble, ...(await page.evaluate(() => window.violations))];
}

export async function ask(page, question) {
  await page.getByRole("textbox", { name: "Message", exact: true }).fill(question);
  await page.getByRole("button", { name: "Send" }).click();
}

/** The last answer, once it is complete, and Markdown, colours and mathematics are drawn. */
export async function answered(page, lane = 0) {
  const answer = page.locator(".turn").last().locator(".answer").nth(lane);
  await answer.and(page.locator("[aria-busy=false]")).waitFor();
  await answer.and(page.locator(":not(:has([aria-busy=true]))")).waitFor();
  return answer;
}
