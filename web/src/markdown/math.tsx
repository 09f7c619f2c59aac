/** Mathematics as elements: MathML where it could be set, else the text as it was written. */

import { h, type VNode } from "preact";

import type { MathTree } from "../math/typeset.ts";
import type { Formula } from "./tree.ts";

/** Characters of TeX; a longer formula in a line may be wider than a telephone, and scrolls. */
const LONG = 60;

export function MathText({ formula, tree }: { formula: Formula; tree: MathTree | null }): VNode {
  const kind = formula.display ? "math display" : formula.tex.length > LONG ? "math long" : "math";
  if (tree === null) return <span class={`${kind} source`}>{formula.raw}</span>;
  // Wide formulas scroll; so that keys can do that too, they can be reached.
  const scrolling = formula.display ? ({ tabIndex: 0, role: "group", "aria-label": "Formula" } as const) : {};
  return (
    <span class={kind} {...scrolling}>
      {element(tree)}
    </span>
  );
}

function element(tree: MathTree): VNode | string {
  return typeof tree === "string" ? tree : h(tree.tag, tree.attributes, tree.kids.map(element));
}
