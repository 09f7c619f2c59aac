// The official client.
import assert from "node:assert/strict";
import { test } from "node:test";

import OpenAI, { NotFoundError } from "openai";

import { apiKey, baseURL, joined, model, refused } from "./support.mjs";

const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
const messages = [{ role: "user", content: "Hi" }];
const asked = { model, messages, max_tokens: 8, temperature: 0 };
const tools = [{ type: "function", function: { name: "w", parameters: { type: "object", properties: {} } } }];

test("chat, stream and its helper say the same", async () => {
  const whole = (await client.chat.completions.create(asked)).choices[0].message.content;
  const stream = await client.chat.completions.create({ ...asked, stream: true });
  assert.equal(await joined(stream, (piece) => piece.choices[0]?.delta?.content), whole);
  assert.equal(await client.chat.completions.stream(asked).finalContent(), whole);
});

test("usage comes last where it is asked for", async () => {
  const options = { ...asked, stream: true, stream_options: { include_usage: true } };
  const pieces = [];
  for await (const piece of await client.chat.completions.create(options)) pieces.push(piece);
  assert.equal(pieces.at(-1).usage.completion_tokens, 8);
});

test("a stream is left", async () => {
  const stream = await client.chat.completions.create({ model, messages, stream: true });
  for await (const _ of stream) {
    stream.controller.abort();
    break;
  }
});

test("embeddings", async () => {
  const { data } = await client.embeddings.create({ model, input: ["a", "b"] });
  assert.deepEqual(data.map(({ embedding }) => embedding.length), [32, 32]);
});

test("an error is of the client's own kind", async () => {
  const unknown = client.chat.completions.create({ ...asked, model: "nope" });
  await assert.rejects(unknown, (error) => error instanceof NotFoundError && error.code === "model_not_found");
});

test("responses, whole and streamed", async () => {
  const ask = { model, input: "Hi", max_output_tokens: 8, temperature: 0 };
  const whole = await client.responses.create(ask);
  const pieces = [];
  for await (const event of await client.responses.create({ ...ask, stream: true })) pieces.push(event);
  assert.equal(pieces.at(-1).response.output[0].content[0].text, whole.output_text);
  assert.equal(whole.usage.output_tokens, 8);
});

test("tools and forms are refused", async () => {
  await refused("tools", client.chat.completions.create({ ...asked, tools }));
  await refused("response_format", client.chat.completions.create({ ...asked, response_format: { type: "json_object" } }));
});
