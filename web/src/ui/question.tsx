/** A question as it was asked; it can be changed and asked again. */

import type { VNode } from "preact";
import { useState } from "preact/hooks";

import { useServices } from "./context.ts";
import { CopyButton } from "./copy.tsx";
import { Icon } from "./icons.tsx";
import { TextBox } from "./textbox.tsx";

export function Question({ text, index }: { text: string; index: number }): VNode {
  const { chat } = useServices();
  const [draft, setDraft] = useState<string | null>(null);
  if (draft === null) {
    return (
      <section class="question" aria-label="You">
        <p class="bubble">{text}</p>
        <div class="actions">
          <CopyButton what="question" text={text} />
          <button type="button" class="quiet" aria-label="Edit question" title="Edit" onClick={() => setDraft(text)}>
            <Icon name="edit" />
          </button>
        </div>
      </section>
    );
  }
  const send = () => {
    if (draft.trim() === "") return;
    setDraft(null);
    chat.edit(index, draft);
  };
  return (
    <section class="question editing" aria-label="You">
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
          onEscape={() => setDraft(null)}
        />
        <div class="actions">
          <button type="button" onClick={() => setDraft(null)}>
            Cancel
          </button>
          <button type="submit" class="primary" disabled={draft.trim() === ""}>
            Send
          </button>
        </div>
      </form>
    </section>
  );
}
