/** The list of conversations, by day, and a search through them. */

import type { VNode } from "preact";
import { useMemo, useRef, useState } from "preact/hooks";

import { byDay, having } from "../core/days.ts";
import { useChatState, useServices } from "./context.ts";
import { Entry } from "./entry.tsx";
import { Icon } from "./icons.tsx";

/** @param onDone Called after a conversation was chosen or begun. */
export function Sidebar({ onDone }: { onDone: () => void }): VNode {
  const { chat, lasting } = useServices();
  const { conversations, current } = useChatState();
  const [query, setQuery] = useState("");
  const first = useRef<HTMLButtonElement>(null);
  const found = useMemo(() => having(query, conversations), [query, conversations]);
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
      {conversations.length > 0 && (
        <div class="search">
          <Icon name="search" />
          <input
            type="search"
            aria-label="Search conversations"
            placeholder="Search"
            value={query}
            onInput={(event) => setQuery(event.currentTarget.value)}
          />
        </div>
      )}
      <div class="groups">
        {byDay(found).map((group) => (
          <div class="group" key={group.name}>
            <p class="small" id={`group-${group.name.replaceAll(" ", "-")}`}>
              {group.name}
            </p>
            <ul aria-labelledby={`group-${group.name.replaceAll(" ", "-")}`}>
              {group.conversations.map((conversation) => (
                <Entry
                  key={conversation.id}
                  conversation={conversation}
                  here={conversation.id === current.id}
                  onOpen={then(() => chat.open(conversation.id))}
                  onGone={() => first.current?.focus()}
                />
              ))}
            </ul>
          </div>
        ))}
      </div>
      <p class="small" role="status">
        {query.trim() !== "" && (found.length === 0 ? "Nothing has these words." : `${found.length} found`)}
      </p>
      <p class="small">
        {lasting
          ? "Conversations are kept in this browser only."
          : "This browser keeps nothing for this page: conversations end when it is closed."}
      </p>
    </nav>
  );
}
