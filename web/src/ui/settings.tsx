/** How the conversation is answered, and what this browser keeps. */

import type { VNode } from "preact";
import { useState } from "preact/hooks";

import type { Theme } from "../core/preferences.ts";
import { Problem } from "../core/problem.ts";
import { useServices } from "./context.ts";
import { download } from "./download.ts";
import { Modal } from "./modal.tsx";
import { Sampling } from "./sampling.tsx";

const THEMES: [Theme, string][] = [
  ["system", "System"],
  ["light", "Light"],
  ["dark", "Dark"],
];

export function SettingsDialog({ onClose }: { onClose: () => void }): VNode {
  return (
    <Modal title="Settings" onClose={onClose}>
      <Sampling />
      <Browser onClose={onClose} />
    </Modal>
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
        <button type="button" onClick={() => download(chat.export(), "conversations")}>
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
