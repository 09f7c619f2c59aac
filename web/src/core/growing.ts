/** An answer that grows by the pieces of a stream. */

import { withPiece } from "./calls.ts";
import type { Answer } from "./conversation.ts";
import type { Piece } from "./pieces.ts";
import { splitThinking } from "./thinking.ts";

const CUT_OFF = "The answer was cut off at the limit of its length.";

/** What an answer is before its first word. */
export function emptyAnswer(model: string): Answer {
  return {
    ...{ model, text: "", reasoning: "", thoughtSeconds: null, calls: [], state: "streaming", note: "", cut: false },
    ...{ tokens: null, contextTokens: null, firstSeconds: null, seconds: null },
  };
}

export class Growing {
  /** What came as text, maybe with thoughts between marks, and what came as thoughts. */
  private content = "";
  private thoughts = "";
  private rest: Answer;
  private firstSeconds: number | null = null;
  private thoughtSeconds: number | null = null;

  /**
   * @param before The answer that goes on, or one without a word.
   * @param seconds The time since the request.
   */
  constructor(
    private readonly before: Answer,
    private readonly seconds: () => number,
  ) {
    this.rest = { ...before, state: "streaming", note: "", cut: false, tokens: null };
  }

  /** Characters so far. */
  get length(): number {
    return this.before.text.length + this.content.length + this.thoughts.length;
  }

  add(piece: Piece): void {
    if ("finish" in piece) {
      if (piece.finish === "length") this.rest = { ...this.rest, cut: true, note: CUT_OFF };
    } else if ("tokens" in piece) {
      const earlier = this.before.text === "" ? 0 : this.before.tokens;
      const tokens = earlier === null ? null : earlier + piece.tokens;
      this.rest = { ...this.rest, tokens, contextTokens: piece.contextTokens };
    } else {
      this.firstSeconds ??= this.seconds();
      if ("reasoning" in piece) this.thoughts += piece.reasoning;
      else if ("text" in piece) this.content += piece.text;
      else this.rest = { ...this.rest, calls: withPiece(this.rest.calls, piece.call) };
    }
  }

  /** The answer up to now; the time it thinks is taken here, since marks in a text cannot be looked for at each piece. */
  answer(live: boolean): Answer {
    const { before, rest } = this;
    const { reasoning, text } = splitThinking(this.content, live);
    const thoughts = [this.thoughts, reasoning].filter((one) => one !== "");
    const since = thoughts.length > 0 && this.firstSeconds !== null ? this.seconds() - this.firstSeconds : null;
    const thought = this.thoughtSeconds ?? since;
    if (!live || text !== "" || rest.calls.length > before.calls.length) this.thoughtSeconds = thought;
    return {
      ...rest,
      text: before.text + text,
      reasoning: [...(before.reasoning === "" ? [] : [before.reasoning]), ...thoughts].join("\n\n"),
      thoughtSeconds: thought === null ? before.thoughtSeconds : (before.thoughtSeconds ?? 0) + thought,
      firstSeconds: this.firstSeconds === null ? before.firstSeconds : (before.firstSeconds ?? 0) + this.firstSeconds,
      seconds: live ? null : (before.seconds ?? 0) + this.seconds(),
    };
  }
}
