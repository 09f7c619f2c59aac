/** Sentences above the composer: what is wrong with the page as a whole, and what can be undone. */

import type { VNode } from "preact";

import { focusMessage } from "./composer.tsx";
import { useChatState, useServices } from "./context.ts";
import { Icon } from "./icons.tsx";

export function Notices(): VNode {
  const { chat } = useServices();
  const { modelsProblem, storageProblem, undo } = useChatState();
  const then = (action: () => void) => () => {
    action();
    focusMessage(); // the button is gone
  };
  return (
    <div class="notices">
      {modelsProblem !== "" && (
        <div class="problem" role="alert">
          <Icon name="warning" />
          <span>{modelsProblem}</span>
          <button type="button" onClick={() => void chat.refreshModels(true)}>
            Try again
          </button>
        </div>
      )}
      {storageProblem !== "" && (
        <div class="problem" role="alert">
          <Icon name="warning" />
          <span>{storageProblem}</span>
        </div>
      )}
      <div role="status">
        {undo && (
          <div class="notice">
            <span>{undo.what}</span>
            <button type="button" onClick={then(() => chat.undo())}>
              Undo
            </button>
            <button type="button" class="quiet" aria-label="Dismiss" onClick={then(() => chat.dismissUndo())}>
              <Icon name="close" />
            </button>
          </div>
        )}
      </div>
    </div>
  );
}
