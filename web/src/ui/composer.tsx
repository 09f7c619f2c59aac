/** Where the next question is written. */

import type { VNode } from "preact";
import { useState } from "preact/hooks";

import { attached } from "../core/attachment.ts";
import type { Conversation } from "../core/conversation.ts";
import { stateOf, type Model } from "../core/models.ts";
import { Problem } from "../core/problem.ts";
import { summaryOf } from "../core/settings.ts";
import { useChatState, useServices } from "./context.ts";
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
  // To the text as it is when the file has been read.
  const attach = (block: string) =>
    setText((old) => {
      const whole = old.trim() === "" ? block : `${old.trimEnd()}\n\n${block}`;
      preferences.draft = whole;
      return whole;
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
      <Waiting current={current} models={models} />
      <div class="writing">
        <Attach onText={attach} />
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
          {isTouch() && <span>{busy ? "Stop" : "Send"}</span>}
        </button>
      </div>
      <div class="below">
        <button type="button" class="summary" onClick={onSettings}>
          <Icon name="settings" />
          {summaryOf(current.settings) || "Settings: the defaults"}
        </button>
        <Fullness current={current} models={models} />
      </div>
    </form>
  );
}

/** Why a model that was chosen cannot answer now. */
function Waiting({ current, models }: { current: Conversation; models: Model[] | null }): VNode | null {
  const waiting = current.models.flatMap((name) => {
    const model = models?.find(({ id }) => id === name);
    const state = stateOf(model, models);
    return state?.kind === "bad" && name !== "" ? [`${name}: ${model?.message || state.text}`] : [];
  });
  return waiting.length === 0 ? null : <p class="small">{waiting.join(" · ")}</p>;
}

const NEARLY_FULL = 0.8;

/** How much of the model's context the conversation takes, where the server says both. */
function Fullness({ current, models }: { current: Conversation; models: Model[] | null }): VNode | null {
  const [name] = current.models;
  const context = models?.find(({ id }) => id === name)?.context ?? null;
  const tokens = current.turns.findLast((turn) => turn.answers[0]?.contextTokens)?.answers[0]?.contextTokens ?? null;
  if (context === null || tokens === null) return null;
  const part = tokens / context;
  const numbers = `${tokens.toLocaleString("en")} of ${context.toLocaleString("en")} tokens`;
  return (
    <span class={part < NEARLY_FULL ? "small" : "small full"} title={numbers}>
      Context {Math.round(part * 100)} % full<span class="hidden">: {numbers}</span>
    </span>
  );
}

/** Adds a text file to the message; what cannot be added is said beside the box. */
function Attach({ onText }: { onText: (block: string) => void }): VNode {
  const [problem, setProblem] = useState("");
  const read = async (input: HTMLInputElement) => {
    const files = [...(input.files ?? [])];
    input.value = "";
    setProblem("");
    try {
      for (const file of files) onText(await attached(file));
    } catch (error) {
      setProblem(error instanceof Problem ? error.message : "The file cannot be read; choose another one.");
    }
    focusMessage();
  };
  return (
    <>
      <label class="button quiet attach" title="Attach a text file">
        <Icon name="attach" />
        <input
          type="file"
          class="hidden"
          multiple
          aria-label="Attach a text file"
          onChange={(event) => void read(event.currentTarget)}
        />
      </label>
      {problem !== "" && (
        <p class="small wrong" role="alert">
          {problem}
        </p>
      )}
    </>
  );
}
