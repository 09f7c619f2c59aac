/** What stands beside an answer's text, folded: thoughts, and calls of tools, which the page shows and never runs. */

import type { ComponentChildren, VNode } from "preact";
import { useMemo, useState } from "preact/hooks";

import { pretty, type ToolCall } from "../core/calls.ts";
import type { Answer } from "../core/conversation.ts";
import { Plain } from "../markdown/plain.tsx";

/** What is folded is drawn when it is opened, so that growing thoughts cost nothing while nobody reads them. */
function Fold({ title, children }: { title: ComponentChildren; children: () => ComponentChildren }): VNode {
  const [open, setOpen] = useState(false);
  return (
    <details class="fold" open={open} onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>{title}</summary>
      {open && <div class="folded">{children()}</div>}
    </details>
  );
}

export function Thoughts({ answer }: { answer: Answer }): VNode | null {
  if (answer.reasoning === "") return null;
  const thinks = answer.state === "streaming" && answer.text === "" && answer.calls.length === 0;
  return (
    <Fold title={thinks ? "Thinking…" : thoughtFor(answer.thoughtSeconds)}>{() => <Plain text={answer.reasoning} />}</Fold>
  );
}

function thoughtFor(seconds: number | null): string {
  if (seconds === null) return "Thought";
  if (seconds < 1) return "Thought for less than a second";
  const whole = Math.round(seconds);
  return whole < 90 ? `Thought for ${whole} s` : `Thought for ${Math.round(seconds / 60)} min`;
}

export function Calls({ calls }: { calls: ToolCall[] }): VNode | null {
  if (calls.length === 0) return null;
  return (
    <>
      {calls.map((call, index) => (
        <Call key={index} call={call} />
      ))}
      <p class="small">This page only shows calls of tools. None was run.</p>
    </>
  );
}

function Call({ call }: { call: ToolCall }): VNode {
  const title = (
    <>
      Tool call: <code>{call.name === "" ? "without a name" : call.name}</code>
    </>
  );
  return <Fold title={title}>{() => <Arguments text={call.arguments} />}</Fold>;
}

function Arguments({ text }: { text: string }): VNode {
  const lines = useMemo(() => pretty(text), [text]);
  return (
    <pre tabIndex={0} role="group" aria-label="Arguments">
      {lines === "" ? "no arguments" : lines}
    </pre>
  );
}
