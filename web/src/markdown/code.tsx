/** A block of code with its language's name, colours and a button that copies it. */

import type { VNode } from "preact";
import { useEffect, useState } from "preact/hooks";

import { CopyButton } from "../ui/copy.tsx";
import type { Span } from "./highlight.ts";
import { Plain } from "./plain.tsx";

/** Beyond this, code is text in pieces: as one it would be laid out anew with every word. */
const MOST_IN_ONE = 50_000;

interface Props {
  code: string;
  language: string;
  /** Still being written: coloured when it is complete. */
  live: boolean;
  colours: (code: string, language: string) => Promise<Span[] | null>;
}

export function CodeBlock({ code, language, live, colours }: Props): VNode {
  const [coloured, setColoured] = useState<{ code: string; spans: Span[] } | null>(null);
  useEffect(() => {
    if (live || language === "") return undefined;
    let wanted = true;
    void colours(code, language.toLowerCase()).then((spans) => {
      if (wanted && spans !== null) setColoured({ code, spans });
    });
    return () => {
      wanted = false;
    };
  }, [code, language, live]);
  return (
    <div class="code">
      <div class="code-head">
        <span>{language}</span>
        <CopyButton what="code" text={code} />
      </div>
      <pre tabIndex={0} aria-label={language === "" ? "Code" : `Code, ${language}`} role="group">
        {code.length > MOST_IN_ONE ? <Plain text={code} /> : <code>{coloured?.code === code ? coloured.spans.map(span) : code}</code>}
      </pre>
    </div>
  );
}

function span({ classes, text }: Span): VNode | string {
  return classes ? <span class={classes}>{text}</span> : text;
}
