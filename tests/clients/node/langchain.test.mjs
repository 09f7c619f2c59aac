// LangChain of JavaScript.
import assert from "node:assert/strict";
import { test } from "node:test";

import { HumanMessage, ToolMessage } from "@langchain/core/messages";
import { ChatOpenAI, OpenAIEmbeddings } from "@langchain/openai";

import { City, actor as acting, apiKey, baseURL, dimensions, joined, model, question, room, trained } from "./support.mjs";

const configuration = { baseURL };
const chat = new ChatOpenAI({ model, apiKey, configuration, maxTokens: 8, temperature: 0, maxRetries: 0 });
const parameters = { type: "object", properties: { city: { type: "string", maxLength: 24 } }, required: ["city"] };
const tools = [{ type: "function", function: { name: "weather", parameters } }];

/** A chat with the model that calls tools. */
const actor = (useResponsesApi) =>
  new ChatOpenAI({
    model: acting.model, apiKey, configuration: { baseURL: acting.baseURL }, maxTokens: room, temperature: 0, maxRetries: 0,
    useResponsesApi,
  });

test("chat, stream and usage", async () => {
  const whole = await chat.invoke("Hi");
  assert.equal(whole.usage_metadata.output_tokens, 8);
  assert.equal(await joined(await chat.stream("Hi"), (piece) => piece.content), whole.content);
});

test("embeddings", async () => {
  const embedder = new OpenAIEmbeddings({ model, apiKey, configuration, maxRetries: 0 });
  assert.deepEqual((await embedder.embedDocuments(["a", "b"])).map((one) => one.length), [dimensions, dimensions]);
});

for (const useResponsesApi of [false, true]) {
  const route = useResponsesApi ? "responses" : "chat";

  test(`a tool and its result, by ${route}`, async () => {
    // by responses it leaves "required" out, and tells the name of a tool
    const subject = actor(useResponsesApi).bindTools(tools, trained ? { tool_choice: "weather" } : acting.first);
    const asked = new HumanMessage(question);
    const called = await subject.invoke([asked]);
    const [call] = called.tool_calls;
    assert.deepEqual([call.name, Object.keys(call.args)], ["weather", ["city"]]);
    let all;
    for await (const piece of await subject.stream([asked])) all = all ? all.concat(piece) : piece;
    assert.deepEqual(all.tool_calls[0].args, call.args);
    const result = new ToolMessage({ content: "sunny", tool_call_id: call.id });
    const free = actor(useResponsesApi).bindTools(tools);
    assert.match((await free.invoke([asked, called, result])).text, /sunny/);
  });

  for (const method of ["jsonSchema", "functionCalling"]) {
    test(`an object with ${method}, by ${route}`, async () => {
      const found = await actor(useResponsesApi).withStructuredOutput(City, { name: "city", method }).invoke("Capital?");
      assert.deepEqual(City.parse(found), found);
    });
  }
}

test("any JSON object", async () => {
  const schema = { type: "object", properties: {} };
  const found = await actor(false).withStructuredOutput(schema, { method: "jsonMode" }).invoke("The capital of France, in json?");
  assert.ok(found instanceof Object);
});
