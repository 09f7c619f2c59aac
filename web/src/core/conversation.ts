/** A conversation and what can be done to it. Pure: every function gives a new conversation. */

import type { Message } from "./api.ts";

/** How answers are asked for; null leaves a value to the server. */
export interface Settings {
  system: string;
  temperature: number | null;
  topP: number | null;
  maxTokens: number | null;
}

/** What one model said. `note` is a sentence about how it ended, where that needs one. */
export interface Answer {
  model: string;
  text: string;
  state: "streaming" | "done" | "stopped" | "failed";
  note: string;
  /** Tokens, seconds to the first of them, and seconds to the last. */
  tokens: number | null;
  firstSeconds: number | null;
  seconds: number | null;
}

/** One question and the answers of the models side by side, by their place in `models`. */
export interface Turn {
  question: string;
  answers: (Answer | null)[];
}

export interface Conversation {
  id: string;
  /** Milliseconds since the epoch. */
  created: number;
  updated: number;
  /** One model, or two side by side. */
  models: string[];
  settings: Settings;
  turns: Turn[];
}

export const PLAIN: Settings = { system: "", temperature: null, topP: null, maxTokens: null };

export function newConversation(models: string[], settings: Settings, now = Date.now()): Conversation {
  return { id: newId(), created: now, updated: now, models, settings, turns: [] };
}

/** 16 hex digits. (`crypto.randomUUID` exists over https only; clusters are often reached without.) */
export function newId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(8));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** The start of the first question. */
export function titleOf(conversation: Conversation): string {
  const words = (conversation.turns[0]?.question ?? "").trim().replace(/\s+/g, " ");
  if (words === "") return "New conversation";
  return words.length > 60 ? `${words.slice(0, 59)}…` : words;
}

/** The conversation with another question, not answered yet, at its end. */
export function ask(conversation: Conversation, question: string, now = Date.now()): Conversation {
  const turn = { question, answers: conversation.models.map(() => null) };
  return { ...conversation, updated: now, turns: [...conversation.turns, turn] };
}

/** The conversation with a question replaced; its answers, and whatever came after, are gone. */
export function edit(conversation: Conversation, index: number, question: string): Conversation {
  return ask({ ...conversation, turns: conversation.turns.slice(0, index) }, question);
}

/** The conversation with one answer changed; no change when that turn or model is not there any more. */
export function withAnswer(conversation: Conversation, index: number, lane: number, answer: Answer | null): Conversation {
  const turn = conversation.turns[index];
  if (turn === undefined) return conversation;
  const answers = conversation.models.map((_, place) => turn.answers[place] ?? null);
  // A second model that was closed meanwhile keeps its answers for when it comes back.
  for (let place = answers.length; place < turn.answers.length; place += 1) answers.push(turn.answers[place] ?? null);
  answers[lane] = answer;
  const turns = conversation.turns.map((old, place) => (place === index ? { ...old, answers } : old));
  return { ...conversation, updated: Date.now(), turns };
}

/**
 * What the model at `lane` is sent for the turn at `index`. A turn in which it said nothing is told with the other
 * model's answer, so that a model called in later knows what was said; without any answer the turn is left out.
 */
export function messagesFor(conversation: Conversation, index: number, lane: number): Message[] {
  const messages: Message[] = [];
  const system = conversation.settings.system.trim();
  if (system !== "") messages.push({ role: "system", content: system });
  for (const turn of conversation.turns.slice(0, index)) {
    const own = turn.answers[lane]?.text || turn.answers.find((answer) => answer?.text)?.text;
    if (!own) continue;
    messages.push({ role: "user", content: turn.question }, { role: "assistant", content: own });
  }
  const turn = conversation.turns[index];
  if (turn !== undefined) messages.push({ role: "user", content: turn.question });
  return messages;
}

/** The conversation as it is when nobody is answering: a stream whose page was closed is an answer that stopped. */
export function settled(conversation: Conversation): Conversation {
  const note = "The page was closed before the answer was complete.";
  const turns = conversation.turns.map((turn) => ({
    ...turn,
    answers: turn.answers.map((answer) =>
      answer?.state === "streaming" ? { ...answer, state: "stopped" as const, note } : answer,
    ),
  }));
  return { ...conversation, turns };
}
