/** Text as it is written, in pieces: while it grows, only the last one is laid out again. */

import type { VNode } from "preact";

const PIECE = 4_000;

/** @param kind "waiting": it may become something better in a moment; "growing": that, at the end of a growing answer. */
export function Plain({ text, kind = "" }: { text: string; kind?: "" | "waiting" | "growing" }): VNode {
  const [first = "", ...others] = inPieces(text);
  if (others.length === 0) return <p class={`plain ${kind}`}>{first}</p>;
  return (
    <div class={`plain ${kind}`}>
      {[first, ...others].map((piece, index) => (
        <p key={index}>{piece}</p>
      ))}
    </div>
  );
}

/** Cut behind a line or a word where there is one; what the pieces are does not change as the text grows. */
export function inPieces(text: string): string[] {
  const pieces: string[] = [];
  let from = 0;
  while (text.length - from > PIECE) {
    const most = text.slice(from, from + PIECE);
    const line = most.lastIndexOf("\n");
    const cut = line > 0 ? line : most.lastIndexOf(" ");
    const end = cut > 0 ? from + cut + 1 : from + PIECE;
    pieces.push(text.slice(from, line > 0 ? end - 1 : end));
    from = end;
  }
  pieces.push(text.slice(from));
  return pieces;
}
