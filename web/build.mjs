// Builds the page into the Python package that serves it, with the hashes that tell whether it is up to date.
import { createHash } from "node:crypto";
import { copyFile, mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { dirname, join, relative, sep } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

import { build } from "esbuild";

const HERE = dirname(fileURLToPath(import.meta.url));
const TARGET = join(HERE, "../server/vicuna_server/page/static");
// AbortSignal.any and light-dark() came with these.
const BROWSERS = ["chrome123", "firefox124", "safari17.5"];
const MOST_BYTES = 150_000; // over the wire, everything that a first visit fetches
const LATER = ["math.js", "licenses.txt", "build.json"]; // fetched with the first formula, or never by itself
const SOURCES = ["build.mjs", "package.json", "package-lock.json", "tsconfig.json"];

await rm(TARGET, { recursive: true, force: true });
await mkdir(TARGET, { recursive: true });
const options = {
  absWorkingDir: HERE,
  outdir: TARGET,
  bundle: true,
  minify: true,
  target: BROWSERS,
  jsx: "automatic",
  jsxImportSource: "preact",
  legalComments: "none", // licenses.txt has them whole
  metafile: true,
  logLevel: "warning",
};
const results = [
  await build({ ...options, entryPoints: { app: "src/main.tsx" }, format: "esm" }),
  await build({ ...options, entryPoints: { text: "src/workers/text.ts", math: "src/workers/math.ts" }, format: "iife" }),
  await build({ ...options, entryPoints: { app: "src/style/app.css" } }),
];
for (const name of ["index.html", "icon.svg"]) await copyFile(join(HERE, "src", name), join(TARGET, name));
await writeFile(join(TARGET, "licenses.txt"), await licenses(results.flatMap(({ metafile }) => Object.keys(metafile.inputs))));

const sources = [...SOURCES, ...(await walk("src"))].sort();
const files = (await readdir(TARGET)).sort();
const hashes = {
  comment: "Written by `make web`; tests/unit/serve/test_page.py compares it with what is there.",
  sources: await digest(HERE, sources),
  files: await digest(TARGET, files),
};
await writeFile(join(TARGET, "build.json"), `${JSON.stringify(hashes, null, 2)}\n`);

let total = 0;
for (const name of files) {
  const bytes = gzipSync(await readFile(join(TARGET, name)), { level: 9 }).length;
  if (!LATER.includes(name)) total += bytes;
  console.log(`${name.padEnd(14)} ${(bytes / 1000).toFixed(1).padStart(6)} kB compressed`);
}
console.log(`${"first visit".padEnd(14)} ${(total / 1000).toFixed(1).padStart(6)} kB compressed`);
if (total > MOST_BYTES) throw new Error(`a first visit must stay under ${MOST_BYTES} bytes over the wire`);

/** sha256 over the lines `<sha256>  <path>\n`, as tests/unit/serve/test_page.py reckons it. */
async function digest(root, paths) {
  const whole = createHash("sha256");
  for (const path of paths) {
    const content = createHash("sha256").update(await readFile(join(root, path)));
    whole.update(`${content.digest("hex")}  ${path}\n`);
  }
  return whole.digest("hex");
}

async function walk(folder) {
  const entries = await readdir(join(HERE, folder), { recursive: true, withFileTypes: true });
  const found = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath ?? entry.path, entry.name));
  return found.map((path) => relative(HERE, path).split(sep).join("/"));
}

/** The licences of the packages that the bundle took files from. */
async function licenses(inputs) {
  const folders = new Set();
  for (const input of inputs) {
    const match = /^(.*node_modules\/(?:@[^/]+\/)?[^/]+)\//.exec(input);
    if (match) folders.add(match[1]);
  }
  const parts = [];
  for (const folder of [...folders].sort()) {
    const { name, version, license } = JSON.parse(await readFile(join(HERE, folder, "package.json"), "utf8"));
    const file = (await readdir(join(HERE, folder))).find((entry) => /^licen[cs]e/i.test(entry));
    if (file === undefined) throw new Error(`${name} ships no licence text`);
    const text = await readFile(join(HERE, folder, file), "utf8");
    parts.push(`${name} ${version} (${license})\n${"-".repeat(60)}\n${text.trim()}\n`);
  }
  return `The chat page contains these packages.\n\n${parts.join("\n\n")}`;
}
