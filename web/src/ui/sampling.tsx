/** How the conversation on the screen is answered. */

import type { VNode } from "preact";
import { useState } from "preact/hooks";

import {
  areStops,
  isWithin,
  linesOf,
  LONGEST_STOP,
  MOST_STOPS,
  NUMBERS,
  PLAIN,
  stopsFrom,
  summaryOf,
  type NumberName,
  type Settings,
} from "../core/settings.ts";
import { useChatState, useServices } from "./context.ts";

const SHOWN: NumberName[] = ["temperature", "topP", "maxTokens"];
const FOLDED: NumberName[] = ["seed", "presencePenalty", "frequencyPenalty", "repetitionPenalty"];

export function Sampling(): VNode {
  const { chat } = useServices();
  const { settings } = useChatState().current;
  const [reset, setReset] = useState(0);
  const change = (part: Partial<Settings>) => chat.setSettings({ ...settings, ...part });
  const folded = summaryOf({ ...settings, system: "", temperature: null, topP: null, maxTokens: null });
  const numbers = (names: NumberName[]) => (
    <div class="numbers">
      {names.map((name) => (
        <NumberField key={name} name={name} value={settings[name]} onChange={(value) => change({ [name]: value })} />
      ))}
    </div>
  );
  return (
    <section key={reset}>
      <h3>This conversation</h3>
      <label>
        System prompt
        <textarea
          rows={4}
          value={settings.system}
          placeholder="The model's own"
          onInput={(event) => change({ system: event.currentTarget.value })}
        />
      </label>
      {numbers(SHOWN)}
      <details class="fold">
        <summary>More{folded === "" ? ": seed, penalties, stop texts" : `: ${folded}`}</summary>
        <div class="folded">
          {numbers(FOLDED)}
          <StopField stop={settings.stop} onChange={(stop) => change({ stop })} />
        </div>
      </details>
      <div class="row">
        <button
          type="button"
          disabled={summaryOf(settings) === ""}
          onClick={() => {
            chat.setSettings(PLAIN);
            setReset(reset + 1); // the fields begin anew
          }}
        >
          Use the defaults
        </button>
      </div>
      <p class="small">
        What is empty is left to the model: those are the defaults. A new conversation begins with these settings.
      </p>
    </section>
  );
}

interface NumberProps {
  name: NumberName;
  value: number | null;
  onChange: (value: number | null) => void;
}

/** Passes on what is within the limits; anything else is marked and changes nothing. */
function NumberField({ name, value, onChange }: NumberProps): VNode {
  const { label, hint } = NUMBERS[name];
  const [text, setText] = useState(value === null ? "" : String(value));
  const [wrong, setWrong] = useState(false);
  const input = (element: HTMLInputElement) => {
    setText(element.value);
    const number = element.value.trim() === "" ? null : Number(element.value.replace(",", "."));
    const valid = number === null || isWithin(name, number);
    setWrong(!valid);
    if (valid) onChange(number);
  };
  return (
    <label>
      {label}
      <input
        type="text"
        inputMode="decimal"
        autocomplete="off"
        value={text}
        placeholder="default"
        aria-describedby={`hint-${name}`}
        aria-invalid={wrong}
        onInput={(event) => input(event.currentTarget)}
      />
      <span id={`hint-${name}`} class={wrong ? "small wrong" : "small"} role={wrong ? "alert" : undefined}>
        {wrong ? `Must be ${hint.split(";")[0]}` : hint}
      </span>
    </label>
  );
}

function StopField({ stop, onChange }: { stop: string[]; onChange: (stop: string[]) => void }): VNode {
  const [lines, setLines] = useState(linesOf(stop));
  const [wrong, setWrong] = useState(false);
  const input = (value: string) => {
    setLines(value);
    const found = stopsFrom(value);
    setWrong(!areStops(found));
    if (areStops(found)) onChange(found);
  };
  return (
    <label>
      Stop texts
      <textarea
        rows={2}
        value={lines}
        placeholder="default"
        spellcheck={false}
        aria-describedby="hint-stop"
        aria-invalid={wrong}
        onInput={(event) => input(event.currentTarget.value)}
      />
      <span id="hint-stop" class={wrong ? "small wrong" : "small"} role={wrong ? "alert" : undefined}>
        {wrong
          ? `Must be at most ${MOST_STOPS} lines of up to ${LONGEST_STOP} characters`
          : "one on each line, \\n stands for the end of a line; an answer ends before the first that it would contain"}
      </span>
    </label>
  );
}
