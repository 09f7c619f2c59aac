// Keyboard and screen reader: rules checked by axe, order and place of the focus, what is announced.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { test } from "node:test";

import { answered, ask, lists, noBrowser, openPage, refuses, says, SIZES, stream, world } from "./support.mjs";

const axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const CHAT = "POST /v1/chat/completions";
const all = world();
const settings = { skip: noBrowser };

async function violations(page) {
  await page.evaluate(axe);
  const result = await page.evaluate(() => window.axe.run(document));
  return result.violations.flatMap(({ id, nodes }) => nodes.map((node) => `${id}: ${node.html.slice(0, 200)} ${node.failureSummary}`));
}

for (const [size, options] of Object.entries(SIZES)) {
  for (const colorScheme of ["light", "dark"]) {
    test(`${size}, ${colorScheme}: axe finds nothing`, settings, async () => {
      all.front.on["GET /v1/models"] = lists({ id: "a", status: "ready" }, { id: "b", status: "not ready", reason: "Merging" });
      const code = "```python\nimport os  # note\nclass A:\n    x = 'text' + 1\n```\n\n| a |\n|---|\n| b |\n\n> [link](https://example.org)\n\n\\[\nx^2 = \\tag{1} \\text{word}\n\\] $y$ and $\\broken$";
      all.front.on[CHAT] = says(`Some **text**\n\n- [x] done\n\n${code}`);
      const page = await openPage(all.browser, all.front.url, { ...options, colorScheme, reducedMotion: "reduce" });
      assert.deepEqual(await violations(page), [], "empty");
      await page.getByRole("button", { name: "Model: a" }).click();
      assert.deepEqual(await violations(page), [], "models");
      await page.keyboard.press("Escape");
      await page.getByRole("button", { name: "Compare with a second model" }).click();
      await ask(page, "Hello");
      await answered(page, 1);
      all.front.on[CHAT] = (_, response) => {
        const send = stream(response);
        send({ delta: { reasoning: "Hm." } });
        send({ delta: { content: "Half" } });
        send({ delta: { tool_calls: [{ index: 0, function: { name: "add", arguments: '{"a":1}' } }] }, finish_reason: "tool_calls" });
        response.end("data: [DONE]\n\n");
      };
      await page.getByRole("button", { name: "Answer again" }).first().click();
      await answered(page, 0);
      for (const fold of await page.locator(".fold summary").all()) await fold.click();
      assert.deepEqual(await violations(page), [], "folds and versions");
      all.front.on[CHAT] = refuses(503, "not yet");
      await ask(page, "And now?");
      await answered(page, 1);
      await page.getByRole("button", { name: "Edit question" }).first().click();
      assert.deepEqual(await violations(page), [], "answers and problems");
      if (size === "phone") {
        await page.getByRole("button", { name: "Conversations" }).click();
      }
      await page.getByRole("button", { name: "More: Hello" }).click();
      assert.deepEqual(await violations(page), [], "menu");
      await page.getByRole("button", { name: "Rename: Hello" }).click();
      assert.deepEqual(await violations(page), [], "a new name");
      await page.keyboard.press("Escape");
      if (size === "phone") await page.keyboard.press("Escape");
      await page.getByRole("button", { name: "Settings", exact: true }).click();
      await page.getByRole("dialog").getByLabel("Temperature").fill("9");
      await page.getByRole("dialog").getByText("More: seed").click();
      assert.deepEqual(await violations(page), [], "settings");
      await page.getByRole("button", { name: "Enter an API key" }).click();
      await page.getByRole("dialog", { name: "API key" }).waitFor();
      assert.deepEqual(await violations(page), [], "key");
      await page.context().close();
    });
  }
}

test("everything works from the keyboard, and the focus is where one expects it", settings, async () => {
  const page = await openPage(all.browser, all.front.url);
  const focused = () => page.evaluate(() => document.activeElement?.getAttribute("aria-label") ?? document.activeElement?.textContent);
  assert.equal(await focused(), "Message");
  all.front.on[CHAT] = says("An answer.");
  await page.keyboard.type("two");
  await page.keyboard.press("Shift+Enter");
  await page.keyboard.type("lines");
  await page.keyboard.press("Enter");
  await answered(page);
  assert.equal(await page.locator(".bubble").innerText(), "two\nlines");
  assert.equal(await focused(), "Message");

  all.front.on[CHAT] = (_, response) => stream(response)({ delta: { content: "endless" } });
  await page.keyboard.type("more");
  await page.keyboard.press("Enter");
  await page.getByText("endless").waitFor();
  await page.keyboard.type("draft");
  await page.keyboard.press("Enter"); // not while an answer comes
  assert.equal(await page.locator(".turn").count(), 2);
  await page.keyboard.press("Escape");
  await page.getByText("Stopped.").waitFor();
  assert.equal(await page.getByRole("textbox", { name: "Message", exact: true }).inputValue(), "draft");

  const settingsButton = page.getByRole("button", { name: "Settings", exact: true });
  await settingsButton.focus();
  await page.keyboard.press("Enter");
  await page.getByRole("dialog", { name: "Settings" }).waitFor();
  for (let step = 0; step < 20; step += 1) {
    await page.keyboard.press("Tab");
    assert.ok(await page.evaluate(() => document.activeElement === document.body || document.activeElement?.closest("dialog")));
  }
  await page.keyboard.press("Escape");
  await page.getByRole("dialog").waitFor({ state: "detached" });
  assert.equal(await focused(), "Settings");

  await page.getByRole("button", { name: "Edit question" }).last().focus();
  await page.keyboard.press("Enter");
  assert.equal(await focused(), "Edit question");
  await page.keyboard.press("Escape");
  assert.equal(await page.getByRole("textbox", { name: "Edit question" }).count(), 0);
  assert.equal(await focused(), "Edit question", "back on the button");
  const first = await page.evaluate(() => document.querySelector("button, select, textarea, a, input")?.textContent);
  assert.equal(first, "Skip to the message box");
  await page.getByRole("button", { name: first }).focus();
  await page.keyboard.press("Enter");
  assert.equal(await focused(), "Message");
  await page.context().close();
});

test("a word that an input method composes is not sent", settings, async () => {
  const page = await openPage(all.browser, all.front.url);
  const client = await page.context().newCDPSession(page);
  await client.send("Input.imeSetComposition", { text: "に", selectionStart: 1, selectionEnd: 1 });
  await page.evaluate(() => {
    const event = new KeyboardEvent("keydown", { key: "Enter", isComposing: true, bubbles: true, cancelable: true });
    document.activeElement.dispatchEvent(event);
  });
  assert.equal(await page.locator(".turn").count(), 0);
  await page.context().close();
});

test("an answer is announced once, when it is complete", settings, async () => {
  const page = await openPage(all.browser, all.front.url);
  all.front.on[CHAT] = says("Spoken words.");
  await ask(page, "Hello");
  await answered(page);
  const announced = page.locator("[role=status].hidden").last();
  await page.waitForFunction(() => /tiny says: Spoken words\./.test(document.body.innerText));
  assert.match(await announced.innerText(), /^tiny says: Spoken words\.$/);
  assert.equal(await page.locator(".answer[aria-live], .answer [aria-live]").count(), 0);
  await page.context().close();
});

test("the theme follows the system until one is chosen", settings, async () => {
  const page = await openPage(all.browser, all.front.url, { ...SIZES.desktop, colorScheme: "dark" });
  const background = () => page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor);
  const dark = await background();
  await page.getByRole("button", { name: "Settings", exact: true }).click();
  await page.getByRole("radio", { name: "Light" }).check();
  const light = await background();
  assert.notEqual(light, dark);
  await page.reload();
  assert.equal(await background(), light);
  await page.emulateMedia({ colorScheme: "light" });
  await page.getByRole("button", { name: "Settings", exact: true }).click();
  await page.getByRole("radio", { name: "Dark" }).check();
  assert.equal(await background(), dark);
  await page.getByRole("radio", { name: "System" }).check();
  assert.equal(await background(), light);
  await page.context().close();
});
