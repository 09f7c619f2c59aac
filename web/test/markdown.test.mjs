// What Markdown and mathematics become, without a browser: cutting into blocks, reading, setting.
import assert from "node:assert/strict";
import { test } from "node:test";

import { SCENES } from "./scenes.mjs";
import { source } from "./support.mjs";

const { definitionsFor, definitionsIn, split } = await source("markdown/split.ts");
const { Mask, unmask } = await source("markdown/mask.ts");
const { lex } = await source("markdown/lex.ts");
const { formulasIn } = await source("markdown/tree.ts");
const { inPieces } = await source("markdown/plain.tsx");
const { typeset } = await source("math/typeset.ts");

const ALL = Number.POSITIVE_INFINITY;
const blocksOf = (text) => split(text, ALL).blocks.map((block) => block.text.trimEnd());

/** Trees as text that can be compared: `<em>x</em>`, `[$x^2$]` for mathematics, `[$$x$$]` on display. */
function shown(trees) {
  const one = (tree) => {
    if (typeof tree === "string") return tree;
    if ("tex" in tree) return tree.display ? `[$$${tree.tex}$$]` : `[$${tree.tex}$]`;
    if ("code" in tree) return `<pre>${tree.code}</pre>`;
    return `<${tree.tag}>${tree.kids.map(one).join("")}</${tree.tag}>`;
  };
  return trees.map(one).join("");
}
const read = (text, definitions) => shown(lex(text, definitions).trees);
const inParagraph = (text) => /^<p>(.*)<\/p>$/s.exec(read(text))?.[1];

const CUT = {
  "a\n\nb\nc\n\n\nd": ["a", "b\nc", "d"],
  "# a\ntext\n\n> b\n> c\n\n---": ["# a\ntext", "> b\n> c", "---"],
  "a\n```py\nx\n\ny\n```\nb": ["a", "```py\nx\n\ny\n```", "b"],
  "~~~\n```\n~~~\n```\n~~~": ["~~~\n```\n~~~", "```\n~~~"],
  "```a`b`\n\nc": ["```a`b`", "c"],
  "- a\n\n- b\n\n  c\n\n      d\n\ne": ["- a\n\n- b\n\n  c\n\n      d", "e"],
  "Steps:\n1. a\n\n   ```\n   x\n\n   y\n   ```\n\n2. b\n\nend": ["Steps:\n1. a\n\n   ```\n   x\n\n   y\n   ```\n\n2. b", "end"],
  "1. a\n```\nx\n```\n2. b": ["1. a", "```\nx\n```", "2. b"],
  "    a\n\n    b\n\nc": ["    a\n\n    b", "c"],
  "$$\na\n\nb\n$$\n\nc": ["$$\na\n\nb\n$$", "c"],
  "\\[\na\n\nb\n\\]\n\nc": ["\\[\na\n\nb\n\\]", "c"],
  "|a|b|\n|-|-|\n|1|2|\n\nc": ["|a|b|\n|-|-|\n|1|2|", "c"],
};

test("text is cut where nothing that belongs together is torn", () => {
  for (const [text, blocks] of Object.entries(CUT)) assert.deepEqual(blocksOf(text), blocks, text);
  const [block] = split("  ```Python x\n    a\n   b\n\n c\n  ```\n", ALL).blocks;
  assert.deepEqual(block.code, { code: "  a\n b\n\nc", language: "Python" });
  assert.deepEqual(split("```\na", ALL).blocks[0].code, { code: "a", language: "" });
  const long = Array.from({ length: 900 }, (_, at) => `${at + 1}. ${"word ".repeat(5)}`).join("\n\n");
  const blocks = split(long, ALL).blocks;
  assert.ok(blocks.length > 1 && blocks.every(({ text }) => text.length < 9000), "long lists are cut between items");
  assert.equal(lex(blocks[1].text).trees[0].start, Number(/^\d+/.exec(blocks[1].text)[0]), "and go on with their numbers");
});

test("blocks are the same however a text has grown", () => {
  const texts = [Object.keys(CUT).join("\n\n"), Object.keys(CUT).join("\n"), ...Object.values(SCENES).map((make) => make(300))];
  for (const text of texts) {
    for (const size of [1, 2, 3, 7]) {
      let blocks = [];
      for (let at = size; at < text.length; at += size) ({ blocks } = split(text.slice(0, at), ALL, blocks));
      assert.deepEqual(split(text, ALL, blocks), split(text, ALL), `pieces of ${size} of ${JSON.stringify(text.slice(0, 60))}`);
    }
  }
});

test("nothing of a text is lost by cutting it", () => {
  for (const [name, make] of Object.entries(SCENES)) {
    const text = make(5_000);
    let at = 0;
    const { blocks, end } = split(text, 50);
    for (const block of blocks) {
      assert.equal(text.slice(at, block.at).trim(), "", name);
      assert.equal(text.slice(block.at, block.at + block.text.length), block.text, name);
      at = block.at + block.text.length;
    }
    if (blocks.length < 50) assert.equal(text.slice(at).trim(), "", name);
    assert.equal(inPieces(text).join("").replaceAll("\n", ""), text.replaceAll("\n", ""), name);
    assert.ok(end <= text.length && inPieces(text).every(({ length }) => length <= 4_000), name);
  }
});

test("what is taken out of Markdown comes back as it was, in work that grows with the text", () => {
  for (const [name, make] of Object.entries(SCENES)) {
    for (const length of [100, 3_000, 100_000]) {
      const text = make(length);
      const mask = Mask.of(text);
      if (mask === null) continue;
      assert.equal(unmask(mask.text, mask.found), text, name);
      assert.ok(mask.steps <= 6 * text.length + 10, `${name}, ${length}: ${mask.steps} steps`);
    }
  }
});

test("mathematics is what stands between the usual delimiters", () => {
  const maths = {
    "so $x^2\\,dx$.": "so [$x^2\\,dx$].",
    "\\(a^2\\) and \\[b_1\\] on": "[$a^2$] and [$$b_1$$] on",
    "$$\\frac{a}{b}$$": "[$$\\frac{a}{b}$$]",
    "$a_1$ and $b_2*c*d$": "[$a_1$] and [$b_2*c*d$]",
    "**bold $x*y*z$** _and $a_b_c$_": "<strong>bold [$x*y*z$]</strong> <em>and [$a_b_c$]</em>",
    "$a<b$ and $c>d$ <b>": "[$a<b$] and [$c>d$] <b>",
    "$\\{x\\}$, $\\$5$, $a\\\\b$": "[$\\{x\\}$], [$\\$5$], [$a\\\\b$]",
    "the $n$th ($x$), $y$-axis": "the [$n$]th ([$x$]), [$y$]-axis",
    "\\(a\n+ b\\)": "[$a\n+ b$]",
    "[$x$](https://example.org/) ![$y$](https://example.org/y)": "<link>[$x$]</link> <link>$y$</link>",
    "[a] \\(x\\)": "[a] [$x$]",
    "5 \\(\\%\\)": "5 [$\\%$]",
    "\\[x\\]": "[$$x$$]",
    "其中$x$是\\(y\\)的\\[z\\]。": "其中[$x$]是[$y$]的[$$z$$]。",
    "價格是$5到$10": "價格是$5到$10",
    "f \\(x\\) and list\\[0\\]": "f [$x$] and list\\[0\\]",
  };
  for (const [text, wanted] of Object.entries(maths)) assert.equal(inParagraph(text), wanted, text);
  assert.equal(read("$$\na\n= b\n- c\n# d\n\n+ e\n$$"), "<p>[$$\na\n= b\n- c\n# d\n\n+ e\n$$]</p>");
  assert.equal(read("> $$\n> x\n> > y\n> $$\n> z"), "<blockquote><p>[$$\nx\n> y\n$$]<br></br>z</p></blockquote>");
  assert.equal(read("1. a\n   \\[\n   x\n\n   y\n   \\]\n2. b").replaceAll(/\s/g, ""), "<ol><li>a<br></br>[$$xy$$]</li><li>b</li></ol>");
  assert.match(read("| $|x|$ | b |\n|---|---|\n| $\\|y\\|$ | $a|b$ |"), /\[\$\|x\|\$\].*\[\$\\\|y\\\|\$\].*\[\$a\|b\$\]/);
  assert.equal(read("a\\\n> $x$"), "<p>a\\</p><blockquote><p>[$x$]</p></blockquote>");
  assert.equal(read("# $x_1$"), "<h3>[$x_1$]</h3>");
});

test("prices, variables and code are no mathematics", () => {
  const same = [
    "$5 and $10", "$5, $10, and $1,000", "$5-$10", "from $5/$6 to $.50/$.75", "US$5/US$6", "10$ or 20$", "a $ b $ c", "$", "$$",
    "$HOME/$USER", "$foo and $bar", "$foo,$bar", "$ x$", "$x $", "cost: $5.", "from $$ to $$$", "\\(", "\\[", "\\( \\)", "$$ $$",
    "\\(a\n\nb\\)", "x^2\\,dx", "5\\%", "\\alpha \\; \\! \\{ \\} \\: \\&", "C:\\new\\_x", "C:\\Users\\*", "\\\\server\\share\\_x", "\\)", "\\]",
    "a \\\\ b", "\\\\(x\\\\)",
  ];
  for (const text of same.filter((one) => !one.includes("\n\n"))) assert.equal(inParagraph(text), text, text);
  for (const text of same) assert.deepEqual(formulasIn(lex(text).trees), [], text);
  const code = ["`$x$`", "`` \\(x\\) ``", "`a $x` and `y$`", "```\n$x$\n```", "- ```\n  \\[x\\]\n  ```", "    $x$", "> ```\n> $$\n> x\n> $$\n> ```", "$a `b$ c`"];
  for (const text of code) assert.deepEqual(formulasIn(lex(text).trees), [], text);
  assert.equal(read("`$x$` and `\\(y\\)`"), "<p><code>$x$</code> and <code>\\(y\\)</code></p>");
  assert.equal(read("    $x$ \\(y\\) C:\\_x"), "<pre>$x$ \\(y\\) C:\\_x</pre>");
  assert.equal(inParagraph("https://example.org/?a=$b$&c=$d$"), "<link>https://example.org/?a=$b$&c=$d$</link>");
  assert.equal(lex("[a](https://example.org/$x$/C:\\_y)").trees[0].kids[0].href, "https://example.org/$x$/C:\\_y");
});

test("a backslash is kept but where it keeps Markdown away", () => {
  assert.equal(inParagraph("\\*a\\* snake\\_case \\`x\\` \\$5 and \\$6 1\\. \\# \\| \\<b>"), "*a* snake_case `x` $5 and $6 1. # | <b>");
  assert.equal(inParagraph("\\[a\\](b)"), "\\[a\\](b)");
  assert.equal(inParagraph("\ue000 \uf8ff $x$"), "\ue000 \uf8ff [$x$]");
  for (const code of ["xe000", "XF8FF", "x00e001", "57344", "063743", "58000"]) {
    assert.equal(inParagraph(`&#${code}; $x$ $y$`), `&#${code}; [$x$] [$y$]`);
  }
  assert.equal(inParagraph("&#233; &#57343; &#63744; &amp;"), "é \ufffd \uf900 &");
});

test("links are found where their address stands in another block", () => {
  const { blocks } = split("[a][One] and [two], [three]\n\ntext\n\n[one]: https://one.example\n[Two]: <https://two.example> 'title'\n[c]: not an address at all", ALL);
  const all = definitionsIn(blocks);
  assert.deepEqual([...all], [["one", "https://one.example"], ["two", "https://two.example"]]);
  const own = definitionsFor(blocks[0], all);
  assert.equal(read(blocks[0].text, own), "<p><link>a</link> and <link>two</link>, [three]</p>");
  assert.deepEqual(definitionsFor(blocks[1], all), []);
  const flood = split(SCENES.definitions(100_000), ALL).blocks;
  assert.equal(definitionsIn(flood).size, 100);
});

test("how much can come of one block is bounded", () => {
  for (const text of [SCENES["list of one letter"](16_000), SCENES["list and code"](8_000), "a\n".repeat(4_001)]) {
    assert.equal(lex(text), null);
  }
  // A table of 100 x 400 cells would come of 1 000 characters; it stays text.
  const table = `${"|a".repeat(100)}|\n${"|-".repeat(100)}|\n${"|\n".repeat(400)}`;
  assert.doesNotMatch(read(table), /<table>/);
});

/** MathML as text. */
function written(tree) {
  if (typeof tree === "string") return tree;
  const attributes = Object.entries(tree.attributes).map(([name, value]) => ` ${name}="${value}"`);
  return `<${tree.tag}${attributes.join("")}>${tree.kids.map(written).join("")}</${tree.tag}>`;
}
const inner = (tex, display = false) => /^<math[^>]*>(?:<mrow>)?(.*?)(?:<\/mrow>)?<\/math>$/s.exec(written(typeset(tex, display)))[1];

test("TeX becomes MathML that browsers know", () => {
  assert.equal(written(typeset("x^2", false)), "<math><mrow><msup><mi>x</mi><mn>2</mn></msup></mrow></math>");
  assert.match(written(typeset("x", true)), /^<math display="block">/);
  assert.equal(inner("\\mathbb{R}\\mathcal{L}\\mathfrak{g}\\mathbf{x}\\mathrm{d}"), '<mi>ℝ</mi><mi>ℒ</mi><mi>𝔤</mi><mi>𝐱</mi><mi mathvariant="normal">d</mi>');
  assert.equal(inner("\\bm{\\alpha}\\mathbf{7}\\mathtt{z}\\mathsf{Z}"), "<mi>𝜶</mi><mn>𝟕</mn><mi>𝚣</mi><mi>𝖹</mi>");
  assert.equal(inner("\\text{é ü \\textbf{a}}"), "<mtext>é</mtext><mtext>\u00a0</mtext><mtext>ü</mtext><mtext>\u00a0</mtext><mtext class='bold'>a</mtext>".replaceAll("'", '"'));
  assert.match(inner("\\begin{aligned}a&=b\\\\&=c\\end{aligned}"), /<mtd class="align-right tight-right">.*<mtd class="align-left tight-right tight-left">/);
  assert.match(inner("\\begin{array}{|c|c|}\\hline a&b\\\\\\hline c&d\\end{array}"), /^<mrow class="enclosed-left enclosed-right enclosed-top">.*class="line-below line-right"/);
  assert.match(inner("x\\tag{7}", true), /<mtable class="numbered">.*class="glue".*\(7\)/);
  assert.match(inner("a\\\\b", true), /<mtr><mtd><mi>a<\/mi><\/mtd><\/mtr><mtr>/);
  assert.match(inner("\\boxed{x}\\cancel{y}"), /enclosed-box.*enclosed-updiagonalstrike/);
  assert.doesNotMatch(inner("\\overset{!}{=}"), /<mo>\s*</, "tokens hold text only");
});

test("TeX that is broken, or would do more than show something, is not set", () => {
  const bad = ["\\frac{a", "}", "\\nope", "x^", "\\begin{x}", "\\href{https://example.org}{x}", "\\url{a}", "\\includegraphics{a}"];
  bad.push("\\htmlStyle{position:fixed}{x}", "\\htmlClass{a}{x}", "\\htmlId{a}{x}", "\\htmlData{a=b}{x}", "\\def\\a{\\a}\\a");
  bad.push("{".repeat(3_000) + "}".repeat(3_000), "x".repeat(5_000), "\\def\\a{xxxxxxxxxx}\\def\\b{\\a\\a\\a\\a\\a\\a\\a\\a\\a\\a}" + "\\b".repeat(60));
  for (const tex of bad) assert.equal(typeset(tex, true), null, tex.slice(0, 60));
  assert.match(inner("\\rule{9999em}{9999em}"), /width="20em" height="20em"/);
  typeset("\\gdef\\x{y}", false);
  assert.equal(typeset("\\x", false), null, "no formula changes another one");
});

test("only elements and attributes of MathML come of TeX", () => {
  const names = new Set();
  const walk = (tree) => {
    if (typeof tree === "string") return;
    for (const name of [tree.tag, ...Object.keys(tree.attributes)]) names.add(name);
    tree.kids.forEach(walk);
  };
  const samples = ["\\fcolorbox{red}{blue}{x}", "\\color{red}x", "\\begin{CD}A@>a>>B\\end{CD}", "\\begin{align}a&=b\\\\c\\tag{1}\\end{align}", "\\left(x\\middle|y\\right]"];
  samples.push("\\raisebox{2em}{x}\\kern-3em", "\\xrightarrow[a]{b}", "\\sqrt[3]{x}", "\\sum\\nolimits_i^n", "\\phase{x}\\angl{n}\\sout{x}", "\\verb|x|", "\\textcolor{#ff0000}{x}");
  for (const tex of samples) walk(typeset(tex, true));
  for (const name of names) assert.match(name, /^(m[a-z]+|class|display|displaystyle|scriptlevel|accent|accentunder|stretchy|fence|separator|[lr]space|(min|max)size|width|height|depth|voffset|linethickness|form|movablelimits|symmetric|largeop)$/, name);
});
