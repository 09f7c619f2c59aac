/** A conversation and what can be done to it. Pure: every function gives a new conversation. */

import type { ToolCall } from "./calls.ts";
import type { Settings } from "./settings.ts";
import { behind, none, swapped, type Others } from "./versions.ts";

/** What one model said. `note` is a sentence about how it ended, where that needs one. */
export interface Answer {
  model: string;
  text: string;
  /** What it thought before that. Shown, and never sent. */
  reasoning: string;
  thoughtSeconds: number | null;
  /** Shown, and never run. */
  calls: ToolCall[];
  state: "streaming" | "done" | "stopped" | "failed";
  note: string;
  /** Whether it ended at the limit of its length. */
  cut: boolean;
  tokens: number | null;
  /** Tokens of the conversation up to the end of this answer. */
  contextTokens: number | null;
  /** Seconds of waiting for first tokens, and seconds in all; an answer that was continued has waited more than once. */
  firstSeconds: number | null;
  seconds: number | null;
}

/** One question and the answers of the models side by side, by their place in `models`. */
export interface Turn {
  question: string;
  answers: (Answer | null)[];
  /** The answers that are not shown, by the same place. */
  otherAnswers: Others<Answer>[];
  /** Other questions at this point of the conversation, each with the turns that followed it. */
  otherTurns: Others<Turn[]>;
}

export interface Conversation {
  id: string;
  /** "" for the start of the first question. */
  title: string;
  /** Milliseconds since the epoch. */
  created: number;
  updated: number;
  /** One model, or two side by side. */
  models: string[];
  settings: Settings;
  turns: Turn[];
}

export function newConversation(models: string[], settings: Settings, now = Date.now()): Conversation {
  return { id: newId(), title: "", created: now, updated: now, models, settings, turns: [] };
}

/** 16 hex digits. (`crypto.randomUUID` exists over https only; clusters are often reached without.) */
export function newId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(8));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

const LONGEST_TITLE = 60;

/** The name that it was given, else the start of the first question. */
export function titleOf({ title, turns }: Conversation): string {
  return title || asTitle(turns[0]?.question ?? "") || "New conversation";
}

function asTitle(text: string): string {
  const words = text.trim().replace(/\s+/g, " ");
  return words.length > LONGEST_TITLE ? `${words.slice(0, LONGEST_TITLE - 1)}…` : words;
}

/** The conversation under another name; an empty one gives it back its first question's. */
export function renamed(conversation: Conversation, title: string): Conversation {
  return { ...conversation, title: asTitle(title) };
}

/** The conversation with another question, not answered yet, at its end. */
export function ask(conversation: Conversation, question: string, now = Date.now()): Conversation {
  return { ...conversation, updated: now, turns: [...conversation.turns, turnOf(conversation, question)] };
}

function turnOf({ models }: Conversation, question: string): Turn {
  return { question, answers: models.map(() => null), otherAnswers: models.map(() => none()), otherTurns: none() };
}

/** The conversation with another version of a question, not answered yet; the old one and what followed it stay beside it. */
export function edit(conversation: Conversation, index: number, question: string, now = Date.now()): Conversation {
  const tail = conversation.turns.slice(index);
  const others = tail[0]?.otherTurns ?? none<Turn[]>();
  const turn = { ...turnOf(conversation, question), otherTurns: behind(others, alone(tail)) };
  return { ...conversation, updated: now, turns: [...conversation.turns.slice(0, index), turn] };
}

/** The conversation with another version of a question, and what followed that, on the screen. */
export function showQuestion(conversation: Conversation, index: number, place: number): Conversation {
  const tail = conversation.turns.slice(index);
  const found = tail[0] && swapped(tail[0].otherTurns, alone(tail), place);
  if (!found) return conversation;
  const [[first, ...rest], otherTurns] = found;
  if (first === undefined) return conversation;
  return { ...conversation, turns: [...conversation.turns.slice(0, index), { ...first, otherTurns }, ...rest] };
}

/** Turns as they are kept as one version among others: these stand beside them, not in them. */
function alone(tail: Turn[]): Turn[] {
  return tail.map((turn, place) => (place === 0 ? { ...turn, otherTurns: none() } : turn));
}

/** The conversation with one answer changed; no change when that turn or model is not there any more. */
export function withAnswer(conversation: Conversation, index: number, lane: number, answer: Answer | null): Conversation {
  return changed(conversation, index, lane, (turn) => ({ ...turn, answers: turn.answers.with(lane, answer) }), Date.now());
}

/** The conversation with room for one more version of an answer; one in which nothing was said is not kept. */
export function answerAgain(conversation: Conversation, index: number, lane: number): Conversation {
  return changed(conversation, index, lane, (turn) => {
    const shown = turn.answers[lane] ?? null;
    const others = turn.otherAnswers[lane] ?? none();
    const room = shown === null || isEmpty(shown) ? { ...others, place: others.rest.length } : behind(others, shown);
    return { ...turn, answers: turn.answers.with(lane, null), otherAnswers: turn.otherAnswers.with(lane, room) };
  });
}

/** The conversation with another version of an answer on the screen; the one it replaces is kept if it says anything. */
export function showAnswer(conversation: Conversation, index: number, lane: number, place: number): Conversation {
  return changed(conversation, index, lane, (turn) => {
    const shown = turn.answers[lane] ?? null;
    const found = swapped(turn.otherAnswers[lane] ?? none<Answer>(), shown === null || isEmpty(shown) ? null : shown, place);
    if (found === null) return turn;
    const [answer, others] = found;
    return { ...turn, answers: turn.answers.with(lane, answer), otherAnswers: turn.otherAnswers.with(lane, others) };
  });
}

/** The conversation without an answer that came to nothing: the version before it is shown, if there is one. */
export function withoutAnswer(conversation: Conversation, index: number, lane: number): Conversation {
  const others = conversation.turns[index]?.otherAnswers[lane] ?? none<Answer>();
  const empty = withAnswer(conversation, index, lane, null);
  return others.rest.length === 0 ? empty : showAnswer(empty, index, lane, Math.max(0, others.place - 1));
}

function isEmpty({ text, reasoning, calls }: Answer): boolean {
  return text === "" && reasoning === "" && calls.length === 0;
}

/** Whether the model can go on with an answer: it was cut off or stopped in its text. */
export function canContinue({ text, calls, state, cut }: Answer): boolean {
  return text.trim() !== "" && calls.length === 0 && (state === "stopped" || state === "failed" || (state === "done" && cut));
}

function changed(
  conversation: Conversation,
  index: number,
  lane: number,
  change: (turn: Turn) => Turn,
  updated = conversation.updated,
): Conversation {
  const turn = conversation.turns[index];
  if (turn === undefined) return conversation;
  // A second model that was closed meanwhile keeps its answers for when it comes back.
  const lanes = Math.max(conversation.models.length, turn.answers.length, lane + 1);
  const places = Array.from({ length: lanes }, (_, place) => place);
  const full = {
    ...turn,
    answers: places.map((place) => turn.answers[place] ?? null),
    otherAnswers: places.map((place) => turn.otherAnswers[place] ?? none<Answer>()),
  };
  return { ...conversation, updated, turns: conversation.turns.with(index, change(full)) };
}

/** The conversation as it is when nobody is answering: a stream whose page was closed is an answer that stopped. */
export function settled(conversation: Conversation): Conversation {
  return { ...conversation, turns: conversation.turns.map(settledTurn) };
}

function settledTurn(turn: Turn): Turn {
  const others = (one: Others<Answer>) => ({ ...one, rest: one.rest.map(settledAnswer) });
  return {
    ...turn,
    answers: turn.answers.map((answer) => answer && settledAnswer(answer)),
    otherAnswers: turn.otherAnswers.map(others),
    otherTurns: { ...turn.otherTurns, rest: turn.otherTurns.rest.map((tail) => tail.map(settledTurn)) },
  };
}

function settledAnswer(answer: Answer): Answer {
  if (answer.state !== "streaming") return answer;
  return { ...answer, state: "stopped", note: "The page was closed before the answer was complete." };
}
