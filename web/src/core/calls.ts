/** Calls of tools in an answer. They are shown and never run. Pure. */

export interface ToolCall {
  name: string;
  /** JSON as the model wrote it; a cut-off answer may end in its middle. */
  arguments: string;
}

/** A piece of a call, by its place among the answer's calls. */
export interface CallPiece {
  index: number;
  name: string;
  arguments: string;
}

const MOST_CALLS = 128;

/** The calls with another piece; what is beyond their bound is left out. */
export function withPiece(calls: readonly ToolCall[], piece: CallPiece): ToolCall[] {
  if (!Number.isInteger(piece.index) || piece.index < 0 || piece.index >= MOST_CALLS) return [...calls];
  const all = [...calls];
  while (all.length <= piece.index) all.push({ name: "", arguments: "" });
  const old = all[piece.index] as ToolCall;
  all[piece.index] = { name: old.name + piece.name, arguments: old.arguments + piece.arguments };
  return all;
}

const MOST_CHARACTERS = 50_000;
const DEEPEST = 50;

/**
 * JSON with a line for each member. Only white space changes: numbers and escapes stay as they were written. What is
 * no JSON, or would become too large, stays whole as it is.
 */
export function pretty(text: string): string {
  if (text.length > MOST_CHARACTERS || !isJson(text)) return text;
  let result = "";
  let depth = 0;
  let opened = false;
  for (const [token] of text.matchAll(/"(?:[^"\\]+|\\.)*"|[[\]{},:]|[^\s"[\]{},:]+/g)) {
    if (token === "}" || token === "]") {
      depth -= 1;
      result += opened ? token : line(depth) + token;
      opened = false;
      continue;
    }
    if (opened) result += line(depth);
    opened = token === "{" || token === "[";
    if (opened) depth += 1;
    if (depth > DEEPEST) return text;
    result += token === "," ? `,${line(depth)}` : token === ":" ? ": " : token;
  }
  return result;
}

function line(depth: number): string {
  return `\n${"  ".repeat(depth)}`;
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}
