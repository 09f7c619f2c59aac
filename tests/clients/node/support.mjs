// Where the API is, and what is asked for.
import { z } from "zod";

const served = JSON.parse(process.env.VICUNA_SERVED);
export const apiKey = "none";

/** The model that is asked for text. */
export const { model, base_url: baseURL, dimensions } = served.speaker;

/** The model that is asked for calls and objects, and how it is made to call the tool that a question names. */
export const actor = { model: served.actor.model, baseURL: served.actor.base_url, first: served.actor.first };
export const trained = actor.model === "trained";
export const alone = { skip: trained && "SmolLM2 calls again and again where it may, and never two tools at once" };

/** An object or a call of SmolLM2's fits in: clients raise where one is cut. */
export const room = 200;
export const question = "What is the weather in Paris?";
export const City = z.object({ city: z.string().max(24), capital: z.boolean() });
export const Where = z.object({ city: z.string().max(24) });

/** Joins what comes out of a stream. */
export async function joined(stream, text = (piece) => piece) {
  let all = "";
  for await (const piece of stream) all += text(piece) ?? "";
  return all;
}
