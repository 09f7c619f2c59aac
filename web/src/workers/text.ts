/** Worker: reads Markdown and colours code. */

import { highlight } from "../markdown/highlight.ts";
import { lex } from "../markdown/lex.ts";
import { answer, type TextQuestion, type TextReply } from "./protocol.ts";

answer<TextQuestion, TextReply>((question) =>
  "markdown" in question ? lex(question.markdown, question.definitions) : highlight(question.code, question.language),
);
