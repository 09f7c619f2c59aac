/** A block of code with its language's name, colours and a button that copies it. */

import type { VNode } from "preact";
import { useMemo } from "preact/hooks";

import { CopyButton } from "../ui/copy.tsx";
import { highlight } from "./highlight.ts";

/** @param live Still being written: coloured when it is complete. */
export function CodeBlock({ code, language, live }: { code: string; language: string; live: boolean }): VNode {
  const spans = useMemo(() => (live ? null : highlight(code, language.toLowerCase())), [code, language, live]);
  return (
    <div class="code">
      <div class="code-head">
        <span>{language}</span>
        <CopyButton what="code" text={code} />
      </div>
      <pre tabIndex={0} aria-label={language === "" ? "Code" : `Code, ${language}`} role="group">
        <code>{spans === null ? code : spans.map(({ classes, text }) => (classes ? <span class={classes}>{text}</span> : text))}</code>
      </pre>
    </div>
  );
}
