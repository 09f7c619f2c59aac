/** How the conversation is answered, and what this browser keeps. */

import type { VNode } from "preact";
import { useState } from "preact/hooks";

import type { Theme } from "../core/preferences.ts";
import { Problem } from "../core/problem.ts";
import { useChatState, useServices } from "./context.ts";
import { Modal } from "./modal.tsx";

const THEMES: [Theme, string][] = [
  ["system", "System"],
  ["light", "Light"],
  ["dark", "Dark"],
];

export function SettingsDialog({ onClose }: { onClose: () => void }): VNode {
  return (
    <Modal title="Settings" onClose={onClose}>
      <Conversation />
      <Browser onClose={onClose} />
    </Modal>
  );
}

function Conversation(): VNode {
  const { chat } = useServices();
  const { settings } = useChatState().current;
  return (
    <section>
      <h3>This conversation</h3>
      <label>
        System prompt
        <textarea
          rows={4}
          value={settings.system}
          placeholder="The model's own"
          onInput={(event) => chat.setSettings({ ...settings, system: event.currentTarget.value })}
        />
      </label>
      <div class="numbers">
        <NumberField
          label="Temperature"
          hint="0 to 2; 0 gives the likeliest words"
          {...{ least: 0, most: 2, step: 0.05, value: settings.temperature }}
          onChange={(temperature) => chat.setSettings({ ...settings, temperature })}
        />
        <NumberField
          label="Top-p"
          hint="above 0, up to 1"
          {...{ least: 0.01, most: 1, step: 0.01, value: settings.topP }}
          onChange={(topP) => chat.setSettings({ ...settings, topP })}
        />
        <NumberField
          label="Max tokens"
          hint="longest answer, 1 or more"
          {...{ least: 1, most: 1_000_000, step: 1, value: settings.maxTokens }}
          onChange={(maxTokens) => chat.setSettings({ ...settings, maxTokens })}
        />
      </div>
      <p class="small">What is empty is left to the model. A new conversation begins with these settings.</p>
    </section>
  );
}

interface NumberProps {
  label: string;
  hint: string;
  least: number;
  most: number;
  step: number;
  value: number | null;
  onChange: (value: number | null) => void;
}

/** Passes on what is within the limits; anything else is marked and changes nothing. */
function NumberField({ label, hint, least, most, step, value, onChange }: NumberProps): VNode {
  const [text, setText] = useState(value === null ? "" : String(value));
  const [wrong, setWrong] = useState(false);
  const input = (element: HTMLInputElement) => {
    setText(element.value);
    const number = element.value.trim() === "" ? null : Number(element.value.replace(",", "."));
    const whole = step < 1 || number === null || Number.isInteger(number);
    const valid = number === null || (whole && number >= least && number <= most);
    setWrong(!valid);
    if (valid) onChange(number);
  };
  const id = `hint-${label.replace(/\W/g, "")}`;
  return (
    <label>
      {label}
      <input
        type="text"
        inputMode="decimal"
        autocomplete="off"
        value={text}
        placeholder="default"
        aria-describedby={id}
        aria-invalid={wrong}
        onInput={(event) => input(event.currentTarget)}
      />
      <span id={id} class={wrong ? "small wrong" : "small"} role={wrong ? "alert" : undefined}>
        {wrong ? `Must be ${hint.split(";")[0]}` : hint}
      </span>
    </label>
  );
}

function Browser({ onClose }: { onClose: () => void }): VNode {
  const { chat, preferences } = useServices();
  const [theme, setTheme] = useState(preferences.theme);
  const [said, setSaid] = useState("");
  const choose = (value: Theme) => {
    preferences.theme = value;
    setTheme(value);
  };
  const importFile = async (input: HTMLInputElement) => {
    const file = input.files?.[0];
    if (file === undefined) return;
    try {
      const count = chat.importAll(await file.text());
      setSaid(`${count} ${count === 1 ? "conversation" : "conversations"} added.`);
    } catch (error) {
      setSaid(error instanceof Problem ? error.message : "The file cannot be read; choose another one.");
    }
    input.value = "";
  };
  return (
    <section>
      <h3>This browser</h3>
      <fieldset>
        <legend>Theme</legend>
        {THEMES.map(([value, label]) => (
          <label class="choice" key={value}>
            <input type="radio" name="theme" checked={theme === value} onChange={() => choose(value)} />
            {label}
          </label>
        ))}
      </fieldset>
      <div class="row">
        <button
          type="button"
          onClick={() => {
            onClose();
            chat.askForKey("Enter the API key of this server. It is kept in this browser only.");
          }}
        >
          {preferences.key === null ? "Enter an API key" : "Change the API key"}
        </button>
        <button type="button" onClick={() => download(chat.exportAll())}>
          Export conversations
        </button>
        <label class="button">
          Import conversations
          <input
            type="file"
            class="hidden"
            accept="application/json,.json"
            onChange={(event) => void importFile(event.currentTarget)}
          />
        </label>
      </div>
      <p class="small" role="status">
        {said}
      </p>
      <p class="small">
        <a href="assets/licenses.txt" target="_blank" rel="noopener">
          Licences of the software in this page
        </a>
      </p>
    </section>
  );
}

function download(text: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  link.download = `vicuna-conversations-${new Date().toISOString().slice(0, 10)}.json`;
  link.click();
  URL.revokeObjectURL(link.href);
}
