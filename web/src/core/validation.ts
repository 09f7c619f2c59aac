/** Reads conversations out of files and storage, which anybody may have changed. */

import type { Answer, Conversation, Settings, Turn } from "./conversation.ts";

/** The conversation in a parsed JSON value, or null where there is none. */
export function conversationFrom(value: unknown): Conversation | null {
  if (!isObject(value) || typeof value.id !== "string" || !/^[0-9a-f]{16}$/.test(value.id)) return null;
  if (!Array.isArray(value.models) || !Array.isArray(value.turns)) return null;
  const models = value.models.filter((name) => typeof name === "string").slice(0, 2);
  return {
    id: value.id,
    created: number(value.created) ?? 0,
    updated: number(value.updated) ?? 0,
    models: models.length > 0 ? models : [""],
    settings: settingsFrom(value.settings),
    turns: value.turns.flatMap(turnFrom),
  };
}

function turnFrom(value: unknown): Turn[] {
  if (!isObject(value) || typeof value.question !== "string") return [];
  const answers = Array.isArray(value.answers) ? value.answers : [];
  return [{ question: value.question, answers: answers.slice(0, 2).map(answerFrom) }];
}

function answerFrom(value: unknown): Answer | null {
  if (!isObject(value) || typeof value.text !== "string") return null;
  const state = (["streaming", "stopped", "failed"] as const).find((known) => known === value.state) ?? "done";
  return {
    model: text(value.model),
    text: value.text,
    state,
    note: text(value.note),
    tokens: number(value.tokens),
    firstSeconds: number(value.firstSeconds),
    seconds: number(value.seconds),
  };
}

/** Settings within the limits of the API; what is not is left to the server. */
export function settingsFrom(value: unknown): Settings {
  const given = isObject(value) ? value : {};
  return {
    system: text(given.system),
    temperature: within(number(given.temperature), 0, 2),
    topP: within(number(given.topP), 0.01, 1),
    maxTokens: within(number(given.maxTokens), 1, 1_000_000),
  };
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null;
}

function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}

function number(value: unknown): number | null {
  return typeof value === "number" && Number.isFinite(value) ? value : null;
}

function within(value: number | null, least: number, most: number): number | null {
  return value !== null && value >= least && value <= most ? value : null;
}
