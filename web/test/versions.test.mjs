// Answers that go on, versions of answers and questions, thoughts and calls of tools: what is kept, sent and shown.
import assert from "node:assert/strict";
import { test } from "node:test";

import { answered, ask, lists, noBrowser, openPage, refuses, says, SIZES, stream, trouble, world } from "./support.mjs";

const CHAT = "POST /v1/chat/completions";
const all = world({ VICUNA_SCRIPTED_TOKENS: "4" });
const settings = { skip: noBrowser };

const text = (answer) => answer.locator(".markdown").innerText().then((shown) => shown.trim());
const told = () => all.front.asked().at(-1).messages.map(({ role, content }) => `${role}: ${content}`);
/** Answers with chunks of choices, then with usage. */
const sends = (choices, usage = { prompt_tokens: 20, completion_tokens: 10 }) => (_, response) => {
  const send = stream(response);
  choices.forEach(send);
  response.write(`data: ${JSON.stringify({ choices: [], usage })}\n\n`);
  response.end("data: [DONE]\n\n");
};

for (const [size, options] of Object.entries(SIZES)) {
  test(`${size}: answers to a question are kept beside each other, and the shown one goes on`, settings, async () => {
    const page = await openPage(all.browser, all.front.url, options);
    for (const word of ["first", "second", "third"]) {
      all.front.on[CHAT] = says(word);
      if (word === "first") await ask(page, "one");
      else await page.getByRole("button", { name: "Answer again" }).click();
      assert.equal(await text(await answered(page)), word);
    }
    const versions = page.getByRole("group", { name: "Versions of the answer" });
    const earlier = page.getByRole("button", { name: "Earlier version of the answer" });
    await earlier.click();
    await earlier.click();
    assert.match(await versions.innerText(), /1\/3/);
    assert.equal(await text(await answered(page)), "first");
    assert.equal(await earlier.getAttribute("aria-disabled"), "true");
    await earlier.press("Enter"); // it keeps the focus, and does nothing
    assert.match(await versions.innerText(), /1\/3/);
    await page.getByRole("button", { name: "Later version of the answer" }).click();
    await ask(page, "two");
    await answered(page);
    assert.deepEqual(told(), ["user: one", "assistant: second", "user: two"]);

    await page.getByRole("button", { name: "Edit question" }).first().click();
    await page.getByRole("textbox", { name: "Edit question" }).fill("one, please");
    all.front.on[CHAT] = says("edited");
    await page.locator(".editing").getByRole("button", { name: "Send" }).click();
    await answered(page);
    await page.reload();
    const bubbles = () => page.locator(".bubble").allInnerTexts();
    assert.deepEqual(await bubbles(), ["one, please"]);
    await page.getByRole("button", { name: "Earlier version of the question" }).click();
    assert.deepEqual(await bubbles(), ["one", "two"]);
    assert.match(await versions.innerText(), /2\/3/);
    await page.getByRole("button", { name: "Later version of the question" }).click();
    assert.deepEqual(await bubbles(), ["one, please"]);
    assert.deepEqual(await trouble(page), []);
    await page.context().close();
  });

  test(`${size}: an answer that was cut off or stopped goes on as one`, settings, async () => {
    const page = await openPage(all.browser, all.front.url, options);
    all.front.on[CHAT] = sends([{ delta: { content: "Half an " } }, { delta: {}, finish_reason: "length" }]);
    await ask(page, "Tell me");
    let answer = await answered(page);
    assert.match(await answer.innerText(), /cut off at the limit/);
    assert.match(await answer.innerText(), /10 tokens/);
    all.front.on[CHAT] = (_, response) => stream(response)({ delta: { content: " answer, and" } });
    await page.getByRole("button", { name: "Continue" }).click();
    await page.locator(".answer .markdown", { hasText: "Half an answer, and" }).waitFor();
    assert.deepEqual(told(), ["user: Tell me", "assistant: Half an"]);
    await page.getByRole("button", { name: "Stop" }).click();
    answer = await answered(page);
    assert.match(await answer.innerText(), /Half an answer, and\s+Stopped\./);
    await page.reload();
    all.front.on[CHAT] = refuses(503, "busy");
    await page.getByRole("button", { name: "Continue" }).click();
    answer = await answered(page);
    assert.match(await answer.innerText(), /Half an answer, and\s+The model cannot answer now\. Busy\./);
    all.front.on[CHAT] = says(" more.");
    await page.getByRole("button", { name: "Continue" }).click();
    answer = await answered(page);
    assert.equal(await text(answer), "Half an answer, and more.");
    assert.equal(await page.getByRole("button", { name: "Continue" }).count(), 0);
    assert.equal(await page.getByRole("group", { name: "Versions of the answer" }).count(), 0, "it is one answer");
    assert.deepEqual(await trouble(page), []);
    await page.context().close();
  });

  test(`${size}: thoughts and calls of tools are folded text, never sent and never run`, settings, async () => {
    const page = await openPage(all.browser, all.front.url, options);
    const evil = "<img src=x onerror=alert(1)> **thought**";
    const call = (index, name, part) => ({ delta: { tool_calls: [{ index, id: `c${index}`, type: "function", function: { name, arguments: part } }] } });
    all.front.on[CHAT] = sends([
      { delta: { reasoning: evil, reasoning_content: evil } },
      { delta: { content: "The answer." } },
      call(0, "get_weather", ""),
      call(0, undefined, '{"city":"Par'),
      call(0, undefined, 'is","days":[1,2]}'),
      call(1, "<b>now</b>", "{}"),
      { delta: {}, finish_reason: "tool_calls" },
    ]);
    await ask(page, "Weather?");
    let answer = await answered(page);
    assert.doesNotMatch(await answer.innerText(), /img|Paris/);
    await answer.getByText("Thought for less than a second").click();
    await answer.getByText(evil).waitFor(); // drawn once it is opened
    assert.ok((await answer.innerText()).includes(evil));
    await answer.getByText("get_weather").click();
    assert.match(await answer.getByRole("group", { name: "Arguments" }).innerText(), /"city": "Paris",\n {2}"days": \[\n/);
    assert.match(await answer.innerText(), /<b>now<\/b>/);
    assert.match(await answer.innerText(), /None was run\./);

    all.front.on[CHAT] = says("<think>\nhm\n</think>\n\nIndeed.", { size: 3 });
    await ask(page, "Sure?");
    answer = await answered(page);
    assert.equal(await text(answer), "Indeed.");
    assert.deepEqual(told(), ["user: Weather?", "assistant: The answer.", "user: Sure?"]);
    await ask(page, "Really?");
    await answered(page);
    assert.equal(told().at(-2), "assistant: Indeed.");
    assert.equal(all.front.asked().at(-1).messages.some((message) => "tool_calls" in message || "reasoning" in message), false);
    await page.reload();
    assert.equal(await page.locator(".fold").count(), 5);
    assert.deepEqual(await trouble(page), []);
    await page.context().close();
  });
}

test("while a model thinks that is said, and its thoughts can be read", settings, async () => {
  const page = await openPage(all.browser, all.front.url);
  let send;
  const begun = new Promise((resolve) => {
    all.front.on[CHAT] = (_, response) => resolve((send = stream(response)));
  });
  await ask(page, "Hard?");
  await begun;
  send({ delta: { reasoning: "one " } });
  await page.getByText("Thinking…").click();
  await page.locator(".folded", { hasText: "one" }).waitFor();
  send({ delta: { reasoning: "two" } });
  await page.locator(".folded", { hasText: "one two" }).waitFor();
  send({ delta: { content: "Yes." } });
  await page.getByText(/^Thought for/).waitFor();
  await page.getByRole("button", { name: "Stop" }).click();
  assert.equal(await text(await answered(page)), "Yes.");
  await page.context().close();
});

test("a key that is asked for in the middle takes no answer away", settings, async () => {
  const page = await openPage(all.browser, all.front.url);
  all.front.on[CHAT] = sends([{ delta: { content: "Half" } }, { delta: {}, finish_reason: "length" }]);
  await ask(page, "Hello");
  await answered(page);
  for (const name of ["Continue", "Answer again"]) {
    all.front.on[CHAT] = refuses(401, "revoked");
    await page.getByRole("button", { name }).click();
    await page.getByRole("dialog", { name: "API key" }).waitFor();
    assert.equal(await text(await answered(page)), "Half");
    assert.equal(await page.getByRole("group", { name: "Versions of the answer" }).count(), 0);
    await page.keyboard.press("Escape");
    await page.getByRole("dialog").waitFor({ state: "detached" });
  }
  await page.context().close();
});

test("speed, length and how full the context is are shown", settings, async () => {
  all.front.on["GET /v1/models"] = lists({ id: "a", max_model_len: 1000 });
  const page = await openPage(all.browser, all.front.url);
  all.front.on[CHAT] = sends([{ delta: { content: "one two" }, finish_reason: "stop" }], { prompt_tokens: 840, completion_tokens: 11 });
  await ask(page, "How fast?");
  assert.match(await (await answered(page)).innerText(), /11 tokens · .*\d\.\d s/);
  assert.match(await page.locator(".below").innerText(), /Context 85 % full\s*: 851 of 1,000 tokens/);
  await page.context().close();
});

test("the server takes every setting, and goes on with its own answer", settings, async () => {
  const page = await openPage(all.browser, all.front.url);
  await page.getByRole("button", { name: "Settings", exact: true }).click();
  const dialog = page.getByRole("dialog", { name: "Settings" });
  await dialog.getByText("More: seed").click();
  const values = { "Max tokens": "2", Seed: "-7", "Presence penalty": "-2", "Frequency penalty": "2", "Repetition penalty": "0.01", "Stop texts": "END\n\\n" };
  for (const [label, value] of Object.entries(values)) await dialog.getByLabel(label).fill(value);
  await page.keyboard.press("Escape");
  await ask(page, "a b c d");
  assert.match(await (await answered(page)).innerText(), /a b\s+The answer was cut off at the limit/);
  await page.getByRole("button", { name: "Continue" }).click();
  const answer = await answered(page);
  assert.equal(await answer.getByRole("alert").count(), 0);
  assert.match(await text(answer), /^a b\s*a b$/); // the scripted engine repeats what comes last
  assert.match(await answer.innerText(), /4 tokens/);
  await page.context().close();
});
