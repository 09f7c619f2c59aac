// What needs no browser: reading streams, problems as sentences, addresses.
import assert from "node:assert/strict";
import { test } from "node:test";

import { source } from "./support.mjs";

const { EventParser } = await source("core/sse.ts");
const { problemOf, retryAfter } = await source("core/problem.ts");
const { decodeEntities } = await source("markdown/entities.ts");
const { safeAddress } = await source("markdown/address.ts");

test("events are the same however the text is cut", () => {
  const text = ': comment\r\n\r\ndata: {"a":1}\r\n\r\nevent: x\ndata:two\ndata:  lines\n\nid: 3\n\ndata\n\n: c\rdata: é\r\rdata: lost';
  const wanted = ['{"a":1}', "two\n lines", "", "é"];
  for (let size = 1; size <= text.length; size += 1) {
    const parser = new EventParser();
    const found = [];
    for (let at = 0; at < text.length; at += size) found.push(...parser.push(text.slice(at, at + size)));
    assert.deepEqual(found, wanted, `pieces of ${size}`);
  }
});

test("a refusal becomes a sentence with a next step", async () => {
  const refusal = (status, body, headers = {}) => problemOf(new Response(body, { status, headers }));
  const body = JSON.stringify({ error: { message: "10 requests a minute are allowed" } });
  const limited = await refusal(429, body, { "retry-after": "12" });
  assert.match(limited.message, /10 requests a minute are allowed\. Try again in 12 seconds\.$/);
  assert.equal(limited.retryAfter, 12);
  for (const status of [400, 401, 403, 404, 408, 413, 429, 500, 502, 503, 504]) {
    for (const odd of ["", "<html>", "[]", "null", '{"error":"x"}', '{"error":{"message":5}}']) {
      const { message } = await refusal(status, odd);
      assert.match(message, /^[A-Z].*\.$/, `${status} ${odd}`);
      assert.doesNotMatch(message, /undefined|null|object|<html>/);
    }
  }
});

test("Retry-After is seconds or a date", () => {
  const now = Date.parse("2030-01-01T00:00:00Z");
  assert.equal(retryAfter("7", now), 7);
  assert.equal(retryAfter("0", now), 1);
  assert.equal(retryAfter("Tue, 01 Jan 2030 00:00:30 GMT", now), 30);
  assert.equal(retryAfter("Mon, 31 Dec 2029 00:00:30 GMT", now), 1);
  for (const none of [null, "", "soon"]) assert.equal(retryAfter(none, now), null);
});

test("only the web and mail can be linked", () => {
  assert.equal(safeAddress("https://example.org/a?b=c&amp;d"), "https://example.org/a?b=c&d");
  assert.equal(safeAddress("mailto:a@example.org"), "mailto:a@example.org");
  const refused = ["javascript:alert(1)", "JaVaScRiPt:alert(1)", "java\nscript:alert(1)", "&#106;avascript:alert(1)"];
  refused.push("javascript&colon;alert(1)", "\u0001javascript:alert(1)", "data:text/html,x", "blob:x", "file:///etc/passwd");
  for (const address of [...refused, "/v1/models", "//example.org", "?a", "vbscript:x", ""]) {
    assert.equal(safeAddress(address), null, address);
  }
});

test("character references", () => {
  assert.equal(decodeEntities("a &lt;b&gt; &amp;amp; &#233;&#xe9; &nope; &constructor; & &#0;"), "a <b> &amp; éé &nope; &constructor; & \ufffd");
});
