// LangChain of JavaScript.
import assert from "node:assert/strict";
import { test } from "node:test";

import { ChatOpenAI, OpenAIEmbeddings } from "@langchain/openai";

import { City, apiKey, baseURL, joined, model, refused } from "./support.mjs";

const configuration = { baseURL };
const chat = new ChatOpenAI({ model, apiKey, configuration, maxTokens: 8, temperature: 0, maxRetries: 0 });
const tools = [{ type: "function", function: { name: "w", parameters: { type: "object", properties: {} } } }];

test("chat, stream and usage", async () => {
  const whole = await chat.invoke("Hi");
  assert.equal(whole.usage_metadata.output_tokens, 8);
  assert.equal(await joined(await chat.stream("Hi"), (piece) => piece.content), whole.content);
});

test("embeddings", async () => {
  const embedder = new OpenAIEmbeddings({ model, apiKey, configuration, maxRetries: 0 });
  assert.deepEqual((await embedder.embedDocuments(["a", "b"])).map((one) => one.length), [32, 32]);
});

test("tools and forms are refused", async () => {
  await refused("tools", chat.bindTools(tools).invoke("Weather?"));
  await assert.rejects(chat.withStructuredOutput(City).invoke("Capital?"), /not supported|only text is supported/);
});
