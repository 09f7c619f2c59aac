// Where the API is, and what its refusals say.
import assert from "node:assert/strict";

import { z } from "zod";

export const model = process.env.VICUNA_MODEL;
export const baseURL = process.env.VICUNA_BASE_URL;
export const apiKey = "none";
export const City = z.object({ city: z.string() });

const TOLD = {
  tools: "tools: not supported by this server",
  response_format: "response_format: only text is supported by this server",
};

/** Expects a promise to fail with the server's sentence about what it does not do. */
export async function refused(what, promise) {
  await assert.rejects(promise, ({ message }) => {
    assert.ok(message.includes(TOLD[what]), message);
    return true;
  });
}

/** Joins what comes out of a stream. */
export async function joined(stream, text = (piece) => piece) {
  let all = "";
  for await (const piece of stream) all += text(piece) ?? "";
  return all;
}
