/** What a model thinks before it answers, where its server leaves the marks `<think>` and `</think>` in the text. Pure. */

export interface Split {
  reasoning: string;
  text: string;
}

const OPEN = "<think>";
const CLOSE = "</think>";
/** Templates that open the thinking themselves leave only its end in the answer: a line of its own. */
const LONE_CLOSE = /(?:^|\n)[ \t]*<\/think>[ \t]*(?:\n|$)/;

/**
 * An answer's thoughts and text.
 *
 * @param live The answer still grows: what may become a mark is not shown yet.
 */
export function splitThinking(content: string, live = false): Split {
  const start = content.trimStart();
  if (start.startsWith(OPEN)) {
    const end = start.indexOf(CLOSE);
    if (end < 0) return { reasoning: withoutEnd(start.slice(OPEN.length).trimStart(), live), text: "" };
    return { reasoning: start.slice(OPEN.length, end).trim(), text: start.slice(end + CLOSE.length).trimStart() };
  }
  if (live && OPEN.startsWith(start)) return { reasoning: "", text: "" };
  const close = LONE_CLOSE.exec(content);
  if (close === null) return { reasoning: "", text: content };
  return { reasoning: content.slice(0, close.index).trim(), text: content.slice(close.index + close[0].length).trimStart() };
}

/** Without what may be the beginning of the closing mark. */
function withoutEnd(text: string, live: boolean): string {
  if (!live) return text;
  for (let length = Math.min(CLOSE.length - 1, text.length); length > 0; length -= 1) {
    if (text.endsWith(CLOSE.slice(0, length))) return text.slice(0, -length);
  }
  return text;
}
