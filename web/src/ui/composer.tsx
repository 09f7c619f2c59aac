/** Where the next question is written. */

import type { VNode } from "preact";
import { useState } from "preact/hooks";

import type { Settings } from "../core/conversation.ts";
import { useChatState, useServices } from "./context.ts";
import { stateOf } from "./header.tsx";
import { Icon } from "./icons.tsx";
import { isTouch, TextBox } from "./textbox.tsx";

const MESSAGE_ID = "message";

/** Puts the focus where the next question is written; not on a phone, where that would bring up the keyboard. */
export function focusMessage(): void {
  if (!isTouch()) document.getElementById(MESSAGE_ID)?.focus();
}

export function Composer({ onSettings }: { onSettings: () => void }): VNode {
  const { chat, preferences } = useServices();
  const { current, models } = useChatState();
  const [text, setText] = useState(preferences.draft);
  const change = (value: string) => {
    setText(value);
    preferences.draft = value;
  };
  const { busy } = chat;
  const ready = text.trim() !== "" && current.models.every((name) => name !== "");
  const send = () => {
    if (busy || !ready) return;
    chat.ask(text);
    change("");
  };
  const waiting = current.models.flatMap((name) => {
    const model = models?.find(({ id }) => id === name);
    const state = stateOf(model, models);
    return state?.kind === "bad" && name !== "" ? [`${name}: ${model?.message || state.text}`] : [];
  });
  return (
    <form
      class="composer"
      onSubmit={(event) => {
        event.preventDefault();
        if (busy) chat.stop();
        else send();
      }}
    >
      {waiting.length > 0 && <p class="small">{waiting.join(" · ")}</p>}
      <div class="writing">
        <TextBox
          id={MESSAGE_ID}
          label="Message"
          placeholder="Write a message"
          value={text}
          focus={!isTouch()}
          onInput={change}
          onEnter={send}
          onEscape={() => chat.stop()}
        />
        <button
          type="submit"
          class="primary round"
          aria-label={busy ? "Stop" : "Send"}
          title={busy ? "Stop" : "Send"}
          disabled={!busy && !ready}
        >
          <Icon name={busy ? "stop" : "send"} />
        </button>
      </div>
      <button type="button" class="summary" onClick={onSettings}>
        {summary(current.settings)}
      </button>
    </form>
  );
}

function summary({ system, temperature, topP, maxTokens }: Settings): string {
  const parts = [
    ...(system.trim() === "" ? [] : ["with a system prompt"]),
    ...(temperature === null ? [] : [`temperature ${temperature}`]),
    ...(topP === null ? [] : [`top-p ${topP}`]),
    ...(maxTokens === null ? [] : [`at most ${maxTokens} tokens`]),
  ];
  return parts.length === 0 ? "Default settings" : parts.join(" · ");
}
