// The official client.
import assert from "node:assert/strict";
import { test } from "node:test";

import OpenAI, { NotFoundError } from "openai";
import { zodFunction, zodResponseFormat, zodTextFormat } from "openai/helpers/zod";

import { City, Where, actor as acting, alone, apiKey, baseURL, dimensions, joined, model, question, room, trained } from "./support.mjs";

const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
const messages = [{ role: "user", content: "Hi" }];
const asked = { model, messages, max_tokens: 8, temperature: 0 };
const actor = new OpenAI({ baseURL: acting.baseURL, apiKey, maxRetries: 0 });
const greedy = { model: acting.model, max_tokens: room, temperature: 0 };
const wanted = { ...greedy, messages: [{ role: "user", content: question }] };
const weather = zodFunction({ name: "weather", parameters: Where, function: async () => "sunny" });

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
  assert.deepEqual(data.map(({ embedding }) => embedding.length), [dimensions, dimensions]);
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

test("a tool is called, whole and in pieces, where it may or must be", async () => {
  const call = { ...wanted, tools: [weather], ...acting.first };
  const [whole] = (await actor.chat.completions.parse(call)).choices[0].message.tool_calls;
  assert.deepEqual(Where.parse(whole.function.parsed_arguments), whole.function.parsed_arguments);
  const stream = actor.chat.completions.stream(call);
  assert.equal((await stream.finalFunctionToolCall()).arguments, whole.function.arguments);
  const none = await actor.chat.completions.create({ ...call, tool_choice: "none", max_tokens: 16 });
  assert.equal(none.choices[0].message.tool_calls, undefined);
  const messages = [{ role: "user", content: "Hello" }];
  const forced = await actor.chat.completions.create({ ...call, messages, tool_choice: "required" });
  assert.equal(forced.choices[0].finish_reason, "tool_calls");
});

test("its helper runs the tool and gets an answer", alone, async () => {
  const call = { ...wanted, tools: [weather], ...acting.first };
  const runner = actor.chat.completions.runTools(call, { maxChatCompletions: 4 });
  assert.match(await runner.finalContent(), /sunny/);
});

test("answers of a schema", async () => {
  const call = { ...greedy, messages, response_format: zodResponseFormat(City, "city") };
  const { parsed } = (await actor.chat.completions.parse(call)).choices[0].message;
  assert.deepEqual(City.parse(parsed), parsed);
  const free = await actor.chat.completions.create({ ...call, response_format: { type: "json_object" } });
  assert.equal(typeof JSON.parse(free.choices[0].message.content), "object");
});

test("responses with a tool, and of a schema beside it", async () => {
  const parameters = { type: "object", properties: { city: { type: "string", maxLength: 24 } }, required: ["city"] };
  const tools = [{ type: "function", name: "weather", strict: false, parameters }];
  const asked = { model: acting.model, max_output_tokens: room, temperature: 0, tools };
  const stream = actor.responses.stream({ ...asked, input: question, ...acting.first });
  const [call] = (await stream.finalResponse()).output;
  assert.deepEqual([call.type, call.name, Object.keys(JSON.parse(call.arguments))], ["function_call", "weather", ["city"]]);
  const format = zodTextFormat(City, "city");
  const tool_choice = trained ? "none" : "auto"; // SmolLM2 calls wherever it may
  const whole = await actor.responses.parse({ ...asked, tool_choice, input: "Hello", text: { format } });
  assert.deepEqual(City.parse(whole.output_parsed), whole.output_parsed);
});
