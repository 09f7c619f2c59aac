/** What the page and its workers say to each other. A worker first says `READY`, then answers one question at a time. */

import type { Span } from "../markdown/highlight.ts";
import type { Lexed } from "../markdown/lex.ts";
import type { MathTree } from "../math/typeset.ts";

/** Another number for every change here: a page may outlive an upgrade of its server, and fetch a newer worker. */
export const READY = "ready 1";

export type TextQuestion =
  | { markdown: string; definitions: (readonly [string, string])[] }
  | { code: string; language: string };
/** To Markdown or to code; null: better shown as it is written. */
export type TextReply = Lexed | Span[] | null;

export type MathQuestion = { tex: string; display: boolean }[];
export type MathReply = (MathTree | null)[];

/** The side of the worker, as far as it is used here; the types of pages do not have it. */
interface Scope {
  onmessage: ((event: { data: unknown }) => void) | null;
  postMessage(message: unknown): void;
}

export function answer<Question, Reply>(reply: (question: Question) => Reply): void {
  const scope = globalThis as unknown as Scope;
  scope.onmessage = ({ data }) => scope.postMessage(reply(data as Question));
  scope.postMessage(READY);
}
