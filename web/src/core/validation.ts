/** Reads conversations out of files and storage, which anybody may have changed, and of earlier pages, which kept less. */

import type { ToolCall } from "./calls.ts";
import type { Answer, Conversation, Turn } from "./conversation.ts";
import { areStops, isWithin, PLAIN, type NumberName, type Settings } from "./settings.ts";
import { splitThinking } from "./thinking.ts";
import { none, type Others } from "./versions.ts";

/** Versions within versions beyond this depth are left out. */
const DEEPEST = 500;
/** What pages before this one wrote under an answer that was cut off, without saying it otherwise. */
const CUT_OFF = "The answer was cut off at the limit of its length.";

/** The conversation in a parsed JSON value, or null where there is none. */
export function conversationFrom(value: unknown): Conversation | null {
  if (!isObject(value) || typeof value.id !== "string" || !/^[0-9a-f]{16}$/.test(value.id)) return null;
  if (!Array.isArray(value.models) || !Array.isArray(value.turns)) return null;
  const models = value.models.filter((name) => typeof name === "string").slice(0, 2);
  return {
    id: value.id,
    title: text(value.title),
    created: number(value.created) ?? 0,
    updated: number(value.updated) ?? 0,
    models: models.length > 0 ? models : [""],
    settings: settingsFrom(value.settings),
    turns: turnsFrom(value.turns, 0),
  };
}

function turnsFrom(value: unknown, depth: number): Turn[] {
  return list(value).flatMap((one) => turnFrom(one, depth));
}

function turnFrom(value: unknown, depth: number): Turn[] {
  if (!isObject(value) || typeof value.question !== "string") return [];
  const tails = (one: unknown) => [turnsFrom(one, depth + 1)].filter((tail) => tail.length > 0);
  return [
    {
      question: value.question,
      answers: list(value.answers).slice(0, 2).map(answerFrom),
      otherAnswers: list(value.otherAnswers).slice(0, 2).map((one) => othersFrom(one, (each) => answerFrom(each) ?? [])),
      otherTurns: depth < DEEPEST ? othersFrom(value.otherTurns, tails) : none(),
    },
  ];
}

function othersFrom<Version>(value: unknown, from: (one: unknown) => Version | Version[]): Others<Version> {
  if (!isObject(value)) return none();
  const rest = list(value.rest).flatMap(from);
  const place = Math.trunc(number(value.place) ?? 0);
  return { place: Math.min(Math.max(place, 0), rest.length), rest };
}

function answerFrom(value: unknown): Answer | null {
  if (!isObject(value) || typeof value.text !== "string") return null;
  const state = (["streaming", "stopped", "failed"] as const).find((known) => known === value.state) ?? "done";
  const split = splitThinking(value.text);
  const said = typeof value.reasoning === "string" ? { reasoning: value.reasoning, text: value.text } : split;
  return {
    model: text(value.model),
    ...said,
    thoughtSeconds: number(value.thoughtSeconds),
    calls: list(value.calls).flatMap(callFrom),
    state,
    note: text(value.note),
    cut: value.cut === undefined ? value.note === CUT_OFF : value.cut === true,
    tokens: number(value.tokens),
    contextTokens: number(value.contextTokens),
    firstSeconds: number(value.firstSeconds),
    seconds: number(value.seconds),
  };
}

function callFrom(value: unknown): ToolCall[] {
  return isObject(value) ? [{ name: text(value.name), arguments: text(value.arguments) }] : [];
}

/** Settings within the limits of the API; what is not is left to the server. */
export function settingsFrom(value: unknown): Settings {
  const given = isObject(value) ? value : {};
  const within = (name: NumberName) => {
    const found = number(given[name]);
    return found !== null && isWithin(name, found) ? found : null;
  };
  const stop = list(given.stop).filter((one) => typeof one === "string");
  return {
    ...PLAIN,
    system: text(given.system),
    temperature: within("temperature"),
    topP: within("topP"),
    maxTokens: within("maxTokens"),
    seed: within("seed"),
    stop: areStops(stop) ? stop : [],
    presencePenalty: within("presencePenalty"),
    frequencyPenalty: within("frequencyPenalty"),
    repetitionPenalty: within("repetitionPenalty"),
  };
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null;
}

function list(value: unknown): unknown[] {
  return Array.isArray(value) ? value : [];
}

function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}

function number(value: unknown): number | null {
  return typeof value === "number" && Number.isFinite(value) ? value : null;
}
