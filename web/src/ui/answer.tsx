/** What one model said, and what can be done with it. */

import type { VNode } from "preact";

import type { Answer as Said } from "../core/conversation.ts";
import { Markdown } from "../markdown/markdown.tsx";
import { focusMessage } from "./composer.tsx";
import { useServices } from "./context.ts";
import { CopyButton } from "./copy.tsx";
import { Icon } from "./icons.tsx";

interface Props {
  answer: Said | null;
  /** The model chosen at this place now. */
  model: string;
  lane: number;
  /** Whether this answers the last question: only that one can be asked again. */
  last: boolean;
}

export function Answer({ answer, model, lane, last }: Props): VNode {
  const { chat } = useServices();
  const name = answer?.model ?? model;
  const again = () => {
    chat.regenerate(lane);
    focusMessage(); // the button is gone
  };
  if (answer === null) {
    return (
      <article class="answer" aria-label={`${name} was not asked`}>
        <p class="who">{name}</p>
        <p class="small">Not asked.</p>
        {last && (
          <button type="button" onClick={again}>
            Ask {model}
          </button>
        )}
      </article>
    );
  }
  const live = answer.state === "streaming";
  const failed = answer.state === "failed";
  return (
    <article class="answer" aria-label={`Answer of ${name}`} aria-busy={live}>
      <p class="who">{name}</p>
      {answer.text === "" && live ? <Waiting /> : <Markdown text={answer.text} live={live} />}
      {answer.note !== "" && (
        <p class={failed ? "problem" : "small"} role={failed ? "alert" : undefined}>
          {failed && <Icon name="warning" />}
          <span>{answer.note}</span>
        </p>
      )}
      {!live && (
        <div class="actions">
          {answer.text !== "" && <CopyButton what="answer" text={answer.text} />}
          {last && (
            <button
              type="button"
              class="quiet"
              aria-label={failed ? "Try again" : "Answer again"}
              title={failed ? "Try again" : "Answer again"}
              onClick={again}
            >
              <Icon name="again" />
              {failed && "Try again"}
            </button>
          )}
          <span class="small">{measured(answer)}</span>
        </div>
      )}
    </article>
  );
}

function Waiting(): VNode {
  return (
    <p class="waiting">
      <span class="hidden">Waiting for the first word</span>
      <i />
      <i />
      <i />
    </p>
  );
}

/** "120 tokens, 45 a second, the first after 0.2 s"; the first token's time is not counted in the rate. */
function measured({ tokens, firstSeconds, seconds }: Said): string {
  if (tokens === null || firstSeconds === null || seconds === null) return "";
  const rate = (tokens - 1) / (seconds - firstSeconds);
  const speed = tokens > 1 && Number.isFinite(rate) ? `, ${rate.toFixed(rate < 10 ? 1 : 0)} a second` : "";
  return `${tokens} ${tokens === 1 ? "token" : "tokens"}${speed}, the first after ${firstSeconds.toFixed(2)} s`;
}
