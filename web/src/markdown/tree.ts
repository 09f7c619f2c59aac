/** What Markdown becomes: plain data that a worker can send, and that the page makes elements of. */

/** A name here stands for one kind of element; there are no others. */
export type Tag =
  | "p" | "h3" | "h4" | "h5" | "h6" | "blockquote" | "ol" | "ul" | "li" | "task" | "hr" | "br" | "strong" | "em" | "del"
  | "code" | "table" | "thead" | "tbody" | "tr" | "th" | "td" | "link" | "checked" | "unchecked";

export interface Branch {
  tag: Tag;
  kids: Tree[];
  /** Number of the first item of an `ol`. */
  start?: number;
  /** Of a `th` or `td`. */
  align?: "left" | "center" | "right";
  /** Of a `link`: as it was written, not judged yet. */
  href?: string;
}

/** A block of code. */
export interface Code {
  code: string;
  language: string;
}

/** Mathematics: `raw` as it stands in the text, with its delimiters; `tex` what is between them. */
export interface Formula {
  raw: string;
  tex: string;
  display: boolean;
}

export type Tree = string | Branch | Code | Formula;

/** The formulas of trees, in their order. */
export function formulasIn(trees: readonly Tree[], found: Formula[] = []): Formula[] {
  for (const tree of trees) {
    if (typeof tree === "string") continue;
    if ("tex" in tree) found.push(tree);
    else if ("kids" in tree) formulasIn(tree.kids, found);
  }
  return found;
}

/** Two formulas with one key look the same. */
export function keyOf({ tex, display }: Formula): string {
  return `${display ? "display" : "inline"} ${tex}`;
}
