// The AI SDK with its two providers.
import assert from "node:assert/strict";
import { test } from "node:test";

import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, embedMany, generateObject, generateText, stepCountIs, streamObject, streamText, tool } from "ai";
import { z } from "zod";

import { City, Where, actor as acting, alone, apiKey, baseURL, dimensions, joined, model, question, room, trained } from "./support.mjs";

const compatible = createOpenAICompatible({ name: "vicuna", baseURL, apiKey, includeUsage: true });
const official = createOpenAI({ baseURL, apiKey });
const asked = { prompt: "Hi", maxOutputTokens: 8, temperature: 0, maxRetries: 0 };
const weather = tool({ description: "weather", inputSchema: Where, execute: async () => "sunny" });
const clock = tool({ description: "clock", inputSchema: z.object({}), execute: async () => "noon" });

// The model that calls tools, by every provider.
const place = { baseURL: acting.baseURL, apiKey };
const greedy = { maxOutputTokens: room, temperature: 0, maxRetries: 0 };
const theirs = createOpenAI(place);
const ACTORS = {
  compatible: createOpenAICompatible({ name: "vicuna", ...place })(acting.model),
  "compatible, with schemas": createOpenAICompatible({ name: "vicuna", ...place, supportsStructuredOutputs: true })(
    acting.model,
  ),
  "official chat": theirs.chat(acting.model),
  "official responses": theirs(acting.model),
};

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
  assert.deepEqual(embeddings.map((one) => one.length), [dimensions, dimensions]);
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

for (const [name, actor] of Object.entries(ACTORS)) {
  // without a salt the server keeps nothing that a later step could refer to
  const steps = { stopWhen: stepCountIs(4), ...greedy, providerOptions: { openai: { store: false } } };
  const call = { model: actor, prompt: question, tools: { weather }, ...steps };

  test(`a tool is run and its result answered: ${name}`, alone, async () => {
    const whole = await generateText(call);
    assert.deepEqual(whole.steps.map(({ finishReason }) => finishReason), ["tool-calls", "stop"]);
    assert.match(whole.text, /sunny/);
    const stream = streamText(call);
    assert.equal(await joined(stream.textStream), whole.text);
    assert.equal((await stream.steps)[0].toolCalls[0].toolName, "weather");
  });

  test(`two calls of one answer: ${name}`, alone, async () => {
    const both = { ...call, prompt: `${question} What does the clock say?`, tools: { clock, weather } };
    const whole = await generateText(both);
    const stream = streamText(both);
    await joined(stream.textStream);
    for (const [first, second] of [whole.steps, await stream.steps]) {
      assert.deepEqual(first.toolCalls.map(({ toolName }) => toolName), ["weather", "clock"]);
      assert.equal(new Set(first.toolCalls.map(({ toolCallId }) => toolCallId)).size, 2);
      assert.deepEqual(first.toolResults.map(({ output }) => output), ["sunny", "noon"]);
      assert.match(second.text, /noon/);
    }
  });

  test(`a tool that must be called: ${name}`, async () => {
    // SmolLM2 repeats a call where it may
    const one = trained && { openai: { store: false, parallelToolCalls: false }, vicuna: { parallel_tool_calls: false } };
    const forced = { ...call, prompt: "Hello", stopWhen: stepCountIs(1), ...(one && { providerOptions: one }) };
    for (const toolChoice of ["required", { type: "tool", toolName: "weather" }]) {
      const { toolCalls } = await generateText({ ...forced, toolChoice });
      assert.equal(toolCalls.length, 1);
      assert.equal(toolCalls[0].toolName, "weather");
      assert.deepEqual(Where.parse(toolCalls[0].input), toolCalls[0].input);
    }
    const none = await generateText({ ...forced, prompt: question, toolChoice: "none", maxOutputTokens: 16 });
    assert.equal(none.toolCalls.length, 0);
  });

  // without schemas it asks for any object, and the scripted engine's is empty
  const schema = name === "compatible" ? City.partial() : City;
  test(`objects: ${name}`, async () => {
    const { object } = await generateObject({ model: actor, prompt: "Capital?", schema, ...greedy });
    assert.deepEqual(schema.parse(object), object);
    const stream = streamObject({ model: actor, prompt: "Capital?", schema, ...greedy });
    await joined(stream.textStream);
    assert.deepEqual(await stream.object, object);
  });
}
