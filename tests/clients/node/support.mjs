// Where the API is, and what is asked for.
import { z } from "zod";

export const model = process.env.VICUNA_MODEL;
export const baseURL = process.env.VICUNA_BASE_URL;
export const apiKey = "none";

/** The model that calls a tool whose name is in the question, and keeps to a schema. */
export const scripted = { model: process.env.VICUNA_SCRIPTED_MODEL, baseURL: process.env.VICUNA_SCRIPTED_BASE_URL };
export const question = "What is the weather in Paris?";
export const City = z.object({ city: z.string(), capital: z.boolean() });
export const Where = z.object({ city: z.string() });

/** Joins what comes out of a stream. */
export async function joined(stream, text = (piece) => piece) {
  let all = "";
  for await (const piece of stream) all += text(piece) ?? "";
  return all;
}
