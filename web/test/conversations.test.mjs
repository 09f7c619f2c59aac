// Conversations without a browser: versions, what a model is sent, days, search, files of this page and of earlier ones.
import assert from "node:assert/strict";
import { test } from "node:test";

import { source } from "./support.mjs";

const conversations = await source("core/conversation.ts");
const { messagesFor, requestFor } = await source("core/request.ts");
const { byDay, having } = await source("core/days.ts");
const { exported, imported } = await source("core/library.ts");
const settings = await source("core/settings.ts");
const { conversationFrom, settingsFrom } = await source("core/validation.ts");

const { PLAIN } = settings;
const EMPTY = { reasoning: "", thoughtSeconds: null, calls: [], state: "done", note: "", cut: false, tokens: null };
const answer = (text, more = {}) => ({ ...EMPTY, model: "m", text, contextTokens: null, firstSeconds: null, seconds: null, ...more });
const asked = (...questions) => questions.reduce((all, question) => conversations.ask(all, question), conversations.newConversation(["a"], PLAIN));
const shown = ({ turns }) => turns.map((turn) => `${turn.question}: ${turn.answers[0]?.text ?? ""}`);

/** Questions with answers in turn. */
function talk(...texts) {
  let all = conversations.newConversation(["a"], PLAIN);
  for (let at = 0; at < texts.length; at += 2) {
    all = conversations.withAnswer(conversations.ask(all, texts[at]), at / 2, 0, answer(texts[at + 1]));
  }
  return all;
}

test("a model called in later is told what the other one said; what was never answered is left out", () => {
  let conversation = conversations.ask(conversations.newConversation(["a"], { ...PLAIN, system: " Be brief. " }), "one");
  conversation = conversations.withAnswer(conversation, 0, 0, answer("first", { reasoning: "secret" }));
  conversation = conversations.ask(conversation, "two");
  conversation = conversations.ask({ ...conversation, models: ["a", "b"] }, "three");
  conversation = conversations.withAnswer(conversation, 2, 1, answer("of b"));
  conversation = conversations.ask(conversation, "four");
  const told = (lane) => messagesFor(conversation, 3, lane).map(({ role, content }) => `${role}: ${content}`);
  const both = ["system: Be brief.", "user: one", "assistant: first", "user: three", "assistant: of b", "user: four"];
  assert.deepEqual(told(0), both);
  assert.deepEqual(told(1), both);
});

test("an answer that goes on comes last in its request, and only settings that are set have a value", () => {
  const set = { ...PLAIN, seed: -4, stop: ["a", "\n"], presencePenalty: 0, frequencyPenalty: -2, repetitionPenalty: 1.1 };
  const request = requestFor({ ...talk("one", "first"), settings: set }, 0, 0, "first");
  assert.deepEqual(request.messages, [{ role: "user", content: "one" }, { role: "assistant", content: "first" }]);
  const given = Object.fromEntries(Object.entries(request).filter(([, value]) => value !== null));
  const wanted = { seed: -4, stop: ["a", "\n"], presence_penalty: 0, frequency_penalty: -2, repetition_penalty: 1.1 };
  assert.deepEqual({ ...given, messages: [] }, { ...wanted, model: "a", messages: [] });
  assert.equal(requestFor(talk("one", "first"), 1, 0, ""), null);
  assert.equal(requestFor(talk("one", "first"), 0, 1, ""), null);
});

test("answers to one question stand beside each other, and the shown one is sent", () => {
  let all = talk("q", "first");
  all = conversations.withAnswer(conversations.answerAgain(all, 0, 0), 0, 0, answer("second"));
  all = conversations.withAnswer(conversations.answerAgain(all, 0, 0), 0, 0, answer("third"));
  const places = () => all.turns[0].otherAnswers[0].place;
  assert.deepEqual([shown(all), places()], [["q: third"], 2]);
  all = conversations.showAnswer(all, 0, 0, 0);
  assert.deepEqual([shown(all), places()], [["q: first"], 0]);
  assert.equal(messagesFor(conversations.ask(all, "next"), 1, 0)[1].content, "first");
  all = conversations.showAnswer(all, 0, 0, 1);
  assert.deepEqual([shown(all), places()], [["q: second"], 1]);
  assert.equal(conversations.showAnswer(all, 0, 0, 3).turns[0].answers[0].text, "second", "there is no fourth");
  all = conversations.withAnswer(conversations.answerAgain(all, 0, 0), 0, 0, answer("fourth"));
  assert.deepEqual(all.turns[0].otherAnswers[0].rest.map(({ text }) => text), ["first", "second", "third"]);
});

test("an answer without a word is no version", () => {
  let all = conversations.withAnswer(asked("q"), 0, 0, answer("", { state: "failed" }));
  all = conversations.withAnswer(conversations.answerAgain(all, 0, 0), 0, 0, answer("first"));
  assert.deepEqual(all.turns[0].otherAnswers[0], { place: 0, rest: [] });
  all = conversations.withAnswer(conversations.answerAgain(all, 0, 0), 0, 0, answer("", { state: "stopped" }));
  assert.equal(all.turns[0].otherAnswers[0].place, 1);
  const back = conversations.showAnswer(all, 0, 0, 0);
  assert.deepEqual([shown(back), back.turns[0].otherAnswers[0]], [["q: first"], { place: 0, rest: [] }]);
  const taken = conversations.withoutAnswer(conversations.answerAgain(talk("q", "first"), 0, 0), 0, 0);
  assert.deepEqual([shown(taken), taken.turns[0].otherAnswers[0]], [["q: first"], { place: 0, rest: [] }]);
  assert.equal(conversations.withoutAnswer(talk("q", "first"), 0, 0).turns[0].answers[0], null);
});

test("a question's versions each keep what followed them", () => {
  const before = talk("one", "1", "two", "2", "three", "3");
  let all = conversations.edit(before, 1, "two, please");
  assert.deepEqual(shown(all), ["one: 1", "two, please: "]);
  all = conversations.withAnswer(all, 1, 0, answer("2!"));
  all = conversations.ask(all, "four");
  const others = all.turns[1].otherTurns;
  assert.deepEqual([others.place, others.rest.length], [1, 1]);
  const back = conversations.showQuestion(all, 1, 0);
  assert.deepEqual(shown(back), shown(before));
  assert.deepEqual(shown(conversations.showQuestion(back, 1, 1)), ["one: 1", "two, please: 2!", "four: "]);
  // An edit within an edit, and one of the question in front of both.
  const inner = conversations.edit(back, 2, "three?");
  const outer = conversations.edit(inner, 0, "zero");
  assert.deepEqual(shown(outer), ["zero: "]);
  const again = conversations.showQuestion(outer, 0, 0);
  assert.deepEqual(shown(again), ["one: 1", "two: 2", "three?: "]);
  assert.deepEqual(shown(conversations.showQuestion(again, 2, 0)), shown(before));
  assert.deepEqual(shown(conversations.showQuestion(again, 1, 1)), ["one: 1", "two, please: 2!", "four: "]);
  assert.equal(conversations.showQuestion(again, 1, 2), again);
});

test("only an answer that ended before its end can go on", () => {
  const can = (text, more) => conversations.canContinue(answer(text, more));
  assert.deepEqual([can("t", { state: "stopped" }), can("t", { state: "failed" }), can("t", { cut: true })], [true, true, true]);
  assert.deepEqual([can("t", {}), can(" ", { cut: true }), can("t", { state: "streaming" })], [false, false, false]);
  assert.equal(can("t", { cut: true, calls: [{ name: "f", arguments: "" }] }), false);
});

test("a stream whose page was killed is an answer that stopped, in every version", () => {
  const streaming = conversations.withAnswer(asked("q"), 0, 0, answer("half", { state: "streaming" }));
  const settled = conversations.settled(conversations.edit(streaming, 0, "q?"));
  const [{ answers }] = settled.turns[0].otherTurns.rest[0];
  assert.deepEqual([answers[0].state, answers[0].text], ["stopped", "half"]);
  assert.match(conversations.settled(streaming).turns[0].answers[0].note, /page was closed/);
});

test("conversations are in groups by the day of the reader's clock", () => {
  const now = new Date(2030, 2, 10, 0, 30).getTime();
  const at = (title, ...date) => ({ ...talk("q", "a"), title, updated: new Date(...date).getTime() });
  const all = [
    at("now", 2030, 2, 10, 0, 10), at("late", 2030, 2, 9, 23, 59), at("early", 2030, 2, 9, 0, 0),
    at("two", 2030, 2, 8, 23, 59), at("seven", 2030, 2, 3, 0, 0), at("eight", 2030, 2, 2, 23, 59), at("future", 2031, 0, 1),
  ];
  const groups = byDay(all, now).map(({ name, conversations: those }) => `${name}: ${those.map(({ title }) => title)}`);
  assert.deepEqual(groups, ["Today: now,future", "Yesterday: late,early", "Previous 7 days: two,seven", "Older: eight"]);
  assert.deepEqual(byDay([], now), []);
});

test("a search finds words of titles and texts in any version", () => {
  const edited = conversations.edit(talk("Apples", "are red"), 0, "Pears");
  const more = conversations.withAnswer(conversations.answerAgain(talk("Plums", "are blue"), 0, 0), 0, 0, answer("none"));
  const all = [edited, more, conversations.renamed(talk("x", "y"), " My \n title ")];
  const found = (query) => having(query, all).map((one) => all.indexOf(one));
  assert.deepEqual([found("RED apples"), found("are"), found("BLUE"), found("my title"), found("pears red z")], [[0], [0, 1], [1], [2], []]);
  assert.deepEqual(found("  "), [0, 1, 2]);
});

test("a title is the first question's beginning until it has a name, and again when that is taken away", () => {
  const long = talk("word ".repeat(30), "a");
  assert.equal(conversations.titleOf(long).length, 60);
  const named = conversations.renamed(long, "Name");
  assert.equal(conversations.titleOf(named), "Name");
  assert.equal(conversations.titleOf(conversations.renamed(named, " ")), conversations.titleOf(long));
  assert.equal(named.updated, long.updated, "it stays in its place");
});

test("a conversation of an earlier page is read whole", () => {
  const old = (more) => ({ model: "m", text: "t", state: "done", note: "", tokens: 3, firstSeconds: 1, seconds: 2, ...more });
  const read = conversationFrom({
    ...{ id: "0123456789abcdef", created: 1, updated: 2, models: ["a"], version: 7 },
    settings: { system: "s", temperature: 1, topP: null, maxTokens: 5 },
    turns: [
      { question: "q", answers: [old({ note: "The answer was cut off at the limit of its length." }), null] },
      { question: "r", answers: [old({ text: "<think>\nhm\n</think>\n\nyes" })] },
    ],
  });
  assert.deepEqual(read.settings, { ...PLAIN, system: "s", temperature: 1, maxTokens: 5 });
  const [first, second] = read.turns.map(({ answers }) => answers[0]);
  assert.deepEqual([first.text, first.cut, first.tokens, first.calls], ["t", true, 3, []]);
  assert.deepEqual([second.text, second.reasoning, second.cut], ["yes", "hm", false]);
  assert.deepEqual([read.title, read.turns[0].otherTurns], ["", { place: 0, rest: [] }]);
});

test("a file has everything, versions too, and comes back the same", () => {
  let all = conversations.edit(talk("one", "1", "two", "2"), 1, "two?");
  const call = { name: "f", arguments: '{"a": 1}' };
  all = conversations.withAnswer(all, 1, 0, answer("<think>no mark</think>", { reasoning: "r", calls: [call], cut: true, contextTokens: 9 }));
  all = conversations.withAnswer(conversations.answerAgain(all, 0, 0), 0, 0, answer("1!", { thoughtSeconds: 2 }));
  all = { ...conversations.renamed(all, "Name"), settings: { ...PLAIN, seed: 1, stop: ["x"] } };
  const [back] = imported(exported([all]));
  assert.notEqual(back.id, all.id);
  assert.deepEqual({ ...back, id: all.id }, all);
});

test("a stored conversation that somebody changed is read as far as it makes sense", () => {
  const odd = [null, 5, [], {}, { id: "x", models: [], turns: [] }, { id: "0123456789abcdef", models: "a", turns: [] }];
  for (const value of odd) assert.equal(conversationFrom(value), null);
  const read = conversationFrom({
    id: "0123456789abcdef",
    title: 5,
    models: ["a", 5, "b", "c"],
    settings: { system: 5, temperature: 9, topP: 0.5, maxTokens: "7", seed: 0.5, stop: "x" },
    turns: [
      null,
      {
        question: "q",
        answers: [{ text: "t", state: "odd", tokens: Number.NaN, calls: [null, { name: 5 }] }, 7],
        otherAnswers: [{ place: 9, rest: [{ text: "u" }, 5] }, "x"],
        otherTurns: { place: -1.5, rest: [[], 5, [{ question: "v" }]] },
      },
      { question: 5 },
    ],
  });
  assert.deepEqual(read.models, ["a", "b"]);
  assert.deepEqual(read.settings, { ...PLAIN, topP: 0.5 });
  assert.equal(read.turns.length, 1);
  const [turn] = read.turns;
  assert.equal(turn.answers[0].state, "done");
  assert.deepEqual(turn.answers[0].calls, [{ name: "", arguments: "" }]);
  assert.equal(turn.answers[1], null);
  assert.deepEqual([turn.otherAnswers[0].place, turn.otherAnswers[0].rest.length], [1, 1]);
  assert.deepEqual([turn.otherTurns.place, turn.otherTurns.rest.map(([one]) => one.question)], [0, ["v"]]);
});

test("versions within versions have a bound", () => {
  let turns = [{ question: "deepest" }];
  for (let depth = 0; depth < 2000; depth += 1) turns = [{ question: "q", otherTurns: { place: 0, rest: [turns] } }];
  const read = conversationFrom({ id: "0123456789abcdef", models: ["a"], turns });
  let depth = 0;
  for (let at = read.turns; at?.length; at = at[0].otherTurns.rest[0]) depth += 1;
  assert.ok(depth > 400 && depth < 600, String(depth));
  assert.equal(having("deepest", [read]).length, 0);
  assert.equal(imported(exported([read])).length, 1);
});

test("settings are what the API takes", () => {
  const { isWithin, stopsFrom, linesOf, areStops, summaryOf } = settings;
  for (const [name, good, bad] of [
    ["seed", [0, -5, Number.MAX_SAFE_INTEGER], [0.5, 2 ** 53]],
    ["presencePenalty", [-2, 2], [-2.1, 2.1]],
    ["repetitionPenalty", [0.01, 10], [0, 10.1]],
    ["maxTokens", [1], [0, 1.5]],
  ]) {
    for (const value of good) assert.ok(isWithin(name, value), `${name} ${value}`);
    for (const value of bad) assert.ok(!isWithin(name, value), `${name} ${value}`);
  }
  const stop = ["END", "a\nb", "\\n", "\tx"];
  assert.deepEqual(stopsFrom(linesOf(stop)), stop);
  assert.deepEqual(stopsFrom("\n\\n\n\nx\\y\n"), ["\n", "x\\y"]);
  assert.ok(areStops(Array(64).fill("x".repeat(256))) && !areStops(Array(65).fill("x")) && !areStops(["x".repeat(257)]) && !areStops([""]));
  assert.equal(summaryOf(PLAIN), "");
  assert.equal(summaryOf({ ...PLAIN, seed: 0, stop: ["x"], maxTokens: 3 }), "seed 0 · at most 3 tokens · 1 stop text");
  assert.deepEqual(settingsFrom({ ...PLAIN, repetitionPenalty: 99, seed: 3 }), { ...PLAIN, seed: 3 });
});
