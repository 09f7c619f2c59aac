/**
 * One block of Markdown as a tree. The text becomes tokens and each token a branch of a fixed kind with text inside: HTML
 * shows as it is written, images become links.
 *
 * How long this takes is not known beforehand (marked is quadratic in some texts), so it runs in a worker that is ended
 * when it takes too long; how large the result may be is bounded here.
 */

import { Lexer, Tokenizer, type MarkedToken, type Tokens } from "marked";

import { decodeEntities } from "./entities.ts";
import { Mask, pieces, unmask, type Masked } from "./mask.ts";
import type { Branch, Tag, Tree } from "./tree.ts";

/** Deeper nesting is shown as it is written: it would only serve to hold up the page. */
const MOST_LEVELS = 24;
const TOO_DEEP = /^[ \t]*(?:>[ \t]*|(?:[-*+]|\d{1,9}[.)])[ \t]+){24}/m;
/** Parts of one block, where a character of TeX may become a part too. */
const MOST_PARTS = 4_000;
const PARTS_OF_FORMULA = 8;
/** With its head and button. */
const PARTS_OF_CODE = 16;

/** Where a backslash keeps Markdown away from a character; before any other it belongs to the text ("x^2\,dx", "5\%"). */
const ESCAPED = /^\\([*_`~#+\-.<>|$])/;
const NOT_ESCAPED = /^\\[!-/:-@[-`{-~]/;

export interface Lexed {
  trees: Tree[];
  parts: number;
}

/** @returns null where the text is better shown as it is written. */
export function lex(text: string, definitions: readonly (readonly [string, string])[] = []): Lexed | null {
  if (TOO_DEEP.test(text)) return null;
  const masked = Mask.of(text);
  if (masked === null) return null;
  try {
    const lexer = new Lexer({ gfm: true, breaks: true, tokenizer: new PageTokenizer() });
    for (const [label, href] of definitions) lexer.tokens.links[label] = { href, title: null };
    const growing = new Growing(masked.found);
    const trees = growing.all(lexer.lex(masked.text), 0);
    return { trees, parts: growing.parts };
  } catch {
    return null; // too much of it, or more than the stack can take
  }
}

class PageTokenizer extends Tokenizer {
  override escape(src: string): Tokens.Escape | undefined {
    const escaped = ESCAPED.exec(src);
    if (escaped !== null) return { type: "escape", raw: escaped[0], text: escaped[1] ?? "" };
    const [raw] = NOT_ESCAPED.exec(src) ?? [];
    return raw === undefined ? undefined : { type: "escape", raw, text: raw };
  }

  /** Every row is given the columns of the first: small text could become a table of millions of cells. */
  override table(src: string): Tokens.Table | undefined {
    const first = src.slice(0, lineEnd(src, 0));
    const end = src.search(/\n[ \t]*\n/);
    const rows = src.slice(0, end < 0 ? src.length : end).split("\n").length;
    return first.split("|").length * rows > MOST_PARTS ? undefined : super.table(src);
  }
}

class Growing {
  parts = 0;

  constructor(private readonly found: readonly Masked[]) {}

  all(tokens: readonly object[] | undefined, level: number): Tree[] {
    return ((tokens ?? []) as MarkedToken[]).flatMap((token) => this.tree(token, level));
  }

  private tree(token: MarkedToken, level: number): Tree | Tree[] {
    this.count(1);
    if (level > MOST_LEVELS) return this.raw(token.raw);
    switch (token.type) {
      case "heading":
        // Headings begin below those of the page.
        return this.branch((["h3", "h4", "h5", "h6"] as const)[Math.min(token.depth, 4) - 1] ?? "h6", token, level);
      case "paragraph":
        return this.branch("p", token, level);
      case "code":
        this.count(PARTS_OF_CODE);
        return { code: this.raw(token.text), language: this.raw(token.lang ?? "").split(/\s/)[0] ?? "" };
      case "blockquote":
      case "strong":
      case "em":
      case "del":
        return this.branch(token.type, token, level);
      case "list":
        return this.list(token, level);
      case "table":
        return this.table(token, level);
      case "hr":
      case "br":
        return { tag: token.type, kids: [] };
      case "codespan":
        return { tag: "code", kids: [this.raw(token.text)] };
      case "link":
        return { tag: "link", href: this.raw(token.href), kids: this.label(token, level) };
      case "image":
        return { tag: "link", href: this.raw(token.href), kids: [this.raw(token.text || token.href)] };
      case "checkbox":
        return { tag: token.checked ? "checked" : "unchecked", kids: [] };
      case "html":
        return this.html(token);
      case "text":
        return "tokens" in token && token.tokens ? this.all(token.tokens, level + 1) : this.text(token.text);
      case "escape":
        return token.text;
      case "space":
      case "def":
        return [];
      default:
        return this.raw((token as { raw: string }).raw);
    }
  }

  private branch(tag: Tag, token: { tokens?: readonly object[] }, level: number): Branch {
    return { tag, kids: this.all(token.tokens, level + 1) };
  }

  private list(token: Tokens.List, level: number): Branch {
    const kids = token.items.map((item) => {
      this.count(1);
      return this.branch(item.task ? "task" : "li", item, level);
    });
    return token.ordered ? { tag: "ol", kids, start: token.start === "" ? 1 : token.start } : { tag: "ul", kids };
  }

  private table(token: Tokens.Table, level: number): Branch {
    const row = (tag: "th" | "td", cells: Tokens.TableCell[]): Branch => {
      this.count(1 + cells.length);
      const kids = cells.map((cell) => {
        const branch = this.branch(tag, cell, level);
        return cell.align ? { ...branch, align: cell.align } : branch;
      });
      return { tag: "tr", kids };
    };
    const head: Branch = { tag: "thead", kids: [row("th", token.header)] };
    return { tag: "table", kids: [head, { tag: "tbody", kids: token.rows.map((cells) => row("td", cells)) }] };
  }

  /** What a link is shown as; an address written as text holds no mathematics. */
  private label(token: Tokens.Link, level: number): Tree[] {
    return token.raw.startsWith("[") ? this.all(token.tokens, level + 1) : [this.raw(token.text)];
  }

  private html({ raw, block }: Tokens.HTML | Tokens.Tag): Tree {
    if (/^<br\s{0,9}\/?>$/i.test(raw.trim())) return { tag: "br", kids: [] };
    return block ? { tag: "p", kids: [this.raw(raw)] } : this.raw(raw);
  }

  private text(text: string): Tree[] {
    return pieces(text, this.found).map((piece) => {
      if (typeof piece === "string") return decodeEntities(piece);
      const { masked } = piece;
      if (typeof masked !== "string") this.count(PARTS_OF_FORMULA + masked.tex.length);
      return masked;
    });
  }

  private raw(text: string): string {
    return unmask(text, this.found);
  }

  private count(parts: number): void {
    this.parts += parts;
    if (this.parts > MOST_PARTS) throw new RangeError("more parts than a page should have");
  }
}

function lineEnd(text: string, at: number): number {
  const end = text.indexOf("\n", at);
  return end < 0 ? text.length : end;
}
