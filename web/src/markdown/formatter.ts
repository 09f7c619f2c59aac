/**
 * One answer on its way from text to trees: cuts it into blocks, has each read by the worker once it is complete (the
 * last one again and again while it grows), and has its formulas set. What cannot be read in time, or would
 * be too much for a page, is shown as it is written; the bounds hold for any text.
 *
 * No elements here, and nothing that takes longer than a walk over the text.
 */

import type { MathTree } from "../math/typeset.ts";
import type { Outcome } from "../workers/bounded.ts";
import type { MathQuestion, MathReply, TextQuestion, TextReply } from "../workers/protocol.ts";
import { Budget } from "./budget.ts";
import { Formulas } from "./formulas.ts";
import type { Span } from "./highlight.ts";
import type { Lexed } from "./lex.ts";
import { definitionsFor, definitionsIn, split, type Block, type Definitions } from "./split.ts";
import { formulasIn, keyOf, type Formula, type Tree } from "./tree.ts";

/** Of one answer; what is beyond is shown as it is written. */
const MOST_CHARACTERS = 200_000;
const MOST_BLOCKS = 400;
const MOST_PARTS = 20_000;
/** Of one block of anything but code. */
const MOST_BLOCK = 50_000;
/** A growing block takes at most one part in so many of the worker's time. */
const REST = 4;
/** So many new parts, then time to draw them before there are more. */
const PARTS_AT_ONCE = 1_500;
const DRAWING_MILLISECONDS = 100;

/** How a block is shown: code, trees, or as it is written, where `waiting` says that trees may still come. */
export type View =
  | { code: string; language: string }
  | { trees: Tree[]; version: number }
  | { plain: string; waiting: boolean };

export interface Shown {
  /** The same while the block grows. */
  key: number;
  view: View;
}

export interface Helpers {
  text: { ask(question: TextQuestion): Promise<Outcome<TextReply>> };
  math: { ask(question: MathQuestion): Promise<Outcome<MathReply>> };
}

/** What has become of a block so far. */
interface Reading {
  /** What was last read: the block's text, and the definitions of links that it needs. */
  read: string | null;
  trees: Tree[] | null;
  formulas: Formula[];
  parts: number;
  /** Of trees and formulas together. */
  version: number;
  /** Shown as it is written, for good. */
  plain: boolean;
}

/** What is to be read: a block's text with the definitions of links that it needs. */
interface Wanted {
  definitions: [string, string][];
  read: string;
}

interface Work {
  block: Block;
  reading: Reading;
  wanted: Wanted;
}

export class Formatter {
  private text = "";
  private live = false;
  private blocks: Block[] = [];
  private rest = "";
  private definitions: Definitions = new Map();
  private wanted = new WeakMap<Block, Wanted>();
  private readonly readings = new Map<number, Reading>();
  private readonly budget = new Budget();
  private readonly formulas: Formulas;
  private parts = 0;
  private reading = false;
  private colouring: Promise<unknown> = Promise.resolve();
  private pause: ReturnType<typeof setTimeout> | undefined;
  private closed = false;

  /** @param changed Called when there is more to be shown than the last `shown` told. */
  constructor(
    private readonly helpers: Helpers,
    private readonly changed: () => void,
  ) {
    this.formulas = new Formulas(helpers.math, this.budget, (keys) => {
      for (const reading of this.readings.values()) {
        if (reading.formulas.some((formula) => keys.has(keyOf(formula)))) reading.version += 1;
      }
      changed();
    });
  }

  /** @param live The text still grows: its last block is not finished. */
  update(written: string, live: boolean): void {
    const text = written.includes("\r") ? written.replace(/\r\n?/g, "\n") : written;
    if (text === this.text && live === this.live) return;
    const before = text.startsWith(this.text) ? this.blocks : [];
    this.text = text;
    this.live = live;
    const { blocks, end } = split(text.slice(0, MOST_CHARACTERS), MOST_BLOCKS, before);
    this.blocks = blocks;
    this.rest = text.slice(end);
    this.forget(before.length === 0 ? new Set() : new Set(this.blocks.map(({ at }) => at)));
    const definitions = definitionsIn(this.blocks);
    if (!alike(definitions, this.definitions)) {
      this.definitions = definitions;
      this.wanted = new WeakMap();
    }
    void this.read();
  }

  /** Whether there may be more to show. */
  get busy(): boolean {
    return this.reading || this.formulas.busy || this.pause !== undefined;
  }

  shown(): Shown[] {
    const blocks = this.blocks.map((block): Shown => ({ key: block.at, view: this.view(block) }));
    if (this.rest.trim() !== "") blocks.push({ key: -1, view: { plain: this.rest, waiting: false } });
    return blocks;
  }

  /** A formula as it is set; null where it is not, or not yet. */
  formula(formula: Formula): MathTree | null {
    return this.formulas.get(formula);
  }

  /** Colours for a complete block of code; null: it has none. */
  colours(code: string, language: string): Promise<Span[] | null> {
    const colouring = this.colouring.then(async () => {
      if (this.budget.exhausted || this.closed) return null;
      const outcome = await this.helpers.text.ask({ code, language });
      this.budget.count(outcome);
      return Array.isArray(outcome.reply) ? outcome.reply : null;
    });
    this.colouring = colouring;
    return colouring;
  }

  /** Asks nothing more, and tells nothing more. */
  close(): void {
    this.closed = true;
    this.formulas.close();
    clearTimeout(this.pause);
    this.pause = undefined;
  }

  /** All readings but those at some places. */
  private forget(places: ReadonlySet<number>): void {
    for (const [at, { parts }] of this.readings) {
      if (places.has(at)) continue;
      this.readings.delete(at);
      this.parts -= parts;
    }
  }

  private view(block: Block): View {
    if (block.code !== null) return block.code;
    const { trees, version, plain } = this.readings.get(block.at) ?? NOT_READ;
    return plain || trees === null ? { plain: block.text, waiting: !plain } : { trees, version };
  }

  /** Has one block after the other read. One at a time: what that takes is known before the next one. */
  private async read(): Promise<void> {
    if (this.reading) return;
    this.reading = true;
    let fresh = 0;
    for (let work = this.work(); work !== null; work = this.work()) {
      const { block, reading, wanted } = work;
      const outcome = await this.helpers.text.ask({ markdown: block.text, definitions: wanted.definitions });
      const { reply, milliseconds } = outcome;
      if (this.closed) break;
      if (this.readings.get(block.at) !== reading) continue;
      reading.read = wanted.read;
      if (this.growing(block.at) && reply !== "late") this.wait(milliseconds * REST);
      else this.budget.count(outcome);
      this.take(reading, typeof reply === "string" || Array.isArray(reply) ? null : reply);
      this.changed();
      fresh += reading.parts;
      if (fresh < PARTS_AT_ONCE) continue;
      fresh = 0;
      await new Promise((resolve) => setTimeout(resolve, DRAWING_MILLISECONDS));
    }
    this.reading = false;
    if (!this.closed) this.changed();
  }

  /** The next block to be read: the last ones first, since an answer is looked at from its end. */
  private work(): Work | null {
    if (this.closed) return null;
    for (const block of this.blocks.toReversed()) {
      if (block.code !== null) continue;
      const reading = this.readings.get(block.at) ?? { ...NOT_READ };
      this.readings.set(block.at, reading);
      if (reading.plain || (this.pause !== undefined && this.growing(block.at))) continue;
      const wanted = this.wantedFor(block);
      if (reading.read === wanted.read) continue;
      if (block.text.length <= MOST_BLOCK && !this.budget.exhausted) return { block, reading, wanted };
      this.take(reading, null);
    }
    return null;
  }

  private wantedFor(block: Block): Wanted {
    let wanted = this.wanted.get(block);
    if (wanted === undefined) {
      const definitions = definitionsFor(block, this.definitions);
      wanted = { definitions, read: definitions.length === 0 ? block.text : `${block.text}\n${JSON.stringify(definitions)}` };
      this.wanted.set(block, wanted);
    }
    return wanted;
  }

  private growing(at: number): boolean {
    return this.live && at === this.blocks.at(-1)?.at;
  }

  /** Lets the worker rest before it reads what grows again. */
  private wait(milliseconds: number): void {
    if (this.pause !== undefined) return;
    this.pause = setTimeout(() => {
      this.pause = undefined;
      void this.read();
    }, milliseconds);
  }

  private take(reading: Reading, lexed: Lexed | null): void {
    const others = this.parts - reading.parts;
    const kept = others + (lexed?.parts ?? 0) > MOST_PARTS ? null : lexed;
    reading.plain = kept === null;
    reading.parts = kept?.parts ?? 0;
    this.parts = others + reading.parts;
    reading.trees = kept?.trees ?? null;
    reading.formulas = formulasIn(reading.trees ?? []);
    reading.version += 1;
    this.formulas.want(reading.formulas);
  }
}

function alike(one: Definitions, other: Definitions): boolean {
  return one.size === other.size && [...one].every(([label, address]) => other.get(label) === address);
}

const NOT_READ: Reading = { read: null, trees: null, formulas: [], parts: 0, version: 0, plain: false };
