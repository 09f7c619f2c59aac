/** One answer under way: from the request to the last word, or to the sentence that says why there is none. */

import { streamChat, type ChatRequest } from "./api.ts";
import type { Answer } from "./conversation.ts";
import { Growing } from "./growing.ts";
import { Problem } from "./problem.ts";

/** Text is shown this often; a long answer, whose text is compared and cut into blocks each time, less often. */
const SHOW_MILLISECONDS = 50;
const CHARACTERS_PER_MILLISECOND = 500;

/** Why a run begins: a question was asked, it is to be answered once more, or its answer is to go on where it ended. */
export type Way = "first" | "again" | "continue";

export class Run {
  private readonly controller = new AbortController();
  private readonly growing: Growing;

  /**
   * @param conversation Id of the conversation that the answer belongs to.
   * @param before The answer that goes on, or one without a word.
   */
  constructor(
    public conversation: string,
    readonly turn: number,
    readonly lane: number,
    readonly way: Way,
    readonly before: Answer,
  ) {
    const started = performance.now();
    this.growing = new Growing(before, () => (performance.now() - started) / 1000);
  }

  /** Ends the stream; returns what there is of the answer. */
  stop(): Answer {
    this.controller.abort();
    return { ...this.growing.answer(false), state: "stopped", note: "Stopped." };
  }

  /**
   * Streams the answer and shows it as it grows; the last one shown is also returned, never in state "streaming".
   * Throws only a Problem that asks for another key, before there is any text.
   */
  async answer(request: ChatRequest, key: string | null, show: (answer: Answer) => void): Promise<Answer> {
    const { growing } = this;
    let timer: ReturnType<typeof setTimeout> | undefined;
    let end: Answer | null = null;
    show(growing.answer(true));
    try {
      for await (const piece of streamChat(request, key, this.controller.signal)) {
        growing.add(piece);
        timer ??= setTimeout(
          () => {
            timer = undefined;
            show(growing.answer(true));
          },
          Math.max(SHOW_MILLISECONDS, growing.length / CHARACTERS_PER_MILLISECOND),
        );
      }
      end = { ...growing.answer(false), state: "done" };
    } catch (error) {
      if (this.controller.signal.aborted) end = this.stop();
      else if (error instanceof Problem) end = failed(growing.answer(false), error.message);
      if (end === null || (error instanceof Problem && error.needsKey)) throw error;
    } finally {
      clearTimeout(timer);
      show(end ?? failed(growing.answer(false), "The page failed. Reload it."));
    }
    return end;
  }
}

function failed(answer: Answer, why: string): Answer {
  const came = answer.text !== "" || answer.reasoning !== "" || answer.calls.length > 0;
  return { ...answer, state: "failed", note: came ? `${why} What came is kept.` : why };
}
