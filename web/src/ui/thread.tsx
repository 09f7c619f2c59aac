/** The questions and answers of the conversation on the screen. */

import { Component, type VNode } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";

import type { Turn } from "../core/conversation.ts";
import { none } from "../core/versions.ts";
import { Answer } from "./answer.tsx";
import { focusMessage } from "./composer.tsx";
import { useChatState } from "./context.ts";
import { Icon } from "./icons.tsx";
import { Question } from "./question.tsx";

/** So near to the end counts as being there. */
const NEAR_PIXELS = 60;

export function Thread(): VNode {
  const { current } = useChatState();
  const { turns, models } = current;
  const box = useRef<HTMLDivElement>(null);
  const list = useRef<HTMLOListElement>(null);
  const [following, setFollowing] = useState(true);
  useEffect(() => setFollowing(true), [current.id, turns.length]);
  // After every drawing: an answer that grows pulls the view along, unless the reader has gone up.
  useLayoutEffect(() => {
    if (following) box.current?.scrollTo({ top: box.current.scrollHeight });
  });
  // Markdown and mathematics come a moment later than their text, and change its height.
  useLayoutEffect(() => {
    if (!following || list.current === null) return undefined;
    const observer = new ResizeObserver(() => box.current?.scrollTo({ top: box.current.scrollHeight }));
    observer.observe(list.current);
    return () => observer.disconnect();
  }, [following]);
  const onScroll = () => {
    const element = box.current;
    if (element) setFollowing(element.scrollHeight - element.scrollTop - element.clientHeight < NEAR_PIXELS);
  };
  const goToEnd = () => {
    setFollowing(true);
    focusMessage();
  };
  return (
    <div class="thread-box" ref={box} onScroll={onScroll} tabIndex={-1}>
      {turns.length === 0 && <Welcome model={models.join(" and ")} />}
      <ol ref={list} class={models.length > 1 ? "thread two" : "thread"} aria-label="Conversation">
        {turns.map((turn, index) => (
          <TurnItem key={index} turn={turn} models={models} index={index} last={index === turns.length - 1} />
        ))}
      </ol>
      {!following && (
        <button type="button" class="to-end" aria-label="Go to the end" onClick={goToEnd}>
          <Icon name="down" />
        </button>
      )}
    </div>
  );
}

interface TurnProps {
  turn: Turn;
  models: string[];
  index: number;
  last: boolean;
}

/** Drawn again only when it has changed: while one answer grows, all the others stay as they are. */
class TurnItem extends Component<TurnProps> {
  override shouldComponentUpdate(next: Readonly<TurnProps>): boolean {
    const { turn, models, index, last } = this.props;
    return next.turn !== turn || next.models !== models || next.index !== index || next.last !== last;
  }

  override render(): VNode {
    const { turn, models, index, last } = this.props;
    return (
      <li class="turn">
        <Question text={turn.question} others={turn.otherTurns} index={index} />
        <div class="answers">
          {models.map((model, lane) => (
            <Answer
              key={lane}
              answer={turn.answers[lane] ?? null}
              others={turn.otherAnswers[lane] ?? none()}
              {...{ model, lane, index, last }}
            />
          ))}
        </div>
      </li>
    );
  }
}

function Welcome({ model }: { model: string }): VNode {
  return (
    <div class="welcome">
      <h2>{model === "" ? "Chat" : model}</h2>
      <p>Ask a question to begin.</p>
    </div>
  );
}
