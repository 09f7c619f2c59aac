// What goes wrong is said in a sentence, where it happened, and what came is kept.
import assert from "node:assert/strict";
import { test } from "node:test";

import { answered, ask, noBrowser, openPage, refuses, says, stream, trouble, world } from "./support.mjs";

const CHAT = "POST /v1/chat/completions";
const all = world();
const settings = { skip: noBrowser };

const broken = {
  "an error event in mid-stream": [
    (_, response) => {
      stream(response)({ delta: { content: "half an" } });
      response.end('data: {"error":{"message":"the upstream was lost"}}\n\ndata: [DONE]\n\n');
    },
    /^The server broke off\. The upstream was lost\. What came is kept\.$/,
  ],
  "a connection that ends in mid-stream": [
    (_, response) => {
      stream(response)({ delta: { content: "half an" } });
      response.end();
    },
    /^The connection was lost before the answer was complete\. What came is kept\.$/,
  ],
  "a connection that is cut": [
    (_, response) => {
      stream(response)({ delta: { content: "half an" } });
      setImmediate(() => response.destroy());
    },
    /^The connection was lost before the answer was complete\./,
  ],
  "no connection at all": [(request) => request.socket.destroy(), /^The server cannot be reached\./],
  "what is no JSON": [
    (_, response) => {
      stream(response);
      response.end("data: <html>\n\n");
    },
    /^The server sent what cannot be read\./,
  ],
  "a model that is gone": [refuses(404, "the model 'x' does not exist on this server"), /^This model is not here\. The model 'x' .* Pick another one\.$/],
  "too many requests": [refuses(429, "slow down", { "retry-after": "1" }), /Slow down\. Try again in a second\.$/],
  "a model that loads": [refuses(503, "the model is still loading", { "retry-after": "5" }), /^The model cannot answer now\. The model is still loading\. Try again in 5 seconds\.$/],
  "a key that may not": [refuses(403, "no"), /^Your API key does not allow this\./],
};

for (const [name, [handler, sentence]] of Object.entries(broken)) {
  test(name, settings, async () => {
    const page = await openPage(all.browser, all.front.url);
    all.front.on[CHAT] = handler;
    await ask(page, "Hello");
    const alert = page.locator(".answer").getByRole("alert");
    await alert.waitFor();
    assert.match((await alert.innerText()).trim(), sentence);
    const kept = await (await answered(page)).locator(".markdown").innerText();
    assert.ok(!/kept/.test(await alert.innerText()) || kept.trim() === "half an");
    all.front.on[CHAT] = says("Well now.");
    await page.getByRole("button", { name: "Try again" }).click();
    assert.match(await (await answered(page)).innerText(), /Well now\./);
    assert.equal(await page.locator(".answer").getByRole("alert").count(), 0);
    assert.deepEqual(await trouble(page), []);
    await page.context().close();
  });
}

test("a list of models that cannot be had is said, and asked for again", settings, async () => {
  all.front.on["GET /v1/models"] = refuses(503, "starting");
  const page = await openPage(all.browser, all.front.url);
  await page.getByRole("alert").getByText("Starting.").waitFor();
  assert.ok(await page.getByRole("button", { name: "Send" }).isDisabled());
  delete all.front.on["GET /v1/models"];
  await page.getByRole("button", { name: "Try again" }).click();
  await page.getByRole("heading", { name: "tiny" }).waitFor();
  assert.equal(await page.getByRole("alert").count(), 0);
  await page.context().close();
});

test("the key is asked for, kept in this browser, sent in its header only, and forgotten when told", settings, async () => {
  const guard = (pass) => (request, response, body) => {
    if (request.headers.authorization === "Bearer right") return pass(request, response, body);
    return refuses(401, "no valid API key")(request, response, body);
  };
  const models = (_, response) => response.end('{"data":[{"id":"tiny"}]}');
  all.front.on["GET /v1/models"] = guard(models);
  all.front.on[CHAT] = guard(says("Open."));
  const page = await openPage(all.browser, all.front.url);
  const dialog = page.getByRole("dialog", { name: "API key" });
  await dialog.getByLabel("API key", { exact: true }).fill("schlüssel");
  await dialog.getByText("letters, digits and signs only").waitFor();
  assert.ok(await dialog.getByRole("button", { name: "Use this key" }).isDisabled());
  await dialog.getByLabel("API key", { exact: true }).fill("wrong");
  await page.keyboard.press("Enter");
  await dialog.getByText("does not accept the API key").waitFor();
  await dialog.getByLabel("API key", { exact: true }).fill(" right ");
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "tiny" }).waitFor();

  await page.reload();
  await ask(page, "Hello");
  assert.match(await (await answered(page)).innerText(), /Open\./);

  all.front.on[CHAT] = refuses(401, "revoked");
  await ask(page, "Again");
  await dialog.waitFor();
  all.front.on[CHAT] = guard(says("Open again."));
  await dialog.getByLabel("API key", { exact: true }).fill("right");
  await page.keyboard.press("Enter");
  assert.match(await (await answered(page)).innerText(), /Open again\./, "asked again by itself");

  const leaks = all.front.seen.filter(({ url, body }) => /right/.test(`${url} ${JSON.stringify(body)}`));
  assert.deepEqual(leaks, []);
  assert.ok(all.front.seen.every(({ url, headers }) => url.startsWith("/v1/") || !headers.authorization));
  await page.getByRole("button", { name: "Settings", exact: true }).click();
  await page.getByRole("button", { name: "Change the API key" }).click();
  await dialog.getByRole("button", { name: "Forget the key" }).click();
  await dialog.getByText("asks for an API key").waitFor();
  assert.doesNotMatch(await page.evaluate(() => JSON.stringify(localStorage)), /right/);
  await page.keyboard.press("Escape");
  await dialog.waitFor({ state: "hidden" });
  assert.deepEqual(await trouble(page), []);
  await page.context().close();
});

test("a key can be kept in one tab only", settings, async () => {
  all.front.on["GET /v1/models"] = (request, response, body) => {
    if (request.headers.authorization !== "Bearer right") return refuses(401, "no valid API key")(request, response, body);
    return response.end('{"data":[{"id":"tiny"}]}');
  };
  const page = await openPage(all.browser, all.front.url);
  const dialog = page.getByRole("dialog", { name: "API key" });
  await dialog.getByLabel("API key", { exact: true }).fill("right");
  await dialog.getByLabel("In this tab only").check();
  await dialog.getByText("Kept in this tab until it is closed").waitFor();
  await dialog.getByRole("button", { name: "Use this key" }).click();
  await page.getByRole("heading", { name: "tiny" }).waitFor();
  assert.equal(await page.evaluate(() => Object.values(localStorage).includes("right")), false);
  await page.reload();
  await page.getByRole("heading", { name: "tiny" }).waitFor();
  const other = await page.context().newPage();
  await other.goto(`${all.front.url}/`);
  await other.getByRole("dialog", { name: "API key" }).waitFor();
  await page.context().close();
});

test("a key that has expired is asked for anew", settings, async () => {
  all.front.on["GET /v1/models"] = (_, response) => {
    response.writeHead(403, { "content-type": "application/json" });
    response.end(JSON.stringify({ error: { message: "the API key k expired", code: "api_key_expired" } }));
  };
  const page = await openPage(all.browser, all.front.url);
  await page.getByRole("dialog", { name: "API key" }).getByText("The API key k expired.").waitFor();
  await page.context().close();
});

test("a silent connection is given up, one that sends comments is not", settings, async () => {
  const page = await openPage(all.browser, all.front.url);
  await page.clock.install();
  let response;
  const begun = new Promise((resolve) => {
    all.front.on[CHAT] = (_, given) => {
      response = given;
      stream(given)({ delta: { content: "half" } });
      resolve();
    };
  });
  await ask(page, "Hello");
  await begun;
  await page.clock.runFor(1000);
  await page.locator(".answer .markdown", { hasText: "half" }).waitFor();
  for (const word of ["one", "two", "three"]) {
    await page.clock.runFor(45_000);
    response.write(`: keep-alive\n\ndata: {"choices":[{"delta":{"content":" ${word}"}}]}\n\n`);
    // The text shows a moment after it arrived: the clock is pushed until it has.
    while (!(await page.locator(".answer .markdown").innerText()).includes(word)) await page.clock.runFor(100);
  }
  assert.equal(await page.getByRole("alert").count(), 0);
  await page.clock.runFor(61_000);
  await page.getByRole("alert").getByText("The connection was lost").waitFor();
  await page.context().close();
});
