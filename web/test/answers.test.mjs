// What the events of a stream become, without a browser: thoughts, calls of tools, numbers, an answer that goes on.
import assert from "node:assert/strict";
import { test } from "node:test";

import { source } from "./support.mjs";

const { splitThinking } = await source("core/thinking.ts");
const { pretty, withPiece } = await source("core/calls.ts");
const { piecesOf } = await source("core/pieces.ts");
const { emptyAnswer, Growing } = await source("core/growing.ts");
const { measured } = await source("core/measured.ts");
const { matching, modelsIn, preferred, stateOf } = await source("core/models.ts");
const { asBlock, attached } = await source("core/attachment.ts");

test("thoughts between marks are told from the text", () => {
  for (const [content, reasoning, text] of [
    ["plain", "", "plain"],
    ["<think>\na < b\n</think>\n\nc", "a < b", "c"],
    [" \n<think></think>c <think>d</think>", "", "c <think>d</think>"],
    ["<think>cut off", "cut off", ""],
    ["the template opened it\n</think>\n\nc", "the template opened it", "c"],
    ["</think>\nc", "", "c"],
    ["a `</think>` b", "", "a `</think>` b"],
    ["<thin", "", "<thin"],
    ["", "", ""],
  ]) {
    assert.deepEqual(splitThinking(content), { reasoning, text }, content);
  }
});

test("while an answer grows, half a mark is not shown", () => {
  const whole = "<think>one</think>two";
  const seen = Array.from(whole, (_, at) => splitThinking(whole.slice(0, at + 1), true));
  for (const { reasoning, text } of seen) assert.ok("one".startsWith(reasoning) && "two".startsWith(text), `${reasoning}|${text}`);
  assert.deepEqual(splitThinking("<p>", true), { reasoning: "", text: "<p>" });
  assert.equal(splitThinking("<think>a <", true).reasoning, "a ");
});

test("arguments get lines, and nothing of them changes", () => {
  const text = '{"a":[1,{"b":"x,{}\\"[\\\\"},[]],"n":12345678901234567890,"u":"\\u00e9", "e": {} ,"t":true}';
  const lines = pretty(text);
  assert.equal(lines.split("\n")[1], '  "a": [');
  for (const part of ["12345678901234567890", '"x,{}\\"[\\\\"', '"\\u00e9"', '"e": {}', "[]"]) assert.ok(lines.includes(part), part);
  assert.equal(lines.replace(/\s/g, ""), text.replace(/\s/g, ""));
  const deep = "[".repeat(2000) + "]".repeat(2000);
  for (const odd of ['{"cut": "of', "", "no JSON", deep, `"${"x".repeat(60_000)}"`]) assert.equal(pretty(odd), odd);
  assert.equal(pretty(" 5 "), "5");
});

test("calls come in pieces, and there is a bound", () => {
  let calls = withPiece([], { index: 0, name: "f", arguments: "" });
  calls = withPiece(calls, { index: 1, name: "g", arguments: "{}" });
  calls = withPiece(calls, { index: 0, name: "", arguments: '{"a"' });
  calls = withPiece(calls, { index: 0, name: "", arguments: ":1}" });
  assert.deepEqual(calls, [{ name: "f", arguments: '{"a":1}' }, { name: "g", arguments: "{}" }]);
  for (const index of [-1, 1.5, 128, 1e9, Number.NaN]) assert.equal(withPiece(calls, { index, name: "x", arguments: "" }).length, 2);
});

const pieces = (event) => [...piecesOf(JSON.stringify(event))];
const delta = (value) => pieces({ choices: [{ index: 0, delta: value }] });

test("an event holds thoughts under either name, text, calls, an end, numbers", () => {
  assert.deepEqual(delta({ reasoning: "a", reasoning_content: "a" }), [{ reasoning: "a" }]);
  assert.deepEqual(delta({ reasoning_content: "b", content: null }), [{ reasoning: "b" }]);
  assert.deepEqual(delta({ content: "c" }), [{ text: "c" }]);
  const call = { index: 0, id: "x", type: "function", function: { name: "f", arguments: "" } };
  assert.deepEqual(delta({ tool_calls: [call] }), [{ call: { index: 0, name: "f", arguments: "" } }]);
  assert.deepEqual(pieces({ choices: [{ delta: {}, finish_reason: "tool_calls" }] }), [{ finish: "tool_calls" }]);
  assert.deepEqual(pieces({ choices: [], usage: { prompt_tokens: 5, completion_tokens: 2 } }), [{ tokens: 2, contextTokens: 7 }]);
  assert.deepEqual(pieces({ choices: [], usage: { completion_tokens: 2 } }), [{ tokens: 2, contextTokens: null }]);
  for (const odd of [{}, { choices: null, usage: null }, { choices: [null] }]) assert.deepEqual(pieces(odd), []);
  for (const odd of [{ content: 5, reasoning: [], tool_calls: {} }, null]) assert.deepEqual(delta(odd), []);
  assert.deepEqual(delta({ tool_calls: [null, { function: 4 }] }).length, 2);
});

/** An answer of pieces that come with a second between them. */
function grown(before, ...all) {
  let now = 0;
  const growing = new Growing(before, () => now);
  for (const piece of all) {
    now += 1;
    growing.add(piece);
    growing.answer(true);
  }
  now += 1;
  return growing.answer(false);
}

test("thoughts have a time, however they come", () => {
  const said = grown(emptyAnswer("m"), { reasoning: "a" }, { reasoning: "b" }, { text: "c" }, { text: "d" });
  assert.deepEqual([said.reasoning, said.text, said.thoughtSeconds, said.firstSeconds, said.seconds], ["ab", "cd", 2, 1, 5]);
  const marked = grown(emptyAnswer("m"), { text: "<think>a" }, { text: "b</think>" }, { text: "c" });
  assert.deepEqual([marked.reasoning, marked.text, marked.thoughtSeconds], ["ab", "c", 2]);
  const called = grown(emptyAnswer("m"), { reasoning: "a" }, { call: { index: 0, name: "f", arguments: "{}" } }, { finish: "tool_calls" });
  assert.deepEqual([called.thoughtSeconds, called.calls.length, called.cut], [1, 1, false]);
  assert.equal(grown(emptyAnswer("m"), { text: "a" }).thoughtSeconds, null);
  assert.equal(grown(emptyAnswer("m"), { reasoning: "a" }).thoughtSeconds, 1, "cut off within its thoughts");
});

test("an answer that goes on is one answer, with the numbers of both parts", () => {
  const first = grown(emptyAnswer("m"), { reasoning: "r" }, { text: "one" }, { finish: "length" }, { tokens: 10, contextTokens: 30 });
  assert.deepEqual([first.cut, first.note !== "", first.tokens, first.seconds], [true, true, 10, 5]);
  const both = grown(first, { text: " two" }, { finish: "stop" }, { tokens: 5, contextTokens: 35 });
  assert.deepEqual([both.text, both.reasoning, both.cut, both.note], ["one two", "r", false, ""]);
  assert.deepEqual([both.tokens, both.contextTokens, both.firstSeconds, both.seconds], [15, 35, 2, 9]);
  const stopped = { ...first, tokens: null };
  assert.equal(grown(stopped, { text: "x" }, { tokens: 5, contextTokens: 35 }).tokens, null, "unknown is not zero");
});

test("length, speed and time are told as far as they are known", () => {
  const said = (tokens, firstSeconds, seconds) => measured({ tokens, firstSeconds, seconds });
  assert.equal(said(1001, 1, 21), "1,001 tokens · 50 tokens/s · 21.0 s");
  assert.equal(said(11, 1, 6), "11 tokens · 2.0 tokens/s · 6.0 s");
  assert.deepEqual([said(1, 1, 2), said(2, 1, 1.05), said(null, 1, 2), said(null, null, null)], ["1 token · 2.0 s", "2 tokens · 1.1 s", "2.0 s", ""]);
});

test("the state of a model is what the server says", () => {
  const list = [
    { id: "a" }, { id: "b", status: "ready", max_model_len: 4096 }, { id: "c", status: "not ready", reason: "Merging" },
    { id: "d", status: "asleep" }, { id: "e", status: "loading" }, { id: 5 }, null,
  ];
  const models = modelsIn({ data: list });
  const states = models.map((model) => stateOf(model, models));
  assert.deepEqual(states, [
    null, { kind: "good", text: "Ready" }, { kind: "bad", text: "Not ready: Merging" }, { kind: "resting", text: "Asleep" }, { kind: "bad", text: "Loading" },
  ]);
  assert.deepEqual([models[0].context, models[1].context], [null, 4096]);
  assert.deepEqual(stateOf(undefined, models), { kind: "bad", text: "Not here" });
  assert.equal(stateOf(undefined, null), null);
  for (const odd of [null, 5, {}, { data: {} }]) assert.equal(modelsIn(odd), null);
  assert.equal(preferred(models.slice(2)).id, "c");
  assert.equal(preferred(models.slice(1)).id, "b");
  const names = ["team-a/Vicuna-13b", "team-b/vicuna-7b"].map((id) => ({ id }));
  const found = (query) => matching(query, names).length;
  assert.deepEqual([found(""), found("VICUNA"), found("7b team"), found("13b 7b")], [2, 2, 1, 0]);
});

test("a text file becomes a block that its text cannot end; anything else is refused", async () => {
  assert.equal(asBlock("a.txt", "x"), "a.txt:\n```\nx\n```\n");
  assert.match(asBlock("a.md", "```\ncode\n`````\n"), /^a\.md:\n``````\n```\ncode\n`````\n``````\n$/);
  assert.match(await attached(new File(["é"], "e.txt")), /é/);
  await assert.rejects(attached(new File([new Uint8Array([0xff, 0xfe])], "b.bin")), /b\.bin is no text/);
  await assert.rejects(attached(new File(["a\0b"], "n.bin")), /no text/);
  await assert.rejects(attached(new File(["x".repeat(200_001)], "l.txt")), /201 kB, and 200 are the most/);
});
