// Conversations stay in the browser, and nothing is lost: closed pages, two tabs, no room, other people's files.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";

import { answered, ask, noBrowser, openPage, says, stream, trouble, world } from "./support.mjs";

const CHAT = "POST /v1/chat/completions";
const all = world({ VICUNA_SCRIPTED_TOKENS: "2" });
const settings = { skip: noBrowser };

test("a page closed in mid-stream keeps what came, and the text not sent yet", settings, async () => {
  const page = await openPage(all.browser, all.front.url);
  all.front.on[CHAT] = (_, response) => stream(response)({ delta: { content: "half an answer" } });
  await ask(page, "Hello");
  await page.getByText("half an answer").waitFor();
  await page.getByRole("textbox", { name: "Message", exact: true }).fill("not sent");
  await page.reload();
  assert.equal(await page.getByRole("textbox", { name: "Message", exact: true }).inputValue(), "not sent");
  await page.locator(".entry").click();
  const answer = await answered(page);
  assert.match(await answer.innerText(), /half an answer\s+(The connection was lost|The page was closed) before the answer was complete\./);
  await page.context().close();
});

test("two tabs see each other's conversations, and neither overwrites the other", settings, async () => {
  const one = await openPage(all.browser, all.front.url);
  await ask(one, "shared");
  await answered(one);
  const two = await one.context().newPage();
  await two.goto(`${all.front.url}/`);
  await two.locator(".entry", { hasText: "shared" }).click();
  await ask(one, "from one");
  await two.locator(".bubble", { hasText: "from one" }).waitFor();

  let finish;
  const begun = new Promise((resolve) => {
    all.front.on[CHAT] = (request, response, body) => {
      if (body.messages.at(-1).content !== "slow") return says("quick")(request, response, body);
      const send = stream(response);
      finish = () => {
        send({ delta: { content: "slow answer" }, finish_reason: "stop" });
        response.end("data: [DONE]\n\n");
      };
      return resolve();
    };
  });
  await ask(one, "slow");
  await begun;
  // The second tab has not been told of that question while its own goes out: both go on from the same state.
  await ask(two, "meanwhile");
  await answered(two);
  await two.getByRole("button", { name: "New conversation" }).click();
  await ask(two, "unrelated");
  await one.locator(".entry", { hasText: "unrelated" }).waitFor();
  finish();
  await answered(one);
  for (const page of [one, two]) {
    await page.waitForFunction(() => document.querySelectorAll(".entry").length === 3);
    await page.reload();
    assert.equal(await page.locator(".entry").count(), 3);
  }
  const questions = [];
  for (let at = 0; at < 3; at += 1) {
    await one.locator(".entry").nth(at).click();
    questions.push(...(await one.locator(".bubble").allInnerTexts()));
  }
  for (const question of ["shared", "from one", "slow", "meanwhile", "unrelated"]) assert.ok(questions.includes(question), question);
  assert.deepEqual(await trouble(one), []);
  await one.context().close();
});

test("a full storage is said, and the conversation goes on", settings, async () => {
  const page = await openPage(all.browser, all.front.url);
  await page.evaluate(() => {
    let size = 2 ** 20;
    for (let at = 0; size >= 1; at += 1) {
      try {
        localStorage.setItem(`filler ${at}`, "x".repeat(size));
      } catch {
        size = Math.floor(size / 2);
      }
    }
  });
  await ask(page, "one two");
  assert.match(await (await answered(page)).innerText(), /one two/);
  await page.getByRole("alert").getByText("no room left").waitFor();
  await page.evaluate(() => localStorage.removeItem("filler 0"));
  await ask(page, "three");
  await answered(page);
  await page.getByText("no room left").waitFor({ state: "detached" });
  await page.reload();
  await page.locator(".entry").click();
  assert.deepEqual(await page.locator(".bubble").allInnerTexts(), ["one two", "three"]);
  await page.context().close();
});

test("conversations go out as a file and come back from it", settings, async () => {
  const page = await openPage(all.browser, all.front.url);
  await ask(page, "keep me");
  await answered(page);
  await page.getByRole("button", { name: "Settings", exact: true }).click();
  const downloading = page.waitForEvent("download");
  await page.getByRole("button", { name: "Export conversations" }).click();
  const file = await (await downloading).path();
  assert.doesNotMatch(await readFile(file, "utf8"), /vicuna\.key/);
  const input = page.getByRole("dialog").locator("input[type=file]");
  await input.setInputFiles(file);
  await page.getByText("1 conversation added.").waitFor();
  await input.setInputFiles({ name: "x.json", mimeType: "application/json", buffer: Buffer.from('{"a":1}') });
  await page.getByText("holds no exported conversations").waitFor();
  await page.keyboard.press("Escape");
  assert.deepEqual(await page.locator(".entry").allInnerTexts(), ["keep me", "keep me"]);
  await page.context().close();
});

test("records that somebody broke are left alone", settings, async () => {
  const page = await openPage(all.browser, all.front.url);
  await page.evaluate(() => {
    localStorage.setItem("vicuna.conversation.0123456789abcdef", "{broken");
    localStorage.setItem("vicuna.conversation.fedcba9876543210", '{"id":"0123456789abcdef","models":[],"turns":[]}');
    localStorage.setItem("vicuna.theme", "odd");
  });
  await page.reload();
  await ask(page, "one");
  await answered(page);
  assert.equal(await page.locator(".entry").count(), 1);
  assert.equal(await page.evaluate(() => localStorage.getItem("vicuna.conversation.0123456789abcdef")), "{broken");
  assert.deepEqual(await trouble(page), []);
  await page.context().close();
});

test("a browser that keeps nothing says so and works", settings, async () => {
  const context = await all.browser.newContext();
  await context.addInitScript(() => {
    for (const name of ["localStorage", "sessionStorage"]) {
      Object.defineProperty(window, name, {
        get() {
          throw new DOMException("denied", "SecurityError");
        },
      });
    }
  });
  const page = await context.newPage();
  await page.goto(`${all.front.url}/`);
  await page.getByText("This browser keeps nothing for this page").waitFor();
  await ask(page, "one two");
  assert.match(await (await answered(page)).innerText(), /one two/);
  await context.close();
});
