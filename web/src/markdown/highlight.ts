/** Colours for code: source text to a tree of spans. Only languages that models write often. */

import { createLowlight } from "lowlight";
import bash from "highlight.js/lib/languages/bash";
import c from "highlight.js/lib/languages/c";
import cpp from "highlight.js/lib/languages/cpp";
import csharp from "highlight.js/lib/languages/csharp";
import css from "highlight.js/lib/languages/css";
import diff from "highlight.js/lib/languages/diff";
import go from "highlight.js/lib/languages/go";
import java from "highlight.js/lib/languages/java";
import javascript from "highlight.js/lib/languages/javascript";
import json from "highlight.js/lib/languages/json";
import python from "highlight.js/lib/languages/python";
import rust from "highlight.js/lib/languages/rust";
import shell from "highlight.js/lib/languages/shell";
import sql from "highlight.js/lib/languages/sql";
import typescript from "highlight.js/lib/languages/typescript";
import xml from "highlight.js/lib/languages/xml";
import yaml from "highlight.js/lib/languages/yaml";

/** Longer code is shown plain: colouring it would hold up the page. */
const MOST_CHARACTERS = 50_000;

const lowlight = createLowlight({
  ...{ bash, c, cpp, csharp, css, diff, go, java, javascript, json },
  ...{ python, rust, shell, sql, typescript, xml, yaml },
});

/** A piece of text with the classes of its kind ("hljs-keyword"), or none. */
export interface Span {
  classes: string;
  text: string;
}

/** The code in coloured pieces, or null where the language is not known. */
export function highlight(code: string, language: string): Span[] | null {
  if (code.length > MOST_CHARACTERS || !lowlight.registered(language)) return null;
  try {
    return flat(lowlight.highlight(language, code).children, "");
  } catch {
    return null; // a grammar that fails on odd input must not take the answer with it
  }
}

interface Node {
  type: string;
  value?: string;
  properties?: { className?: unknown };
  children?: Node[];
}

function flat(nodes: readonly object[], classes: string): Span[] {
  return (nodes as Node[]).flatMap((node) => {
    if (node.type === "text") return [{ classes, text: node.value ?? "" }];
    const own = node.properties?.className;
    // The innermost kind decides the colour.
    return flat(node.children ?? [], Array.isArray(own) ? own.join(" ") : classes);
  });
}
