/** What one model said, and what can be done with it. */

import type { VNode } from "preact";

import { canContinue, type Answer as Said } from "../core/conversation.ts";
import { measured } from "../core/measured.ts";
import type { Others } from "../core/versions.ts";
import { Markdown } from "../markdown/markdown.tsx";
import { focusMessage } from "./composer.tsx";
import { useServices } from "./context.ts";
import { CopyButton } from "./copy.tsx";
import { Calls, Thoughts } from "./fold.tsx";
import { Icon, type IconName } from "./icons.tsx";
import { Versions } from "./versions.tsx";

interface Props {
  answer: Said | null;
  others: Others<Said>;
  /** The model chosen at this place now. */
  model: string;
  lane: number;
  index: number;
  /** Whether this answers the last question: only that one can be asked again. */
  last: boolean;
}

export function Answer(props: Props): VNode {
  const { answer, model, lane, last } = props;
  const { chat } = useServices();
  if (answer === null) {
    return (
      <article class="answer" aria-label={`${model} was not asked`}>
        <p class="who">{model}</p>
        <p class="small">Not asked.</p>
        {last && (
          <button
            type="button"
            onClick={() => {
              chat.answerLast(lane, "again");
              focusMessage(); // the button is gone
            }}
          >
            Ask {model}
          </button>
        )}
      </article>
    );
  }
  const live = answer.state === "streaming";
  const failed = answer.state === "failed";
  const silent = answer.text === "" && answer.calls.length === 0;
  return (
    <article class="answer" aria-label={`Answer of ${answer.model}`} aria-busy={live}>
      <p class="who">{answer.model}</p>
      <Thoughts answer={answer} />
      {live && silent ? <Waiting /> : <Markdown text={answer.text} live={live} />}
      <Calls calls={answer.calls} />
      {answer.note !== "" && (
        <p class={failed ? "problem" : "small"} role={failed ? "alert" : undefined}>
          {failed && <Icon name="warning" />}
          <span>{answer.note}</span>
        </p>
      )}
      {!live && <Actions {...props} answer={answer} />}
    </article>
  );
}

function Actions({ answer, others, lane, index, last }: Props & { answer: Said }): VNode {
  const { chat } = useServices();
  const failed = answer.state === "failed";
  const button = (way: "again" | "continue", label: string, icon: IconName, text: string) => (
    <button
      type="button"
      class="quiet"
      aria-label={label}
      title={label}
      onClick={() => {
        chat.answerLast(lane, way);
        focusMessage(); // the button is gone
      }}
    >
      <Icon name={icon} />
      {text}
    </button>
  );
  return (
    <div class="actions">
      <Versions what="answer" others={others} onChoose={(place) => chat.showAnswer(index, lane, place)} />
      {answer.text !== "" && <CopyButton what="answer" text={answer.text} />}
      {last && canContinue(answer) && button("continue", "Continue", "continue", "Continue")}
      {last && (failed ? button("again", "Try again", "again", "Try again") : button("again", "Answer again", "again", ""))}
      <span class="small">{measured(answer)}</span>
    </div>
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
