/** One conversation in the list, and what can be done with it. */

import { Component, type VNode } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";

import { titleOf, type Conversation } from "../core/conversation.ts";
import { useServices } from "./context.ts";
import { download } from "./download.ts";
import { Icon } from "./icons.tsx";

interface Props {
  conversation: Conversation;
  /** Whether it is the one on the screen. */
  here: boolean;
  onOpen: () => void;
  /** Called when it was deleted, and its buttons with it. */
  onGone: () => void;
}

/** Drawn again only when it has changed: there may be hundreds, and answers grow many times a second. */
export class Entry extends Component<Props> {
  override shouldComponentUpdate({ conversation, here }: Readonly<Props>): boolean {
    return conversation !== this.props.conversation || here !== this.props.here;
  }

  override render(): VNode {
    return <Row {...this.props} />;
  }
}

function Row({ conversation, here, onOpen, onGone }: Props): VNode {
  const { chat } = useServices();
  const [more, setMore] = useState(false);
  const [renaming, setRenaming] = useState(false);
  const button = useRef<HTMLButtonElement>(null);
  const title = titleOf(conversation);
  const done = () => {
    setRenaming(false);
    setMore(false);
    button.current?.focus();
  };
  return (
    <li class={here ? "here" : undefined}>
      <div class="line">
        <button type="button" class="entry" aria-current={here} title={title} onClick={onOpen}>
          {title}
        </button>
        <button
          ref={button}
          type="button"
          class="quiet"
          aria-label={`More: ${title}`}
          aria-expanded={more}
          onClick={() => {
            setRenaming(false);
            setMore(!more);
          }}
        >
          <Icon name="more" />
        </button>
      </div>
      {more && !renaming && (
        <div class="more">
          <button type="button" class="quiet" aria-label={`Rename: ${title}`} onClick={() => setRenaming(true)}>
            <Icon name="edit" />
            Rename
          </button>
          <button
            type="button"
            class="quiet"
            aria-label={`Export: ${title}`}
            onClick={() => download(chat.export(conversation.id), "conversation")}
          >
            <Icon name="download" />
            Export
          </button>
          <button
            type="button"
            class="quiet"
            aria-label={`Delete: ${title}`}
            onClick={() => {
              chat.remove(conversation.id);
              onGone();
            }}
          >
            <Icon name="trash" />
            Delete
          </button>
        </div>
      )}
      {renaming && <Rename conversation={conversation} onDone={done} />}
    </li>
  );
}

function Rename({ conversation, onDone }: { conversation: Conversation; onDone: () => void }): VNode {
  const { chat } = useServices();
  const [name, setName] = useState(titleOf(conversation));
  const box = useRef<HTMLInputElement>(null);
  useEffect(() => box.current?.select(), []);
  const save = () => {
    if (name !== titleOf(conversation)) chat.rename(conversation.id, name);
    onDone();
  };
  return (
    <form
      class="more"
      onSubmit={(event) => {
        event.preventDefault();
        save();
      }}
    >
      <input
        ref={box}
        aria-label="Name of the conversation"
        placeholder="the first question's words"
        value={name}
        onInput={(event) => setName(event.currentTarget.value)}
        onKeyDown={(event) => {
          if (event.key !== "Escape" || event.isComposing) return;
          event.preventDefault(); // the drawer stays open
          onDone();
        }}
      />
      <button type="submit" class="quiet" aria-label="Save the name">
        <Icon name="check" />
      </button>
    </form>
  );
}
