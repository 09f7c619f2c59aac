/** Text files that become a part of a message. */

import { Problem } from "./problem.ts";

/** A model reads no more than its context, and a browser keeps no more than some MB in all. */
const MOST_BYTES = 200_000;

/** A file as a block of code under its name. Throws Problem where it is too large or no text. */
export async function attached(file: File): Promise<string> {
  if (file.size > MOST_BYTES) {
    throw new Problem(`${file.name} has ${Math.ceil(file.size / 1000)} kB, and ${MOST_BYTES / 1000} are the most. Attach a part of it.`);
  }
  return asBlock(file.name, textOf(file.name, await file.arrayBuffer()));
}

function textOf(name: string, bytes: ArrayBuffer): string {
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    if (!text.includes("\0")) return text;
  } catch {
    // Said below.
  }
  throw new Problem(`${name} is no text in UTF-8, and models here read nothing else. Attach another file.`);
}

/** The fence is longer than any in the text, so that the text cannot end it. */
export function asBlock(name: string, text: string): string {
  const longest = Math.max(2, ...(text.match(/`{3,}/g) ?? []).map((ticks) => ticks.length));
  const fence = "`".repeat(longest + 1);
  return `${name}:\n${fence}\n${text.endsWith("\n") || text === "" ? text : `${text}\n`}${fence}\n`;
}
