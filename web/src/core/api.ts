/** The two requests of OpenAI's API that the page makes. Addresses are relative, so that any path prefix works. */

import { asSentence, fieldOf, Problem, problemOf } from "./problem.ts";
import { events } from "./sse.ts";

/** One entry of the list of models; its state where the server says one: a word, and a sentence about it. */
export interface Model {
  id: string;
  ready: boolean | null;
  reason: string;
  message: string;
}

export interface Message {
  role: "system" | "user" | "assistant";
  content: string;
}

/** Body of a chat request; what is null is left to the server. */
export interface ChatRequest {
  model: string;
  messages: Message[];
  temperature: number | null;
  top_p: number | null;
  max_tokens: number | null;
}

/** What a stream brings: text, the reason why it ended, the number of tokens. */
export type Piece = { text: string } | { finish: string } | { tokens: number };

/** Servers send a comment every 15 s; after so many seconds without a byte the connection counts as lost. */
const SILENCE_SECONDS = 60;

const UNREACHABLE = "The server cannot be reached. Check your connection, then try again.";
const BROKEN_OFF = "The connection was lost before the answer was complete.";

/** The models that the key may use. Throws Problem. */
export async function listModels(key: string | null): Promise<Model[]> {
  const response = await request("v1/models", key, {});
  const body: unknown = await response.json().catch(() => null);
  const data = typeof body === "object" && body !== null && "data" in body ? body.data : null;
  if (!Array.isArray(data)) throw new Problem("What answers here is no OpenAI-compatible server.");
  return data.flatMap((entry: Record<string, unknown> | null) => {
    if (typeof entry?.id !== "string") return [];
    const ready = typeof entry.status === "string" ? entry.status === "ready" : null;
    const text = (value: unknown) => (typeof value === "string" ? value : "");
    return [{ id: entry.id, ready, reason: text(entry.reason), message: text(entry.message) }];
  });
}

/** Streams an answer. Throws Problem; leaving the loop, or the signal, stops the server's work. */
export async function* streamChat(chat: ChatRequest, key: string | null, signal: AbortSignal): AsyncGenerator<Piece> {
  const silence = new AbortController();
  const either = AbortSignal.any([signal, silence.signal]);
  const given = Object.entries(chat).filter(([, value]) => value !== null);
  const body = JSON.stringify({ ...Object.fromEntries(given), stream: true, stream_options: { include_usage: true } });
  const response = await request("v1/chat/completions", key, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body,
    signal: either,
  });
  if (response.body === null) throw new Problem(BROKEN_OFF);
  let timer: ReturnType<typeof setTimeout> | undefined;
  const alive = () => {
    clearTimeout(timer);
    timer = setTimeout(() => silence.abort(), SILENCE_SECONDS * 1000);
  };
  alive();
  let finished = false;
  try {
    for await (const data of events(response.body, alive)) {
      if (data === "[DONE]") return;
      for (const piece of pieces(data)) {
        finished ||= "finish" in piece;
        yield piece;
      }
    }
  } catch (error) {
    if (error instanceof Problem || signal.aborted) throw error;
    throw new Problem(BROKEN_OFF);
  } finally {
    clearTimeout(timer);
  }
  if (!finished) throw new Problem(BROKEN_OFF);
}

async function request(path: string, key: string | null, init: RequestInit): Promise<Response> {
  const headers = new Headers(init.headers);
  if (key !== null) headers.set("authorization", `Bearer ${key}`);
  let response: Response;
  try {
    response = await fetch(path, { ...init, headers, cache: "no-store" });
  } catch (error) {
    if (init.signal?.aborted) throw error;
    throw new Problem(UNREACHABLE);
  }
  if (!response.ok) throw await problemOf(response);
  return response;
}

/** Reads one event: a chunk of the answer, or the error that ends it. */
function* pieces(data: string): Generator<Piece> {
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
  if (typeof choice?.delta?.content === "string" && choice.delta.content !== "") yield { text: choice.delta.content };
  if (typeof choice?.finish_reason === "string") yield { finish: choice.finish_reason };
  if (typeof event.usage?.completion_tokens === "number") yield { tokens: event.usage.completion_tokens };
}

interface Chunk {
  error?: unknown;
  choices?: { delta?: { content?: unknown }; finish_reason?: unknown }[];
  usage?: { completion_tokens?: unknown } | null;
}
