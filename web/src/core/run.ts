/** One answer under way: from the request to the last word, or to the sentence that says why there is none. */

import { streamChat, type ChatRequest } from "./api.ts";
import type { Answer } from "./conversation.ts";
import { Problem } from "./problem.ts";

/** Text is shown this often; a long answer, whose text is compared and cut into blocks each time, less often. */
const SHOW_MILLISECONDS = 50;
const CHARACTERS_PER_MILLISECOND = 500;

const CUT_OFF = "The answer was cut off at the limit of its length.";

export class Run {
  private readonly controller = new AbortController();

  /** @param conversation Id of the conversation that the answer belongs to. */
  constructor(
    public conversation: string,
    readonly turn: number,
    readonly lane: number,
  ) {}

  stop(): void {
    this.controller.abort();
  }

  /**
   * Streams the answer and shows it as it grows; the last one shown is also returned, never in state "streaming".
   * Throws only a Problem that asks for another key, before there is any text.
   */
  async answer(request: ChatRequest, key: string | null, show: (answer: Answer) => void): Promise<Answer> {
    const started = performance.now();
    const since = () => (performance.now() - started) / 1000;
    let answer: Answer = {
      ...{ model: request.model, text: "", state: "streaming", note: "" },
      ...{ tokens: null, firstSeconds: null, seconds: null },
    };
    let timer: ReturnType<typeof setTimeout> | undefined;
    show(answer);
    try {
      for await (const piece of streamChat(request, key, this.controller.signal)) {
        if ("text" in piece) {
          answer = { ...answer, text: answer.text + piece.text, firstSeconds: answer.firstSeconds ?? since() };
          timer ??= setTimeout(
            () => {
              timer = undefined;
              show(answer);
            },
            Math.max(SHOW_MILLISECONDS, answer.text.length / CHARACTERS_PER_MILLISECOND),
          );
        } else if ("tokens" in piece) {
          answer = { ...answer, tokens: piece.tokens };
        } else if (piece.finish === "length") {
          answer = { ...answer, note: CUT_OFF };
        }
      }
      answer = { ...answer, state: "done", seconds: since() };
    } catch (error) {
      if (this.controller.signal.aborted) answer = { ...answer, state: "stopped", note: "Stopped." };
      else if (error instanceof Problem) {
        const note = answer.text === "" ? error.message : `${error.message} What came is kept.`;
        answer = { ...answer, state: "failed", note };
        if (error.needsKey) throw error;
      } else throw error;
    } finally {
      clearTimeout(timer);
      show(answer.state === "streaming" ? { ...answer, state: "failed", note: "The page failed. Reload it." } : answer);
    }
    return answer;
  }
}
