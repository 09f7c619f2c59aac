/** The two requests of OpenAI's API that the page makes. Addresses are relative, so that any path prefix works. */

import { modelsIn, type Model } from "./models.ts";
import { piecesOf, type Piece } from "./pieces.ts";
import { Problem, problemOf } from "./problem.ts";
import { events } from "./sse.ts";

export interface Message {
  role: "system" | "user" | "assistant";
  content: string;
}

/** Body of a chat request; what is null is left to the server. */
export interface ChatRequest extends Record<string, unknown> {
  model: string;
  messages: Message[];
}

/** Servers send a comment every 15 s; after so many seconds without a byte the connection counts as lost. */
const SILENCE_SECONDS = 60;

const UNREACHABLE = "The server cannot be reached. Check your connection, then try again.";
const BROKEN_OFF = "The connection was lost before the answer was complete.";

/** The models that the key may use. Throws Problem. */
export async function listModels(key: string | null): Promise<Model[]> {
  const response = await request("v1/models", key, {});
  const models = modelsIn(await response.json().catch(() => null));
  if (models === null) throw new Problem("What answers here is no OpenAI-compatible server.");
  return models;
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
      for (const piece of piecesOf(data)) {
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
