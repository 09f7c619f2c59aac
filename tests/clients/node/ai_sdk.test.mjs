// The AI SDK with its two providers.
import assert from "node:assert/strict";
import { test } from "node:test";

import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, embedMany, generateObject, generateText, streamText, tool } from "ai";

import { City, apiKey, baseURL, joined, model, refused } from "./support.mjs";

const compatible = createOpenAICompatible({ name: "vicuna", baseURL, apiKey, includeUsage: true });
const official = createOpenAI({ baseURL, apiKey });
const asked = { prompt: "Hi", maxOutputTokens: 8, temperature: 0, maxRetries: 0 };
const weather = tool({ description: "weather", inputSchema: City, execute: async () => "sunny" });

test("text, stream and usage", async () => {
  const { text } = await generateText({ model: compatible(model), ...asked });
  const stream = streamText({ model: compatible(model), ...asked });
  assert.equal(await joined(stream.textStream), text);
  assert.equal((await stream.usage).outputTokens, 8);
});

test("completions, and chats by the official provider", async () => {
  assert.ok((await generateText({ model: compatible.completionModel(model), ...asked })).text);
  assert.ok((await generateText({ model: official.chat(model), ...asked })).text);
});

test("embeddings", async () => {
  const { embeddings } = await embedMany({ model: compatible.embeddingModel(model), values: ["a", "b"], maxRetries: 0 });
  assert.deepEqual(embeddings.map((one) => one.length), [32, 32]);
});

test("an error has its status", async () => {
  const unknown = generateText({ model: compatible("nope"), ...asked });
  await assert.rejects(unknown, (error) => APICallError.isInstance(error) && error.statusCode === 404);
});

test("responses, by the official provider", async () => {
  const { text, usage } = await generateText({ model: official(model), ...asked });
  const stream = streamText({ model: official(model), ...asked });
  assert.equal(await joined(stream.textStream), text);
  assert.equal(usage.outputTokens, 8);
});

test("tools and forms are refused", async () => {
  await refused("tools", generateText({ model: compatible(model), ...asked, tools: { weather } }));
  await refused("response_format", generateObject({ model: compatible(model), ...asked, schema: City }));
});
