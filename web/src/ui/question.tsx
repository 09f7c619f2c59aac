/** A question as it was asked; it can be changed and asked again. */

import type { VNode } from "preact";
import { useLayoutEffect, useRef, useState } from "preact/hooks";

import type { Others } from "../core/versions.ts";
import { focusMessage } from "./composer.tsx";
import { useServices } from "./context.ts";
import { CopyButton } from "./copy.tsx";
import { Icon } from "./icons.tsx";
import { TextBox } from "./textbox.tsx";
import { Versions } from "./versions.tsx";

interface Props {
  text: string;
  others: Others<unknown>;
  index: number;
}

export function Question({ text, others, index }: Props): VNode {
  const { chat } = useServices();
  const [draft, setDraft] = useState<string | null>(null);
  const button = useRef<HTMLButtonElement>(null);
  const cancelled = useRef(false);
  useLayoutEffect(() => {
    if (draft === null && cancelled.current) button.current?.focus();
    cancelled.current = false;
  }, [draft === null]);
  if (draft === null) {
    return (
      <div class="question" role="group" aria-label={`Question ${index + 1}`}>
        <p class="bubble">{text}</p>
        <div class="actions">
          <Versions what="question" others={others} onChoose={(place) => chat.showQuestion(index, place)} />
          <CopyButton what="question" text={text} />
          <button
            ref={button}
            type="button"
            class="quiet"
            aria-label="Edit question"
            title="Edit"
            onClick={() => setDraft(text)}
          >
            <Icon name="edit" />
          </button>
        </div>
      </div>
    );
  }
  const send = () => {
    if (draft.trim() === "") return;
    setDraft(null);
    chat.edit(index, draft);
    focusMessage();
  };
  const cancel = () => {
    cancelled.current = true;
    setDraft(null);
  };
  return (
    <div class="question editing" role="group" aria-label={`Question ${index + 1}`}>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          send();
        }}
      >
        <TextBox
          label="Edit question"
          value={draft}
          focus
          onInput={setDraft}
          onEnter={send}
          onEscape={cancel}
        />
        <div class="actions">
          <button type="button" onClick={cancel}>
            Cancel
          </button>
          <button type="submit" class="primary" disabled={draft.trim() === ""}>
            Send
          </button>
        </div>
      </form>
    </div>
  );
}
