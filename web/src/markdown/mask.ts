/**
 * Takes out of Markdown what Markdown must not touch: mathematics and Windows paths. In place of each there is one
 * character of the private use area, which Markdown takes for a letter; `unmask` puts back what was there.
 *
 * One pass with a memory of what was looked for in vain: the work is linear in the text, whatever it holds.
 */

import type { Formula } from "./tree.ts";

/** What a character stands for: mathematics, or text that is shown as it is written. */
export type Masked = Formula | string;

const FIRST = 0xe000;
const LAST = 0xf8ff;
/** Longer TeX is shown as it is written. */
const MOST_TEX = 8_000;

// Each is tried at one place and reads on from there only.
const PREFIX = /(?:[ \t]|>|[-*+][ \t]|\d{1,9}[.)][ \t])*/y;
const FENCE = /`{3,}(?=[^`\n]*(?:\n|$))|~{3,}/y;
const TICKS = /`+/y;
const PATH = /(?:[A-Za-z]:\\(?![([])|\\\\[A-Za-z0-9])[^\s`*"<>|?)\]]*/y;
/** A reference to one of the characters that stand for something here: it would be resolved to that. */
const REFERENCE = /&#(?:0*(?:5734[4-9]|573[5-9]\d|57[4-9]\d\d|5[89]\d{3}|6[0-2]\d{3}|63[0-6]\d\d|637[0-3]\d|6374[0-3])|[xX]0*(?:[eE][\da-fA-F]{3}|[fF][0-8][\da-fA-F]{2}));/y;
const BLANK_LINES = /\n[ \t]*(?=\n)/g;

export class Mask {
  readonly found: Masked[] = [];
  /** Characters looked at so far; a small multiple of the text's length, for tests. */
  steps = 0;
  private at = 0;
  private prefixEnd = 0;
  private readonly paragraphs: number[];
  private paragraph = 0;
  /** Up to where a closing delimiter was looked for in vain, by its kind. */
  private readonly inVain = new Map<string, number>();
  /** Where runs of backticks of each length stand in the present paragraph, last first. */
  private runs: Map<number, number[]> | null = null;
  private prefix = "";

  private constructor(private readonly text: string) {
    this.paragraphs = Array.from(text.matchAll(BLANK_LINES), ({ index }) => index);
    this.paragraphs.push(text.length);
  }

  /** The text with characters in place of what was taken out; null: there is too much of that. */
  static of(text: string): { text: string; found: Masked[]; steps: number } | null {
    const mask = new Mask(text);
    const masked = mask.run();
    return mask.found.length > LAST - FIRST + 1 ? null : { text: masked, found: mask.found, steps: mask.steps };
  }

  private run(): string {
    const parts: string[] = [];
    let copied = 0;
    this.startLine();
    while (this.at < this.text.length) {
      const from = this.at;
      const masked = this.step();
      if (masked === null) continue;
      parts.push(this.text.slice(copied, from), String.fromCharCode(FIRST + this.found.length));
      if (this.found.push(masked) > LAST - FIRST + 1) break;
      copied = this.at;
    }
    parts.push(this.text.slice(copied));
    return parts.join("");
  }

  /** Goes one step on; returns what that step took out, if anything. */
  private step(): Masked | null {
    const { text, at } = this;
    const character = text.charCodeAt(at);
    this.steps += 1;
    if (character === 10) this.startLine(at + 1);
    else if (character === 92) return this.backslash();
    else if (character === 96) this.ticks();
    else if (character === 36) return this.dollar();
    else if (character >= FIRST && character <= LAST) return this.literal(at + 1);
    else if (character === 38) return this.reference();
    else if (text.charCodeAt(at + 1) === 58 && !isWord(text[at - 1])) return this.path();
    else this.at += 1;
    return null;
  }

  private startLine(at = 0): void {
    this.findParagraph(at);
    this.prefix = this.match(PREFIX, at);
    this.prefixEnd = this.at = at + this.prefix.length;
    const fence = this.match(FENCE, this.at);
    if (fence !== "") this.skipFenced(this.at + fence.length, fence);
  }

  private findParagraph(at: number): void {
    while (at > this.paragraphEnd()) {
      this.paragraph += 1;
      this.runs = null;
    }
  }

  /** To the end of the line that closes a block of code, or of the text. */
  private skipFenced(at: number, fence: string): void {
    const { text } = this;
    let end = lineEnd(text, at);
    while (end < text.length) {
      const start = end + 1;
      end = lineEnd(text, start);
      const line = text.slice(start, end).replace(/^[\s>]+/, "").trimEnd();
      if (line.length >= fence.length && line === (fence[0] ?? "").repeat(line.length)) break;
    }
    this.steps += end - at;
    this.at = end;
  }

  /** Over a span of code; over the backticks alone where nothing closes them. */
  private ticks(): void {
    const { length } = this.match(TICKS, this.at);
    const from = this.at + length;
    this.runs ??= this.runsIn(this.at, this.paragraphEnd());
    const places = this.runs.get(length) ?? [];
    while (places.length > 0 && (places.at(-1) ?? 0) < from) places.pop();
    const close = places.at(-1);
    this.at = close === undefined ? from : close + length;
  }

  private runsIn(from: number, end: number): Map<number, number[]> {
    const runs = new Map<number, number[]>();
    for (const { 0: run, index } of this.text.slice(from, end).matchAll(/`+/g)) {
      const places = runs.get(run.length);
      if (places === undefined) runs.set(run.length, [from + index]);
      else places.push(from + index);
    }
    this.steps += end - from;
    for (const places of runs.values()) places.reverse();
    return runs;
  }

  private backslash(): Masked | null {
    const { text, at } = this;
    const second = text[at + 1];
    if (second === "(") return this.formula(at + 2, "\\)", this.paragraphEnd());
    // "list\[0\]" has made its brackets harmless.
    if (second === "[" && !isAscii(text[at - 1])) return this.formula(at + 2, "\\]", this.displayEnd());
    if (second === "\\" && !isWord(text[at - 1])) return this.path(2);
    this.at += second === "\n" ? 1 : 2;
    return null;
  }

  private dollar(): Masked | null {
    const { text, at } = this;
    if (text[at + 1] === "$") return this.formula(at + 2, "$$", this.displayEnd());
    const first = text[at + 1] ?? " ";
    const close = isAscii(text[at - 1]) || /\s/.test(first) ? -1 : this.find("$", at + 1, this.paragraphEnd());
    if (close < 0 || !isInline(text[close - 1] ?? " ", text.slice(close + 1, close + 3))) {
      this.at += 1;
      return null;
    }
    return this.take(at + 1, close, 1, false);
  }

  private formula(from: number, close: "\\)" | "\\]" | "$$", stop: number): Masked | null {
    const display = close !== "\\)";
    const end = this.find(close, from, stop);
    // "\[text\](address)" is a link that somebody has made harmless, and "from $$ to $$$" tells of prices.
    const not = { "\\)": "", "\\]": "(", $$: "$" }[close];
    if (end < 0 || this.text.slice(from, end).trim() === "" || this.text[end + 2] === not) {
      this.at = from;
      return null;
    }
    return this.take(from, end, 2, display);
  }

  /** Where a delimiter stands, or -1: none before the end, or a backtick comes first. Each character is read once. */
  private find(close: string, from: number, stop: number): number {
    const { text } = this;
    let at = Math.max(from, this.inVain.get(close) ?? 0);
    const start = at;
    while (at < stop && text[at] !== "`") {
      if (text.startsWith(close, at)) break;
      at += text[at] === "\\" ? 2 : 1;
    }
    this.steps += Math.max(0, at - start);
    if (at < stop && text[at] !== "`") return at;
    this.inVain.set(close, Math.max(start, Math.min(at, stop)));
    return -1;
  }

  private take(from: number, end: number, width: number, display: boolean): Masked {
    const { text } = this;
    const raw = text.slice(from - width, end + width);
    const tex = this.withoutQuotes(text.slice(from, end));
    this.at = end + width;
    this.steps += raw.length;
    this.findParagraph(this.at);
    return tex.length > MOST_TEX ? raw : { raw, tex, display };
  }

  /** Lines of a quote begin with `>`, which is none of the formula's. */
  private withoutQuotes(tex: string): string {
    const depth = this.prefix.split(">").length - 1;
    if (depth === 0 || !tex.includes("\n")) return tex;
    const [first = "", ...others] = tex.split("\n");
    return [first, ...others.map((line) => unquoted(line, depth))].join("\n");
  }

  private path(least = 0): Masked | null {
    const path = this.match(PATH, this.at);
    if (path !== "") return this.literal(this.at + path.length);
    this.at += Math.max(1, least);
    return null;
  }

  private reference(): Masked | null {
    const reference = this.match(REFERENCE, this.at);
    if (reference !== "") return this.literal(this.at + reference.length);
    this.at += 1;
    return null;
  }

  private literal(end: number): Masked {
    const raw = this.text.slice(this.at, end);
    this.at = end;
    return raw;
  }

  /** Where a formula on display must end: one that begins a line may have blank lines in it. */
  private displayEnd(): number {
    return this.at === this.prefixEnd ? this.text.length : this.paragraphEnd();
  }

  private paragraphEnd(): number {
    return this.paragraphs[this.paragraph] ?? this.text.length;
  }

  private match(pattern: RegExp, at: number): string {
    pattern.lastIndex = at;
    const found = pattern.exec(this.text)?.[0] ?? "";
    this.steps += found.length;
    return found;
  }
}

/** The text with what was taken out put back as it was written. */
export function unmask(text: string, found: readonly Masked[]): string {
  if (found.length === 0) return text;
  return text.replace(/[\ue000-\uf8ff]/g, (character) => {
    const masked = found[character.charCodeAt(0) - FIRST] ?? character;
    return typeof masked === "string" ? masked : masked.raw;
  });
}

/** The text in pieces: strings, and what was taken out between them. */
export function pieces(text: string, found: readonly Masked[]): (string | { masked: Masked })[] {
  return text
    .split(/([\ue000-\uf8ff])/)
    .map((piece, index) => (index % 2 === 0 ? piece : { masked: found[piece.charCodeAt(0) - FIRST] ?? piece }))
    .filter((piece) => piece !== "");
}

/** "$5 and $10" is no formula, and neither are "$HOME/$USER"; "the $n$th" is one. */
function isInline(last: string, following: string): boolean {
  if (/\s/.test(last) || /^[.,]?\d/.test(following)) return false;
  return !isAscii(following[0]) || /[\p{L}\p{N}})']/u.test(last);
}

/** Whether it is a letter or digit of scripts that put blanks between words and formulas. */
function isAscii(character: string | undefined): boolean {
  return character !== undefined && /[A-Za-z0-9]/.test(character);
}

function isWord(character: string | undefined): boolean {
  return character !== undefined && /[\p{L}\p{N}_]/u.test(character);
}

function unquoted(line: string, depth: number): string {
  let at = 0;
  for (let quotes = 0; quotes < depth; quotes += 1) {
    const found = /^ {0,3}> ?/.exec(line.slice(at, at + 5));
    if (found === null) break;
    at += found[0].length;
  }
  return line.slice(at);
}

function lineEnd(text: string, at: number): number {
  const end = text.indexOf("\n", at);
  return end < 0 ? text.length : end;
}
