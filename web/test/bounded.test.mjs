// Whatever an answer holds, the page's own thread only walks over it: what may take long is done by workers with a limit.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { SCENES } from "./scenes.mjs";
import { source, workerOf } from "./support.mjs";

const { Bounded } = await source("workers/bounded.ts");
const { Formatter } = await source("markdown/formatter.ts");
const { READY } = await source("workers/protocol.ts");
const text = await workerOf("workers/text.ts");
const math = await workerOf("workers/math.ts");
after(() => [...text.begun, ...math.begun].forEach((port) => port.terminate()));

/** A worker that a test plays itself. */
class Played {
  static begun = [];
  asked = [];
  ended = false;

  constructor() {
    Played.begun.push(this);
  }

  postMessage(message) {
    assert.equal(this.ended, false);
    this.asked.push(message);
  }

  terminate() {
    this.ended = true;
  }

  says(data) {
    this.onmessage({ data });
  }
}

const played = (limit) => {
  Played.begun = [];
  return new Bounded(() => new Played(), limit);
};

test("a worker gets one question at a time, the last one first", async () => {
  const bounded = played(60_000);
  const replies = [1, 2, 3].map((question) => bounded.ask(question));
  const [worker] = Played.begun;
  assert.deepEqual(worker.asked, [], "it is not ready");
  worker.says(READY);
  for (const [question, reply] of [[3, "three"], [2, "two"], [1, "one"]]) {
    assert.equal(worker.asked.at(-1), question);
    worker.says(reply);
  }
  assert.deepEqual((await Promise.all(replies)).map(({ reply }) => reply), ["one", "two", "three"]);
  assert.equal(Played.begun.length, 1);
});

test("a worker that takes too long is ended, and another one goes on", async () => {
  const bounded = played(20);
  const [good, bad] = [bounded.ask("good"), bounded.ask("bad")];
  const [first] = Played.begun;
  await sleep(60);
  first.says(READY); // its start is not counted
  const { reply, milliseconds } = await bad;
  assert.deepEqual([reply, first.ended], ["late", true]);
  assert.ok(milliseconds >= 15);
  const second = Played.begun[1];
  first.says("of the dead");
  second.says(READY);
  assert.deepEqual(second.asked, ["good"]);
  second.says("done");
  assert.equal((await good).reply, "done");
});

test("without a worker, or with one of another version, nothing waits for ever", async () => {
  const bounded = played(60_000);
  let asked = [bounded.ask(1), bounded.ask(2)];
  Played.begun[0].onerror(new Error("gone"));
  assert.deepEqual((await Promise.all(asked)).map(({ reply }) => reply), ["failed", "failed"]);
  asked = [bounded.ask(3)];
  Played.begun[1].says("ready 999");
  assert.equal((await asked[0]).reply, "failed");
  asked = [bounded.ask(4), bounded.ask(5)];
  Played.begun[2].says(READY);
  Played.begun[2].onerror(new Error("broke at 5"));
  assert.equal((await asked[1]).reply, "late");
  Played.begun[3].says(READY);
  Played.begun[3].says("four");
  assert.equal((await asked[0]).reply, "four");
  const never = new Bounded(() => {
    throw new Error("refused");
  });
  assert.equal((await never.ask(1)).reply, "failed");
});

/** A formatter and what it asked, with replies of a test's own. */
function formatter(replies, changed = () => undefined) {
  const asked = { text: [], math: [], most: 0, under: 0 };
  const ask = (kind) => async (question) => {
    asked[kind].push(question);
    asked.under += 1;
    asked.most = Math.max(asked.most, asked.under);
    await null;
    asked.under -= 1;
    return { milliseconds: 0, reply: null, ...replies(question) };
  };
  return { asked, formatter: new Formatter({ text: { ask: ask("text") }, math: { ask: ask("math") } }, changed) };
}

async function settled(formatter) {
  while (formatter.busy) await sleep(1);
}

const echo = (parts = 1) => (question) =>
  Array.isArray(question) ? { reply: question.map(({ tex }) => (tex === "bad" ? null : tex)) } : { reply: { trees: [question.markdown], parts } };
const views = (formatter) => formatter.shown().map(({ view }) => ("trees" in view ? "trees" : "plain" in view ? (view.waiting ? "waiting" : "plain") : "code"));

test("only what has changed is read again", async () => {
  const { asked, formatter: one } = formatter(echo());
  const whole = "one\n\n```\ncode\n```\n\ntwo\n\nthree [x]";
  for (let length = 1; length <= whole.length; length += 1) {
    one.update(whole.slice(0, length), true);
    await settled(one);
  }
  one.update(whole, false);
  await settled(one);
  assert.deepEqual(views(one), ["trees", "code", "trees", "trees"]);
  assert.ok(asked.text.every(({ markdown }) => !markdown.includes("\n\n")), "block by block");
  assert.equal(asked.text.filter(({ markdown }) => markdown.startsWith("one")).length, 1);
  const before = asked.text.length;
  one.update(`${whole}\n\n[x]: https://x.example`, false);
  await settled(one);
  const again = asked.text.slice(before);
  assert.deepEqual(again.map(({ markdown }) => markdown.split(" ")[0]).sort(), ["[x]:", "three"]);
  one.update("other", false);
  await settled(one);
  assert.deepEqual(one.shown().map(({ view }) => view.trees), [["other"]]);
});

test("what grows is shown as it last was, and rests between two readings", async () => {
  const { asked, formatter: one } = formatter((question) => ({ ...echo()(question), milliseconds: 5 }));
  one.update("a", true);
  assert.deepEqual(one.shown()[0].view, { plain: "a", waiting: true });
  while (asked.under > 0) await null;
  await null;
  one.update("ab", true);
  assert.deepEqual(one.shown()[0].view.trees, ["a"], "until there is something newer");
  assert.equal(asked.text.length, 1);
  one.update("abc", true);
  await settled(one);
  assert.deepEqual(asked.text.map(({ markdown }) => markdown), ["a", "abc"]);
  one.close();
});

test("an answer has three tries in vain, then the rest of it stays as it is written", async () => {
  const { asked, formatter: one } = formatter(({ markdown }) => (/bad/.test(markdown) ? { reply: "late", milliseconds: 1 } : echo()({ markdown })));
  one.update("good\n\nbad\n\nbad 2\n\nbad 3\n\ngood 2", false);
  await settled(one);
  assert.deepEqual(views(one), ["plain", "plain", "plain", "plain", "trees"]);
  assert.equal(asked.text.length, 4);
  assert.equal(asked.most, 1, "one after the other");
  assert.equal(await one.colours("x", "python"), null);
  assert.equal(asked.text.length, 4);
});

test("a block that could not be read in time is not tried again as it grows", async () => {
  const { asked, formatter: one } = formatter(() => ({ reply: "late", milliseconds: 1 }));
  for (const grown of ["bad", "bad bad", "bad bad bad"]) {
    one.update(grown, true);
    await settled(one);
  }
  assert.equal(asked.text.length, 1);
  assert.deepEqual(one.shown()[0].view, { plain: "bad bad bad", waiting: false });
});

test("what workers spend on one answer, and what comes of it, has an end", async () => {
  const slow = formatter((question) => ({ ...echo()(question), milliseconds: 6_000 }));
  slow.formatter.update(Array.from({ length: 50 }, (_, at) => `block ${at}`).join("\n\n"), false);
  await settled(slow.formatter);
  assert.equal(slow.asked.text.length, 4);
  const rich = formatter(echo(6_000));
  rich.formatter.update(Array.from({ length: 50 }, (_, at) => `block ${at}`).join("\n\n"), false);
  await settled(rich.formatter);
  assert.equal(views(rich.formatter).filter((kind) => kind === "trees").length, 3);
  const many = formatter(echo());
  many.formatter.update(SCENES["paragraphs of one letter"](300_000), false);
  await settled(many.formatter);
  assert.equal(many.asked.text.length, 400);
  assert.equal(many.formatter.shown().length, 401);
  const big = formatter(echo());
  big.formatter.update(`${"word ".repeat(11_000)}\n\nsmall`, false);
  await settled(big.formatter);
  assert.deepEqual(views(big.formatter), ["plain", "trees"]);
});

test("formulas are asked for once, some at a time", async () => {
  const formulas = Array.from({ length: 45 }, (_, at) => ({ raw: `$${at % 30}$`, tex: at % 30 === 7 ? "bad" : `${at % 30}`, display: false }));
  const { asked, formatter: one } = formatter((question) => (Array.isArray(question) ? echo()(question) : { reply: { trees: formulas, parts: 1 } }));
  one.update("text", true);
  await settled(one);
  one.update("text and more", false);
  await settled(one);
  assert.deepEqual(asked.math.map(({ length }) => length), [20, 10]);
  assert.equal(one.formula(formulas[3]), "3");
  assert.equal(one.formula(formulas[7]), null);
});

test("everything of a text is shown: as trees, as code, or as it is written", async () => {
  const bounded = { text: new Bounded(text.start, 60_000), math: new Bounded(math.start, 60_000) };
  const seen = (trees) => trees.map((tree) => (typeof tree === "string" ? tree : (tree.raw ?? tree.code ?? seen(tree.kids)))).join("");
  const letters = (value) => value.replace(/[^\p{L}]/gu, "");
  const words = "Once *upon* a **time** `there` was $x^2$ and [a link](https://example.org/).\n\n- an item\n- another\n\n> quoted\n\n```python\nprint(1)\n```";
  const one = new Formatter(bounded, () => undefined);
  one.update(words, false);
  await settled(one);
  assert.deepEqual(views(one), ["trees", "trees", "trees", "code"]);
  const all = one.shown().map(({ view }) => view.code ?? view.plain ?? seen(view.trees)).join("");
  assert.equal(letters(all), letters(words.replace("https://example.org/", "").replace("python", "")));
  assert.equal(one.formula({ tex: "x^2", display: false, raw: "" }).tag, "math");
  assert.ok((await one.colours("print(1)", "python")).length > 1);
  assert.equal(await one.colours("print(1)", "no language"), null);
});

// The walk over a text and its blocks is all that the page's thread does: it is bounded by steps, tested in markdown.test.mjs.
// Here the whole of it runs, with real workers: it comes to an end for every text, whole and in pieces.
for (const length of [2_000, 60_000]) {
  test(`texts of ${length} characters made to hold up a page come to an end`, async () => {
    const bounded = { text: new Bounded(text.start, 150), math: new Bounded(math.start, 150) };
    const longest = { milliseconds: 0, name: "" };
    for (const [name, make] of Object.entries(SCENES)) {
      const whole = make(length);
      for (const pieces of [1, 20]) {
        const one = new Formatter(bounded, () => undefined);
        for (let piece = 1; piece <= pieces; piece += 1) {
          const started = performance.now();
          one.update(whole.slice(0, Math.ceil((whole.length * piece) / pieces)), piece < pieces);
          one.shown();
          const milliseconds = performance.now() - started;
          if (milliseconds > longest.milliseconds) Object.assign(longest, { milliseconds, name });
          await sleep(0);
        }
        await settled(one);
        const parts = one.shown().flatMap(({ view }) => ("trees" in view ? view.trees : []));
        assert.ok(JSON.stringify(parts).length < 40 * (whole.length + 1_000), name);
        assert.ok(one.budget.late <= 3 + 2, name); // of each kind one may be under way
        one.close();
      }
    }
    if (process.env.PAGE_TIMES) console.log("longest on the page's thread", longest);
    // A guard against work that is not linear, not a measurement: machines of tests may be slow.
    assert.ok(longest.milliseconds < 5_000, JSON.stringify(longest));
  });
}
