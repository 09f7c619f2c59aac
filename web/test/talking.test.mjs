// Questions and answers at both sizes, against the server's scripted engine and against one that tests hold up.
import assert from "node:assert/strict";
import { test } from "node:test";

import { answered, ask, lists, noBrowser, openPage, says, SIZES, stream, trouble, world } from "./support.mjs";

const all = world({ VICUNA_SCRIPTED_TOKENS: "6" });
const settings = { skip: noBrowser };

for (const [size, options] of Object.entries(SIZES)) {
  test(`${size}: ask, ask again, edit, begin anew, come back`, settings, async () => {
    const page = await openPage(all.browser, all.front.url, options);
    await ask(page, "one two");
    let answer = await answered(page);
    assert.equal((await answer.locator(".markdown").innerText()).trim(), "one two one two one two");
    assert.match(await answer.innerText(), /7 tokens/);

    await answer.getByRole("button", { name: "Answer again" }).click();
    answer = await answered(page);
    assert.match(await answer.getByRole("group", { name: "Versions of the answer" }).innerText(), /2\/2/);
    await ask(page, "three");
    await answered(page);
    assert.deepEqual(
      all.front.asked().at(-1).messages.map(({ role }) => role),
      ["user", "assistant", "user"],
    );

    await page.getByRole("button", { name: "Edit question" }).first().click();
    await page.getByRole("textbox", { name: "Edit question" }).fill("four");
    await page.locator(".editing").getByRole("button", { name: "Send" }).click();
    answer = await answered(page);
    assert.equal(await page.locator(".turn").count(), 1);
    assert.equal((await answer.locator(".markdown").innerText()).trim(), "four four four four four four");
    await page.getByRole("button", { name: "Earlier version of the question" }).click();
    assert.deepEqual(await page.locator(".bubble").allInnerTexts(), ["one two", "three"]);

    const menu = async () => {
      if (size === "phone") await page.getByRole("button", { name: "Conversations" }).click();
    };
    await menu();
    await page.getByRole("button", { name: "New conversation" }).click();
    await ask(page, "another");
    await answered(page);
    await page.reload();
    assert.deepEqual(await page.locator(".bubble").allInnerTexts(), ["another"]);
    await menu();
    assert.deepEqual(await page.locator(".entry").allInnerTexts(), ["another", "one two"]);
    await page.getByRole("button", { name: "one two", exact: true }).click();
    assert.deepEqual(await page.locator(".bubble").allInnerTexts(), ["one two", "three"]);
    await menu();
    await page.getByRole("button", { name: "More: one two" }).click();
    await page.getByRole("button", { name: "Delete: one two" }).click();
    assert.deepEqual(await page.locator(".entry").allInnerTexts(), ["another"]);
    if (size === "phone") await page.keyboard.press("Escape");
    await page.getByRole("button", { name: "Undo" }).click();
    assert.deepEqual(await page.locator(".bubble").allInnerTexts(), ["one two", "three"]);
    assert.deepEqual(await trouble(page), []);
    await page.context().close();
  });

  test(`${size}: an answer shows as it comes, and stops at a word`, settings, async () => {
    const page = await openPage(all.browser, all.front.url, options);
    let left;
    const gone = new Promise((resolve) => (left = resolve));
    all.front.on["POST /v1/chat/completions"] = (_, response) => {
      response.once("close", left);
      stream(response)({ delta: { content: "The **first** words" } });
    };
    await ask(page, "Hello");
    await page.locator(".answer strong", { hasText: "first" }).waitFor();
    assert.equal(await page.locator(".answer").getAttribute("aria-busy"), "true");
    await page.getByRole("button", { name: "Stop" }).click();
    await gone; // the server's work stops with it
    const answer = await answered(page);
    assert.match(await answer.innerText(), /The first words\s+Stopped\./);
    assert.deepEqual(await trouble(page), []);
    await page.context().close();
  });

  test(`${size}: two models side by side`, settings, async () => {
    const models = [{ id: "a", status: "ready" }, { id: "b", status: "not ready", reason: "Merging", message: "Merging, 43 % done" }, { id: "c", status: "ready" }];
    all.front.on["GET /v1/models"] = lists(...models);
    all.front.on["POST /v1/chat/completions"] = (request, response, body) => says(`I am ${body.model}.`)(request, response, body);
    const page = await openPage(all.browser, all.front.url, options);
    await ask(page, "Who are you?");
    await answered(page);
    await page.getByRole("button", { name: "Compare with a second model" }).click();
    await page.getByRole("button", { name: "Second model: c" }).waitFor(); // the next one that is ready
    await page.getByRole("button", { name: "Ask c" }).click();
    assert.match(await (await answered(page, 1)).innerText(), /I am c\./);
    await page.getByRole("button", { name: "Second model: c" }).click();
    await page.getByRole("option", { name: "b Not ready: Merging" }).click();
    await page.getByText("b: Merging, 43 % done").waitFor();
    await ask(page, "And now?");
    assert.match(await (await answered(page, 0)).innerText(), /I am a\./);
    assert.match(await (await answered(page, 1)).innerText(), /I am b\./);
    const histories = all.front.asked().slice(-2).map(({ model, messages }) => `${model} ${messages[1].content}`);
    assert.deepEqual(histories.sort(), ["a I am a.", "b I am c."], "each is told its own side");
    const [left, right] = await Promise.all([0, 1].map((lane) => page.locator(".turn").last().locator(".answer").nth(lane).boundingBox()));
    if (size === "desktop") assert.equal(left.y, right.y);
    else assert.equal(left.x, right.x);
    await page.getByRole("button", { name: "Compare with a second model" }).click();
    assert.equal(await page.locator(".turn").last().locator(".answer").count(), 1);
    assert.deepEqual(await trouble(page), []);
    await page.context().close();
  });

  test(`${size}: nothing is wider than the window`, settings, async () => {
    const wide = `${"x".repeat(400)}\n\n\`\`\`\n${"y ".repeat(300)}\n\`\`\`\n\n|${" column |".repeat(30)}\n|${"---|".repeat(30)}\n|${" z |".repeat(30)}`;
    all.front.on["GET /v1/models"] = lists({ id: `team/${"long".repeat(30)}`, status: "not ready", reason: "why ".repeat(50) });
    all.front.on["POST /v1/chat/completions"] = says(wide, { size: 200 });
    const page = await openPage(all.browser, all.front.url, options);
    await ask(page, "w".repeat(300));
    await answered(page);
    await page.locator(".markdown table").waitFor();
    const [inner, outer] = await page.evaluate(() => {
      const box = document.querySelector(".thread-box");
      return [Math.max(box.scrollWidth, document.documentElement.scrollWidth), window.innerWidth];
    });
    assert.ok(inner <= outer, `${inner} > ${outer}`);
    const send = await page.getByRole("button", { name: "Send" }).boundingBox();
    assert.ok(send.x + send.width <= outer);
    await page.context().close();
  });
}

test("settings are sent, and only those that are set", settings, async () => {
  const page = await openPage(all.browser, all.front.url);
  await ask(page, "plain");
  await answered(page);
  const plain = all.front.asked().at(-1);
  assert.deepEqual(Object.keys(plain).sort(), ["messages", "model", "stream", "stream_options"]);
  await page.getByRole("button", { name: "Settings", exact: true }).click();
  const dialog = page.getByRole("dialog", { name: "Settings" });
  await dialog.getByLabel("System prompt").fill("Be brief.");
  await dialog.getByLabel("Temperature").fill("0,5");
  await dialog.getByLabel("Top-p").fill("0.9");
  await dialog.getByLabel("Max tokens").fill("3");
  await page.keyboard.press("Escape");
  await page.getByText("with a system prompt · temperature 0.5 · top-p 0.9 · at most 3 tokens").waitFor();
  await ask(page, "a b c d");
  assert.match(await (await answered(page)).innerText(), /cut off at the limit/);
  const body = all.front.asked().at(-1);
  assert.deepEqual([body.temperature, body.top_p, body.max_tokens], [0.5, 0.9, 3]);
  assert.deepEqual(body.messages[0], { role: "system", content: "Be brief." });
  await page.getByRole("button", { name: "Settings", exact: true }).click();
  await dialog.getByText("More: seed, penalties, stop texts").click();
  const wrongs = [["Temperature", "2.1"], ["Top-p", "0"], ["Max tokens", "1.5"], ["Temperature", "hot"], ["Seed", "0.5"], ["Presence penalty", "-3"]];
  for (const [label, wrong] of [...wrongs, ["Repetition penalty", "0"], ["Stop texts", "x".repeat(300)]]) {
    await dialog.getByLabel(label).fill(wrong);
    await dialog.getByText(/^Must be /).waitFor();
    await dialog.getByLabel(label).fill("");
  }
  for (const [label, value] of [["Seed", "7"], ["Presence penalty", "0.5"], ["Frequency penalty", "-0.5"], ["Repetition penalty", "1.1"], ["Stop texts", "END\n\\n\\n"]]) {
    await dialog.getByLabel(label).fill(value);
  }
  await page.keyboard.press("Escape");
  all.front.on["POST /v1/chat/completions"] = says("Yes.");
  await ask(page, "more");
  await answered(page);
  const { seed, presence_penalty, frequency_penalty, repetition_penalty, stop } = all.front.asked().at(-1);
  assert.deepEqual([seed, presence_penalty, frequency_penalty, repetition_penalty, stop], [7, 0.5, -0.5, 1.1, ["END", "\n\n"]]);
  await page.getByRole("button", { name: "Settings", exact: true }).click();
  await dialog.getByRole("button", { name: "Use the defaults" }).click();
  assert.equal(await dialog.getByLabel("System prompt").inputValue(), "");
  await page.keyboard.press("Escape");
  await page.getByRole("button", { name: "Settings: the defaults" }).waitFor();
  await ask(page, "plain again");
  await answered(page);
  assert.deepEqual(Object.keys(all.front.asked().at(-1)).sort(), Object.keys(plain).sort());
  await page.context().close();
});

test("Markdown becomes what it says", settings, async () => {
  const text =
    "# Title\n\n1. one\n2. two\n   - deep\n\n| a | b |\n|:--|--:|\n| 1 | `x\\|y` |\n\n> quoted\n\n- [x] done\n\n" +
    "A <br> B &lt;b&gt; ~~old~~ *em* **strong** [link](https://example.org/)\n\n```python\ndef f():\n    return 1 < 2\n```\n\n---\nend";
  all.front.on["POST /v1/chat/completions"] = says(text, { size: 3 });
  const page = await openPage(all.browser, all.front.url);
  await page.evaluate(() => Object.defineProperty(navigator, "clipboard", { value: undefined })); // as without https
  await ask(page, "Show me");
  const answer = await answered(page);
  for (const [selector, content] of [["h3", "Title"], ["ol > li > ul > li", "deep"], ["td.align-right", "x|y"], ["blockquote", "quoted"], ["del", "old"], ["em", "em"], ["strong", "strong"]]) {
    assert.match(await answer.locator(selector).first().innerText(), new RegExp(content.replace("|", "\\|")));
  }
  assert.match(await answer.innerText(), /B <b>/);
  assert.equal(await answer.getByRole("link", { name: "link" }).getAttribute("rel"), "noopener noreferrer nofollow");
  assert.equal(await answer.locator(".hljs-keyword").first().innerText(), "def");
  assert.equal(await answer.locator("pre").innerText(), "def f():\n    return 1 < 2");
  await answer.getByRole("button", { name: "Copy code" }).click();
  await answer.getByText("Copied").waitFor();
  const box = page.getByRole("textbox", { name: "Message", exact: true });
  await box.focus();
  await page.keyboard.press("Control+V");
  assert.equal(await box.inputValue(), "def f():\n    return 1 < 2");
  assert.deepEqual(await trouble(page), []);
  await page.context().close();
});

test("the reader may go up while an answer grows", settings, async () => {
  const page = await openPage(all.browser, all.front.url);
  let send;
  const begun = new Promise((resolve) => {
    all.front.on["POST /v1/chat/completions"] = (_, response) => resolve((send = stream(response)));
  });
  await ask(page, "Long");
  await begun;
  send({ delta: { content: "line\n\n".repeat(60) } });
  const box = page.locator(".thread-box");
  const end = () => box.evaluate((element) => Math.abs(element.scrollHeight - element.scrollTop - element.clientHeight));
  await page.locator(".answer p", { hasText: "line" }).nth(59).waitFor();
  assert.ok((await end()) < 2, "the view follows");
  await box.evaluate((element) => element.scrollTo({ top: 0 }));
  await page.getByRole("button", { name: "Go to the end" }).waitFor();
  send({ delta: { content: "last words" } });
  await page.getByText("last words").waitFor();
  assert.equal(await box.evaluate((element) => element.scrollTop), 0);
  await page.getByRole("button", { name: "Go to the end" }).click();
  assert.ok((await end()) < 2);
  await page.context().close();
});

test("mathematics is set, with a file that is fetched for it alone; what is copied is the answer as it was written", settings, async () => {
  const page = await openPage(all.browser, all.front.url);
  await page.evaluate(() => Object.defineProperty(navigator, "clipboard", { value: undefined })); // as without https
  const fetched = () => all.front.seen.filter(({ url }) => url === "/assets/math.js").length;
  all.front.on["POST /v1/chat/completions"] = says("It costs $5 and $10, in `$x$` and C:\\new\\_x.", { size: 3 });
  await ask(page, "Prices");
  let answer = await answered(page);
  assert.match(await answer.innerText(), /It costs \$5 and \$10, in \$x\$ and C:\\new\\_x\./);
  assert.equal(await answer.locator("math").count(), 0);
  assert.equal(fetched(), 0);

  const text =
    "So $x^2\\,dx$ and \\(a_1^2\\):\n\n\\[\n\\int_0^1 f\n\\]\n\n$$\n\\begin{aligned} a &= b \\\\\n\n&= c \\end{aligned}\n$$\n\n" +
    "1. Item:\n   $$\\frac{1}{2}$$\n\n| $|x|$ | `$y$` |\n|---|---|\n| $\\mathbb{R}$ | 5\\% |\n\nBroken: $\\frac{a$, $\\nope$. ~~x^2\\,dx~~";
  all.front.on["POST /v1/chat/completions"] = says(text, { size: 3 });
  await ask(page, "Mathematics");
  answer = await answered(page);
  assert.equal(await answer.locator("math").count(), 7);
  assert.equal(await answer.locator("math[display=block] mfrac").count(), 1);
  assert.equal(await answer.locator("math mtable mtr").count(), 2);
  assert.equal(await answer.locator("td math").last().textContent(), "ℝ");
  const shown = await answer.innerText();
  for (const source of ["$y$", "5\\%", "Broken: $\\frac{a$, $\\nope$.", "x^2\\,dx"]) assert.ok(shown.includes(source), source);
  assert.equal(fetched(), 1);
  // It is drawn as mathematics, not as letters in a row.
  const [whole, part] = [await answer.locator("mfrac").boundingBox(), await answer.locator("mfrac > :first-child").boundingBox()];
  assert.ok(whole.height > 1.8 * part.height);

  await answer.getByRole("button", { name: "Copy answer" }).click();
  await answer.getByText("Copied").waitFor();
  const box = page.getByRole("textbox", { name: "Message", exact: true });
  await box.focus();
  await page.keyboard.press("Control+V");
  assert.equal(await box.inputValue(), text);
  await page.reload();
  await page.locator(".entry").first().click();
  assert.equal(await (await answered(page)).locator("math").count(), 7);
  assert.deepEqual(await trouble(page), []);
  await page.context().close();
});

test("without the workers, answers are shown as they are written", settings, async () => {
  for (const name of ["text", "math"]) all.front.on[`GET /assets/${name}.js`] = (_, response) => response.writeHead(503).end();
  const page = await openPage(all.browser, all.front.url);
  all.front.on["POST /v1/chat/completions"] = says("**bold** $x$\n\n```python\ndef f(): pass\n```");
  await ask(page, "Hello");
  let answer = await answered(page);
  assert.match(await answer.innerText(), /\*\*bold\*\* \$x\$\s+python\s+def f\(\): pass/);
  delete all.front.on["GET /assets/text.js"]; // it is back, mathematics is not
  await ask(page, "Again");
  answer = await answered(page);
  assert.equal(await answer.locator("strong").innerText(), "bold");
  assert.match(await answer.innerText(), /bold \$x\$/);
  await page.context().close();
});
