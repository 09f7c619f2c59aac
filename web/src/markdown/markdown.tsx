/**
 * Markdown as elements. The text becomes tokens and each token an element of a fixed kind with text inside: no HTML
 * text is made anywhere, so there is nothing that an answer could smuggle in. HTML in an answer shows as it is written,
 * images become links, and links lead to http, https and mailto only.
 */

import { Component, type ComponentChildren, type VNode } from "preact";
import { useMemo } from "preact/hooks";
import { Lexer, type MarkedToken, type Tokens } from "marked";

import { CodeBlock } from "./code.tsx";
import { decodeEntities } from "./entities.ts";

/** Deeper nesting, and longer text, is shown as it is written: both would only serve to hold up the page. */
const MOST_LEVELS = 24;
const MOST_CHARACTERS = 400_000;
const TOO_DEEP = /^[ \t]*(?:>[ \t]*|(?:[-*+]|\d{1,9}[.)])[ \t]+){24}/m;

/** @param live The text still grows: its last block is not finished. */
export function Markdown({ text, live }: { text: string; live: boolean }): VNode {
  const blocks = useMemo(() => lex(text), [text]);
  const last = blocks.length - 1;
  return (
    <div class="markdown">
      {blocks.map((token, index) => (
        <Block key={index} token={token} live={live && index === last} />
      ))}
    </div>
  );
}

function lex(text: string): MarkedToken[] {
  if (text.length <= MOST_CHARACTERS && !TOO_DEEP.test(text)) {
    try {
      return new Lexer({ gfm: true, breaks: true }).lex(text) as MarkedToken[];
    } catch {
      // Shown as it is written.
    }
  }
  return [{ type: "code", raw: text, text }];
}

/** A block at the top, drawn again only when its own text has changed: an answer grows at its end. */
class Block extends Component<{ token: MarkedToken; live: boolean }> {
  override shouldComponentUpdate(next: Readonly<{ token: MarkedToken; live: boolean }>): boolean {
    const { token, live } = this.props;
    return next.token.raw !== token.raw || next.token.type !== token.type || next.live !== live;
  }

  override render(): ComponentChildren {
    return render(this.props.token, 0, this.props.live);
  }
}

function all(tokens: readonly object[] | undefined, level: number, live = false): ComponentChildren[] {
  return ((tokens ?? []) as MarkedToken[]).map((token) => render(token, level + 1, live));
}

function render(token: MarkedToken, level: number, live: boolean): ComponentChildren {
  if (level > MOST_LEVELS) return token.raw;
  switch (token.type) {
    case "heading":
      return heading(token, level);
    case "paragraph":
      return <p>{all(token.tokens, level)}</p>;
    case "code":
      return <CodeBlock code={token.text} language={(token.lang ?? "").split(/\s/)[0] ?? ""} live={live} />;
    case "blockquote":
      return <blockquote>{all(token.tokens, level, live)}</blockquote>;
    case "list":
      return list(token, level, live);
    case "table":
      return table(token, level);
    case "hr":
      return <hr />;
    case "br":
      return <br />;
    case "strong":
      return <strong>{all(token.tokens, level)}</strong>;
    case "em":
      return <em>{all(token.tokens, level)}</em>;
    case "del":
      return <del>{all(token.tokens, level)}</del>;
    case "codespan":
      return <code>{token.text}</code>;
    case "link":
      return link(token.href, all(token.tokens, level));
    case "image":
      return link(token.href, token.text || token.href);
    case "checkbox":
      return checkbox(token.checked);
    case "html":
      return /^<br\s*\/?>$/i.test(token.raw.trim()) ? <br /> : token.block ? <p>{token.raw}</p> : token.raw;
    case "text":
      return "tokens" in token && token.tokens ? all(token.tokens, level) : decodeEntities(token.text);
    case "escape":
      return token.text;
    case "space":
    case "def":
      return null;
    default:
      return (token as { raw: string }).raw;
  }
}

/** Headings begin below those of the page. */
function heading(token: Tokens.Heading, level: number): VNode {
  const Tag = (["h3", "h4", "h5", "h6"] as const)[Math.min(token.depth, 4) - 1] ?? "h6";
  return <Tag>{all(token.tokens, level)}</Tag>;
}

function list(token: Tokens.List, level: number, live: boolean): VNode {
  const items = token.items.map((item) => <li class={item.task ? "task" : undefined}>{all(item.tokens, level, live)}</li>);
  return token.ordered ? <ol start={token.start === "" ? 1 : token.start}>{items}</ol> : <ul>{items}</ul>;
}

function checkbox(checked: boolean): VNode {
  return (
    <span role="img" aria-label={checked ? "done" : "to do"}>
      {checked ? "☑ " : "☐ "}
    </span>
  );
}

function table(token: Tokens.Table, level: number): VNode {
  const align = (cell: Tokens.TableCell) => (cell.align ? `align-${cell.align}` : undefined);
  return (
    <div class="scroll" role="group" aria-label="Table" tabIndex={0}>
      <table>
        <thead>
          <tr>
            {token.header.map((cell) => (
              <th class={align(cell)}>{all(cell.tokens, level)}</th>
            ))}
          </tr>
        </thead>
        <tbody>
          {token.rows.map((row) => (
            <tr>
              {row.map((cell) => (
                <td class={align(cell)}>{all(cell.tokens, level)}</td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

/** A link that opens beside the page and tells nobody where it was found; anything but the web and mail is text. */
function link(href: string, content: ComponentChildren): ComponentChildren {
  const address = safeAddress(href);
  if (address === null) return content;
  return (
    <a href={address} title={address} target="_blank" rel="noopener noreferrer nofollow">
      {content}
    </a>
  );
}

/** The address, where it is a whole one and of a kind that only shows something; else null. */
export function safeAddress(href: string): string | null {
  try {
    const url = new URL(decodeEntities(href));
    return ["http:", "https:", "mailto:"].includes(url.protocol) ? url.href : null;
  } catch {
    return null;
  }
}
