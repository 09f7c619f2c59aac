/** The list of conversations. */

import type { VNode } from "preact";
import { useRef } from "preact/hooks";

import { titleOf } from "../core/conversation.ts";
import { useChatState, useServices } from "./context.ts";
import { Icon } from "./icons.tsx";

/** @param onDone Called after a conversation was chosen or begun. */
export function Sidebar({ onDone }: { onDone: () => void }): VNode {
  const { chat, lasting } = useServices();
  const { conversations, current } = useChatState();
  const first = useRef<HTMLButtonElement>(null);
  const then = (action: () => void) => () => {
    action();
    onDone();
  };
  return (
    <nav class="sidebar" aria-label="Conversations">
      <button ref={first} type="button" class="primary wide" onClick={then(() => chat.startNew())}>
        <Icon name="plus" />
        New conversation
      </button>
      <ul>
        {conversations.map((conversation) => {
          const title = titleOf(conversation);
          const here = conversation.id === current.id;
          return (
            <li key={conversation.id} class={here ? "here" : undefined}>
              <button type="button" class="entry" aria-current={here} onClick={then(() => chat.open(conversation.id))}>
                {title}
              </button>
              <button
                type="button"
                class="quiet"
                aria-label={`Delete conversation: ${title}`}
                onClick={() => {
                  chat.remove(conversation.id);
                  first.current?.focus(); // the button is gone
                }}
              >
                <Icon name="trash" />
              </button>
            </li>
          );
        })}
      </ul>
      <p class="small">
        {lasting
          ? "Conversations are kept in this browser only."
          : "This browser keeps nothing for this page: conversations end when it is closed."}
      </p>
    </nav>
  );
}
