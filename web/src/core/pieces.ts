/** The events of a chat's stream. Pure. */

import type { CallPiece } from "./calls.ts";
import { asSentence, fieldOf, Problem } from "./problem.ts";

/** What a stream brings: text, thoughts, calls of tools, the reason why it ended, numbers of tokens. */
export type Piece =
  | { text: string }
  | { reasoning: string }
  | { call: CallPiece }
  | { finish: string }
  | { tokens: number; contextTokens: number | null };

/** Reads one event: a chunk of the answer, or the error that ends it, which is thrown as a Problem. */
export function* piecesOf(data: string): Generator<Piece> {
  let event: Chunk;
  try {
    event = JSON.parse(data) as Chunk;
  } catch {
    throw new Problem("The server sent what cannot be read. Try again.");
  }
  if (event.error !== undefined) {
    const said = fieldOf(event, "message");
    throw new Problem(`The server broke off.${said === "" ? "" : ` ${asSentence(said)}`}`);
  }
  const choice = event.choices?.[0];
  const delta = choice?.delta ?? {};
  // vLLM and OpenRouter say `reasoning`, DeepSeek and SGLang `reasoning_content`; some say both, with the same text.
  const reasoning = text(delta.reasoning) || text(delta.reasoning_content);
  if (reasoning !== "") yield { reasoning };
  if (text(delta.content) !== "") yield { text: text(delta.content) };
  for (const call of Array.isArray(delta.tool_calls) ? delta.tool_calls : []) yield { call: callIn(call) };
  if (typeof choice?.finish_reason === "string") yield { finish: choice.finish_reason };
  const { completion_tokens: tokens, prompt_tokens: promptTokens } = event.usage ?? {};
  if (typeof tokens === "number") yield { tokens, contextTokens: typeof promptTokens === "number" ? promptTokens + tokens : null };
}

function callIn(call: CallDelta | null): CallPiece {
  const index = typeof call?.index === "number" ? call.index : 0;
  return { index, name: text(call?.function?.name), arguments: text(call?.function?.arguments) };
}

function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}

interface Chunk {
  error?: unknown;
  choices?: { delta?: Delta; finish_reason?: unknown }[];
  usage?: { completion_tokens?: unknown; prompt_tokens?: unknown } | null;
}

interface Delta {
  content?: unknown;
  reasoning?: unknown;
  reasoning_content?: unknown;
  tool_calls?: (CallDelta | null)[];
}

interface CallDelta {
  index?: unknown;
  function?: { name?: unknown; arguments?: unknown } | null;
}
