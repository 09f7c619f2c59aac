/**
 * An answer cut into blocks that are read one by one, so that only the end of a growing answer is read again.
 *
 * Each line is looked at once and by patterns that look at its beginning or its end only: the work is linear in the
 * text, whatever it holds. A block is a unit of reading, not of Markdown: it may hold several paragraphs, but what belongs
 * together (a list and what is indented under it, a block of code, a displayed formula) is never cut.
 */

/** A longer list is cut between two of its items, a longer rest is shown as it is written. */
const LONG_LIST = 8_000;
/** A formula that begins with a line of its own ends within this many characters, or is none. */
const MOST_FORMULA = 8_000;
const MOST_DEFINITIONS = 100;

const FENCE = /^( {0,3})(`{3,}(?=[^`]*$)|~{3,})[ \t]*([^\s`]*)/;
const ITEM = /^ {0,3}(?:[-*+]|\d{1,9}[.)])(?:[ \t]|$)/;
const DEFINITION = /^ {0,3}\[([^[\]\\]{1,200})\]:[ \t]*(?:<([^<>\s]{1,2000})>|([^\s<]\S{0,2000}))(?:[ \t]+["'(][^"]{0,300}["')])?[ \t]*$/;

export interface Block {
  /** Where it begins in the text. */
  at: number;
  /** As it stands there. */
  text: string;
  /** Of a block of code: what is in it, and its language ("" when none is given); null for anything else. */
  code: { code: string; language: string } | null;
}

/** Where `[label]: address` leads, by the label in lower case. */
export type Definitions = ReadonlyMap<string, string>;

/**
 * The blocks of a text, and where the last of them ends.
 *
 * @param most No more blocks than that: what follows them is not looked at.
 * @param before Blocks of an earlier, shorter state of the same text. All but its last two are taken as they are: what
 *   has come since can only change where those two end.
 */
export function split(text: string, most: number, before: readonly Block[] = []): { blocks: Block[]; end: number } {
  const kept = before.slice(0, -2);
  const last = kept.at(-1);
  let at = last === undefined ? 0 : last.at + last.text.length;
  const blocks = [...kept];
  const inVain: InVain = {};
  while (at < text.length && blocks.length < most) {
    const end = lineEnd(text, at);
    const line = text.slice(at, end);
    if (isBlank(line)) {
      at = next(text, end);
      continue;
    }
    const block = fenced(text, at, line) ?? formula(text, at, line, inVain) ?? ordinary(text, at);
    blocks.push(block);
    at += block.text.length;
  }
  return { blocks, end: at };
}

/** The definitions of links in blocks, the first of each label, and of the first labels only. */
export function definitionsIn(blocks: readonly Block[]): Definitions {
  const found = new Map<string, string>();
  for (const block of blocks) {
    for (const [label, address] of definitionsOf(block)) {
      if (found.size < MOST_DEFINITIONS && !found.has(label)) found.set(label, address);
    }
  }
  return found;
}

const known = new WeakMap<Block, [string, string][]>();

function definitionsOf(block: Block): [string, string][] {
  let found = known.get(block);
  if (found === undefined) {
    const lines = block.code === null && block.text.includes("]:") ? block.text.split("\n") : [];
    found = lines.flatMap((line) => {
      const [, label, inside, bare] = (line.length < 3_000 && DEFINITION.exec(line)) || [];
      const address = inside ?? bare;
      return label === undefined || address === undefined ? [] : [[label.trim().toLowerCase(), address] as [string, string]];
    });
    known.set(block, found);
  }
  return found;
}

/** Those that a block refers to. */
export function definitionsFor(block: Block, all: Definitions): [string, string][] {
  if (all.size === 0 || !block.text.includes("[")) return [];
  // (Known by the label's own brackets: "[text][label]", "[label][]" and "[label]".)
  const text = block.text.toLowerCase();
  return [...all].filter(([label]) => text.includes(`[${label}]`));
}

function fenced(text: string, at: number, line: string): Block | null {
  const [, indent = "", fence = "", language = ""] = FENCE.exec(line) ?? [];
  if (fence === "") return null;
  const lines: string[] = [];
  let from = next(text, at + line.length);
  while (from < text.length) {
    const end = lineEnd(text, from);
    const inside = text.slice(from, end);
    from = next(text, end);
    if (closes(inside, fence)) break;
    lines.push(outdented(inside, indent.length));
  }
  return { at, text: text.slice(at, from), code: { code: lines.join("\n"), language } };
}

function closes(line: string, fence: string): boolean {
  const start = line.search(/[^ ]/);
  if (start < 0 || start > 3 || line[start] !== fence[0]) return false;
  const rest = line.trim();
  return rest.length >= fence.length && rest === (fence[0] ?? "").repeat(rest.length);
}

function outdented(line: string, most: number): string {
  let spaces = 0;
  while (spaces < most && line[spaces] === " ") spaces += 1;
  return line.slice(spaces);
}

/** Up to where the end of a formula was looked for in vain, so that each line is looked at once. */
type InVain = { [opening: string]: number };

/** A formula in lines of its own, which may have blank lines in it. */
function formula(text: string, at: number, line: string, inVain: InVain): Block | null {
  const opening = line.trim();
  const closing = { "$$": "$$", "\\[": "\\]" }[opening];
  if (closing === undefined) return null;
  let from = Math.max(next(text, at + line.length), inVain[opening] ?? 0);
  for (let found = false; from < text.length && !found; ) {
    if (from - at > MOST_FORMULA) {
      inVain[opening] = from;
      return null;
    }
    const end = lineEnd(text, from);
    found = text.slice(from, end).trimEnd().endsWith(closing);
    from = next(text, end);
  }
  return { at, text: text.slice(at, from), code: null };
}

/** Up to a blank line, or a block of code; a list, and what is indented, go on behind blank lines. */
function ordinary(text: string, at: number): Block {
  let list = false;
  let blank = false;
  let from = at;
  let filled = at; // behind the last line that is not blank
  while (from < text.length) {
    const end = lineEnd(text, from);
    const line = text.slice(from, end);
    if (isBlank(line)) blank = true;
    else {
      const item = ITEM.test(line);
      const indented = /^(?: {2}|[ ]?\t)/.test(line);
      if (from > at && FENCE.test(line) && !(list && indented)) break;
      if (blank && !(list && (item || indented))) break;
      if (item && filled - at > LONG_LIST && !indented) break;
      list ||= item || /^(?: {4}|\t)/.test(line);
      blank = false;
      filled = end;
    }
    from = next(text, end);
  }
  return { at, text: text.slice(at, filled), code: null };
}

function isBlank(line: string): boolean {
  return line.trim() === "";
}

function lineEnd(text: string, at: number): number {
  const end = text.indexOf("\n", at);
  return end < 0 ? text.length : end;
}

/** The beginning of the next line. */
function next(text: string, end: number): number {
  return Math.min(end + 1, text.length);
}
