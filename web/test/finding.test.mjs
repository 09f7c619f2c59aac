// Finding a conversation and a model: names, days, search; the list of models with its states; files of one conversation.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";

import { answered, ask, lists, noBrowser, openPage, says, SIZES, trouble, world } from "./support.mjs";

const CHAT = "POST /v1/chat/completions";
const all = world({ VICUNA_SCRIPTED_TOKENS: "4" });
const settings = { skip: noBrowser };

/** Puts conversations of some days ago into the browser. */
async function keep(page, ...those) {
  await page.evaluate((list) => {
    for (const [at, [question, days]] of list.entries()) {
      const id = String(at).padStart(16, "0");
      const updated = Date.now() - days * 86_400_000;
      const turns = [{ question, answers: [{ model: "tiny", text: `about ${question}`, state: "done" }] }];
      localStorage.setItem(`vicuna.conversation.${id}`, JSON.stringify({ id, created: updated, updated, models: ["tiny"], turns }));
    }
  }, those);
  await page.reload();
}

for (const [size, options] of Object.entries(SIZES)) {
  test(`${size}: conversations have names, days and a search`, settings, async () => {
    const page = await openPage(all.browser, all.front.url, options);
    await keep(page, ["apples", 0], ["pears", 1], ["plums", 5], ["cherries", 60]);
    const menu = async () => {
      if (size === "phone") await page.getByRole("button", { name: "Conversations" }).click();
    };
    await menu();
    const groups = page.locator(".group > p");
    assert.deepEqual(await groups.allInnerTexts(), ["Today", "Yesterday", "Previous 7 days", "Older"]);
    await page.getByRole("list", { name: "Older" }).getByText("cherries").waitFor();
    const search = page.getByRole("searchbox", { name: "Search conversations" });
    await search.fill("ABOUT p");
    await page.getByText("3 found").waitFor();
    assert.deepEqual(await page.locator(".entry").allInnerTexts(), ["apples", "pears", "plums"]);
    await search.fill("nowhere");
    await page.getByText("Nothing has these words.").waitFor();
    await search.fill("");

    await page.getByRole("button", { name: "More: plums" }).click();
    await page.getByRole("button", { name: "Rename: plums" }).click();
    const name = page.getByRole("textbox", { name: "Name of the conversation" });
    await name.fill("not this");
    await page.keyboard.press("Escape");
    await page.getByRole("button", { name: "More: plums" }).click();
    await page.getByRole("button", { name: "Rename: plums" }).click();
    await name.fill("<b>Dates</b>");
    await page.keyboard.press("Enter");
    await page.getByRole("list", { name: "Previous 7 days" }).getByText("<b>Dates</b>").waitFor();
    assert.equal(await page.evaluate(() => document.activeElement?.getAttribute("aria-label")), "More: <b>Dates</b>");
    await page.reload();
    await menu();
    await page.getByRole("button", { name: "<b>Dates</b>", exact: true }).click();
    assert.deepEqual(await page.locator(".bubble").allInnerTexts(), ["plums"]);
    assert.equal(await page.title(), "<b>Dates</b>");

    await menu();
    await page.getByRole("button", { name: "More: pears" }).click();
    const downloading = page.waitForEvent("download");
    await page.getByRole("button", { name: "Export: pears" }).click();
    const file = JSON.parse(await readFile(await (await downloading).path(), "utf8"));
    assert.deepEqual(file.conversations.map(({ turns }) => turns[0].question), ["pears"]);
    assert.deepEqual(await trouble(page), []);
    await page.context().close();
  });

  test(`${size}: a model is found in a long list, with its whole name and its state`, settings, async () => {
    const many = Array.from({ length: 60 }, (_, at) => ({ id: `team-${at % 3}/another-model-with-a-long-name-${at}`, status: "ready" }));
    const states = [
      { id: "team-9/sleeper-7b", status: "asleep", message: "Wakes with the next question." },
      { id: "team-9/merging-13b", status: "not ready", reason: "Merging", message: "Merging, 43 % done", max_model_len: 4096 },
    ];
    all.front.on["GET /v1/models"] = lists(...many, ...states);
    const page = await openPage(all.browser, all.front.url, options);
    const button = page.getByRole("button", { name: `Model: ${many[0].id}` });
    await button.click();
    const search = page.getByRole("combobox", { name: "Search models" });
    assert.equal(await search.evaluate((element) => element === document.activeElement), size === "desktop", "no keyboard on a phone");
    await page.getByText("62 models").waitFor();
    await search.fill("TEAM-9");
    await page.getByText("2 models", { exact: true }).waitFor();
    const options_ = await page.getByRole("option").allInnerTexts();
    assert.match(options_[0], /team-9\/sleeper-7b\s+Asleep\s+Wakes with the next question\./);
    assert.match(options_[1], /team-9\/merging-13b\s+Not ready: Merging\s+Merging, 43 % done · context of 4,096 tokens/);
    await search.press("ArrowDown");
    const active = await search.getAttribute("aria-activedescendant");
    assert.match(await page.locator(`#${active}`).innerText(), /merging/);
    assert.equal(await page.locator(`#${active}`).getAttribute("aria-selected"), "true");
    await search.press("ArrowUp");
    await search.press("Enter");
    await page.getByRole("button", { name: "Model: team-9/sleeper-7b" }).waitFor();
    await page.locator(".picker .state", { hasText: "Asleep" }).waitFor();

    await page.getByRole("button", { name: "Model: team-9/sleeper-7b" }).click();
    await search.fill("no such");
    await page.getByText("No model has such a name.").waitFor();
    await search.press("Enter");
    await page.keyboard.press("Escape");
    await page.getByRole("dialog").waitFor({ state: "detached" });
    await page.getByRole("button", { name: "Model: team-9/sleeper-7b" }).click();
    await page.getByRole("option", { name: "another-model-with-a-long-name-17 " }).click();
    all.front.on[CHAT] = says("Yes.");
    await ask(page, "You?");
    await answered(page);
    assert.equal(all.front.asked().at(-1).model, "team-2/another-model-with-a-long-name-17");
    assert.deepEqual(await trouble(page), []);
    await page.context().close();
  });
}

test("a text file becomes a part of the message; what is no text is refused", settings, async () => {
  const page = await openPage(all.browser, all.front.url);
  await page.getByRole("textbox", { name: "Message", exact: true }).fill("Read this:");
  const input = page.getByLabel("Attach a text file");
  await input.setInputFiles({ name: "x.png", mimeType: "image/png", buffer: Buffer.from([0x89, 0x50, 0, 0xff]) });
  await page.getByRole("alert").getByText("x.png is no text").waitFor();
  await input.setInputFiles({ name: "notes.txt", mimeType: "text/plain", buffer: Buffer.from("one\ntwo") });
  await page.getByRole("alert").waitFor({ state: "detached" });
  const box = page.getByRole("textbox", { name: "Message", exact: true });
  assert.equal(await box.inputValue(), "Read this:\n\nnotes.txt:\n```\none\ntwo\n```\n");
  await page.getByRole("button", { name: "Send" }).click();
  await answered(page);
  assert.match(all.front.asked().at(-1).messages[0].content, /^Read this:\n\nnotes\.txt:/);
  assert.equal(await box.inputValue(), "");
  await page.context().close();
});

test("on a phone the way to send has a word", settings, async () => {
  const page = await openPage(all.browser, all.front.url, SIZES.phone);
  assert.equal((await page.getByRole("button", { name: "Send" }).innerText()).trim(), "Send");
  await page.getByRole("textbox", { name: "Message", exact: true }).fill("one");
  await page.keyboard.press("Enter");
  assert.equal(await page.locator(".turn").count(), 0, "Enter begins a line");
  await page.context().close();
});
