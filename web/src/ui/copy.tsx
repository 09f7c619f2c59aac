/** A button that copies a text. */

import type { VNode } from "preact";
import { useEffect, useState } from "preact/hooks";

import { Icon } from "./icons.tsx";

const CONFIRM_MILLISECONDS = 2000;

/** @param what Named in the button's label: "Copy code". */
export function CopyButton({ what, text }: { what: string; text: string }): VNode {
  const [result, setResult] = useState<"" | "Copied" | "Not copied">("");
  useEffect(() => {
    if (result === "") return undefined;
    const timer = setTimeout(() => setResult(""), CONFIRM_MILLISECONDS);
    return () => clearTimeout(timer);
  }, [result]);
  const copy = async () => setResult((await copyText(text)) ? "Copied" : "Not copied");
  return (
    <button type="button" class="quiet" aria-label={`Copy ${what}`} onClick={copy}>
      <Icon name={result === "Copied" ? "check" : "copy"} />
      <span role="status">{result}</span>
    </button>
  );
}

async function copyText(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copyBySelection(text); // no clipboard without https
  }
}

function copyBySelection(text: string): boolean {
  const focused = document.activeElement;
  const area = document.createElement("textarea");
  area.className = "hidden";
  area.value = text;
  // Inside an open dialog nothing outside of it can be selected.
  (document.querySelector("dialog[open]") ?? document.body).append(area);
  area.select();
  const copied = document.execCommand("copy");
  area.remove();
  if (focused instanceof HTMLElement) focused.focus();
  return copied;
}
