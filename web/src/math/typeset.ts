/**
 * TeX as MathML, which every browser of today sets by itself: plain data, of elements and attributes named here only.
 *
 * KaTeX reads the TeX. How long that takes is not known beforehand, so it runs in a worker that is ended when it takes too
 * long. Where MathML Core, which browsers follow, knows less than MathML 3, which KaTeX writes, classes and
 * characters of the alphabets stand in.
 */

import katex from "katex";

import { inAlphabet } from "./letters.ts";

export interface MathBranch {
  tag: string;
  attributes: Record<string, string>;
  kids: MathTree[];
}

export type MathTree = string | MathBranch;

/** Of the options of KaTeX: sizes in em, and how often macros may be replaced. */
const MOST_SIZE = 20;
const MOST_EXPANSIONS = 500;
const MOST_PARTS = 4_000;
const MOST_LEVELS = 200;

/** Nobody writes this colour: what has it is a command that KaTeX refuses. */
const REFUSED = "#c0ffe1";

const TAGS = new Set(
  (
    "math mrow mi mn mo ms mtext mspace mfrac msqrt mroot msub msup msubsup munder mover munderover mmultiscripts " +
    "mprescripts mtable mtr mtd mstyle mpadded mphantom merror"
  ).split(" "),
);
const TOKENS = new Set(["mi", "mn", "mo", "ms", "mtext"]);
const ATTRIBUTES = new Set(
  (
    "display displaystyle scriptlevel accent accentunder stretchy symmetric largeop movablelimits fence separator form " +
    "lspace rspace minsize maxsize linethickness width height depth voffset mathcolor mathbackground"
  ).split(" "),
);

/** A node of KaTeX's tree of MathML. */
interface Source {
  type?: string;
  attributes?: Record<string, string>;
  children?: Source[];
  classes?: string[];
  text?: string;
  character?: string | null;
  width?: number;
}

interface Internals {
  /** The tree that `render` draws; pinned with the version of the package. */
  __renderToDomTree(tex: string, options: object): Source;
}

/** @returns null where it is no TeX that KaTeX takes, or far too much. */
export function typeset(tex: string, display: boolean): MathTree | null {
  try {
    const source = (katex as unknown as Internals).__renderToDomTree(tex, {
      displayMode: display,
      output: "mathml",
      throwOnError: true,
      errorColor: REFUSED,
      strict: "ignore",
      trust: false,
      maxSize: MOST_SIZE,
      maxExpand: MOST_EXPANSIONS,
    });
    const [math] = new Growing().all(source.children ?? [], 0);
    return math ?? null;
  } catch {
    return null;
  }
}

class Growing {
  private parts = 0;

  all(sources: readonly Source[], level: number): MathTree[] {
    return sources.flatMap((source) => this.tree(source, level));
  }

  private tree(source: Source, level: number): MathTree[] {
    this.parts += 1;
    if (this.parts > MOST_PARTS || level > MOST_LEVELS) throw new RangeError("more than a page should have");
    if (source.text !== undefined) return [source.text];
    if (source.width !== undefined && source.type === undefined) return [space(source)];
    const kids = source.children ?? [];
    if (source.type === "annotation") return [];
    if (source.type === undefined || source.type === "semantics") return this.all(kids, level + 1);
    return [this.branch(source, source.type, kids, level)];
  }

  private branch(source: Source, type: string, kids: readonly Source[], level: number): MathBranch {
    const attributes = source.attributes ?? {};
    if (attributes["mathcolor"] === REFUSED) throw new RangeError("a command that is refused");
    if (kids.some(isLineBreak)) return this.lines(kids, level);
    const grown = this.all(kids, level + 1);
    // Tokens hold text; where KaTeX puts more into one, it is a row.
    const row = !TAGS.has(type) || (TOKENS.has(type) && grown.some((kid) => typeof kid !== "string"));
    const branch = { tag: row ? "mrow" : type, attributes: kept(attributes), kids: grown };
    if (type === "mover") return accented(branch);
    if (type === "menclose") enclose(branch, attributes["notation"] ?? "", kids[0]?.type === "mtable");
    if (type === "mtable") arrange(branch, attributes, kids);
    if (attributes["mathvariant"] !== undefined) vary(branch, attributes["mathvariant"]);
    return branch;
  }

  /** Lines under each other, which MathML Core has in tables only. */
  private lines(kids: readonly Source[], level: number): MathBranch {
    const lines: MathTree[][] = [[]];
    for (const kid of kids) {
      if (isLineBreak(kid)) lines.push([]);
      else lines.at(-1)?.push(...this.tree(kid, level + 1));
    }
    const cells = lines.map((line): MathBranch => ({ tag: "mtd", attributes: {}, kids: line }));
    const rows = cells.map((cell): MathBranch => ({ tag: "mtr", attributes: {}, kids: [cell] }));
    return { tag: "mtable", attributes: { displaystyle: "true" }, kids: rows };
  }
}

function space({ character, width }: Source): MathBranch {
  if (character) return { tag: "mtext", attributes: {}, kids: [character] };
  return { tag: "mspace", attributes: { width: `${(width ?? 0).toFixed(4)}em` }, kids: [] };
}

function kept(attributes: Record<string, string>): Record<string, string> {
  return Object.fromEntries(Object.entries(attributes).filter(([name]) => ATTRIBUTES.has(name)));
}

function isLineBreak({ type, attributes }: Source): boolean {
  return type === "mspace" && attributes?.["linebreak"] === "newline";
}

const ACCENTS: Record<string, string> = {
  ...{ "ˋ": "\u0300", "ˊ": "\u0301", "^": "\u0302", "ˆ": "\u0302", "~": "\u0303", "˜": "\u0303", "ˉ": "\u0304", "¯": "\u0304" },
  ...{ "˘": "\u0306", "˙": "\u0307", "¨": "\u0308", "˚": "\u030a", "˝": "\u030b", "ˇ": "\u030c", "¸": "\u0327" },
};

/** KaTeX takes the letters of words apart ("é"); here they are letters again. */
function accented(branch: MathBranch): MathBranch {
  const [base, accent] = branch.kids;
  if (typeof base !== "object" || typeof accent !== "object" || base.tag !== "mtext") return branch;
  const [letter, mark] = [base.kids[0], ACCENTS[String(accent.kids[0])]];
  if (typeof letter !== "string" || mark === undefined) return branch;
  return { ...base, kids: [(letter + mark).normalize("NFC")] };
}

/** Letters of an alphabet; words, which are read and copied, keep their letters and get a class. */
function vary(branch: MathBranch, variant: string): void {
  if (variant === "normal") branch.attributes["mathvariant"] = "normal";
  else if (branch.tag === "mtext") addClass(branch, variant);
  else branch.kids = branch.kids.map((kid) => (typeof kid === "string" ? inAlphabet(kid, variant) : kid));
}

/** Around a table KaTeX writes "top" for the line on the left, and so on. */
const TURNED: Record<string, string> = { top: "left", bottom: "right", left: "top", right: "bottom" };

function enclose(branch: MathBranch, notation: string, table: boolean): void {
  for (const side of notation.split(" ")) addClass(branch, `enclosed-${(table && TURNED[side]) || side}`);
}

/** How columns stand and where lines are. A row with a number has a cell of glue before and two cells behind its own. */
function arrange(table: MathBranch, attributes: Record<string, string>, rows: readonly Source[]): void {
  const words = (name: string) => (attributes[name] ?? "").split(" ").filter(Boolean);
  const [aligns, spacing, columnLines, rowLines] = ["columnalign", "columnspacing", "columnlines", "rowlines"].map(words);
  const numbered = attributes["width"] === "100%";
  if (numbered) addClass(table, "numbered");
  table.kids.forEach((row, rowIndex) => {
    if (typeof row === "string") return;
    let column = 0;
    row.kids.forEach((cell, index) => {
      if (typeof cell === "string") return;
      const source = rows[rowIndex]?.children?.[index];
      const glue = source?.classes?.includes("mtr-glue") || source?.attributes?.["width"] === "50%";
      if (glue) addClass(cell, "glue");
      if (numbered) cell.attributes["displaystyle"] = "true";
      if (hasLine(rowLines, rowIndex)) addClass(cell, "line-below");
      if (glue || source?.classes?.includes("mml-eqn-num")) return;
      const align = aligns?.[column];
      if (align !== undefined && align !== "center") addClass(cell, `align-${align}`);
      if (hasLine(columnLines, column)) addClass(cell, "line-right");
      if (at(spacing, column) === "0em") addClass(cell, "tight-right");
      if (column > 0 && at(spacing, column - 1) === "0em") addClass(cell, "tight-left");
      delete cell.attributes["width"];
      column += 1;
    });
  });
  delete table.attributes["width"];
}

function hasLine(kinds: string[] | undefined, index: number): boolean {
  return kinds?.[index] !== undefined && kinds[index] !== "none";
}

/** The last value goes on for what follows. */
function at(values: string[] | undefined, index: number): string | undefined {
  return values?.[index] ?? values?.at(-1);
}

function addClass({ attributes }: MathBranch, name: string): void {
  attributes["class"] = attributes["class"] === undefined ? name : `${attributes["class"]} ${name}`;
}
