/**
 * Markdown as elements. The text becomes trees and each branch an element of a fixed kind with text inside: no HTML
 * text is made anywhere, so there is nothing that an answer could smuggle in. HTML in an answer shows as it is written,
 * images become links, and links lead to http, https and mailto only.
 */

import { Component, type ComponentChildren, type VNode } from "preact";
import { useEffect, useMemo, useReducer, useRef, useState } from "preact/hooks";

import { mathWorker, textWorker } from "../workers/start.ts";
import { safeAddress } from "./address.ts";
import { CodeBlock } from "./code.tsx";
import { Formatter, type View } from "./formatter.ts";
import { MathText } from "./math.tsx";
import { Plain } from "./plain.tsx";
import type { Branch, Tree } from "./tree.ts";

/** What has come from the workers meanwhile is drawn together. */
const DRAW_MILLISECONDS = 40;
/** So long a text that is about to become Markdown keeps its place without being seen. */
const HIDE_MILLISECONDS = 250;

/** @param live The text still grows: its last block is not finished. */
export function Markdown({ text, live }: { text: string; live: boolean }): VNode {
  const formatter = useFormatter();
  const [late, setLate] = useState(false);
  useEffect(() => {
    const timer = setTimeout(() => setLate(true), HIDE_MILLISECONDS);
    return () => clearTimeout(timer);
  }, []);
  useMemo(() => formatter.update(text, live), [text, live]);
  const blocks = formatter.shown();
  const last = blocks.length - 1;
  return (
    <div class={late ? "markdown" : "markdown new"} aria-busy={formatter.busy}>
      {blocks.map(({ key, view }, index) => (
        <Block key={key} view={view} live={live && index === last} formatter={formatter} />
      ))}
    </div>
  );
}

function useFormatter(): Formatter {
  const [, redraw] = useReducer((count: number) => count + 1, 0);
  const timer = useRef<ReturnType<typeof setTimeout> | null>(null);
  const formatter = useMemo(() => {
    const changed = () => {
      timer.current ??= setTimeout(() => {
        timer.current = null;
        redraw(undefined);
      }, DRAW_MILLISECONDS);
    };
    return new Formatter({ text: textWorker, math: mathWorker }, changed);
  }, []);
  useEffect(
    () => () => {
      formatter.close();
      if (timer.current !== null) clearTimeout(timer.current);
    },
    [],
  );
  return formatter;
}

interface BlockProps {
  view: View;
  live: boolean;
  formatter: Formatter;
}

/** A block at the top, drawn again only when what it shows has changed: an answer grows at its end. */
class Block extends Component<BlockProps> {
  override shouldComponentUpdate({ view, live }: Readonly<BlockProps>): boolean {
    return live !== this.props.live || !same(view, this.props.view);
  }

  override render(): ComponentChildren {
    const { view, live, formatter } = this.props;
    if ("plain" in view) return <Plain text={view.plain} kind={view.waiting ? (live ? "growing" : "waiting") : ""} />;
    const drawing = new Drawing(formatter, live);
    return "trees" in view ? drawing.all(view.trees) : drawing.code(view);
  }
}

function same(one: View, other: View): boolean {
  if ("plain" in one) return "plain" in other && one.plain === other.plain && one.waiting === other.waiting;
  if ("trees" in one) return "trees" in other && one.trees === other.trees && one.version === other.version;
  return "code" in other && one.code === other.code && one.language === other.language;
}

/** Makes elements of trees. */
class Drawing {
  constructor(
    private readonly formatter: Formatter,
    private readonly live: boolean,
  ) {}

  all(trees: readonly Tree[]): ComponentChildren[] {
    return trees.map((tree) => this.one(tree));
  }

  code({ code, language }: { code: string; language: string }): VNode {
    const colours = (text: string, name: string) => this.formatter.colours(text, name);
    return <CodeBlock code={code} language={language} live={this.live} colours={colours} />;
  }

  private one(tree: Tree): ComponentChildren {
    if (typeof tree === "string") return tree;
    if ("code" in tree) return this.code(tree);
    if ("tex" in tree) return <MathText formula={tree} tree={this.formatter.formula(tree)} />;
    return this.branch(tree);
  }

  private branch(branch: Branch): ComponentChildren {
    const kids = () => this.all(branch.kids);
    switch (branch.tag) {
      case "table":
        return (
          <div class="scroll" role="group" aria-label="Table" tabIndex={0}>
            <table>{kids()}</table>
          </div>
        );
      case "th":
      case "td":
        return <branch.tag class={branch.align && `align-${branch.align}`}>{kids()}</branch.tag>;
      case "ol":
        return <ol start={branch.start ?? 1}>{kids()}</ol>;
      case "task":
        return <li class="task">{kids()}</li>;
      case "checked":
      case "unchecked":
        return (
          <span role="img" aria-label={branch.tag === "checked" ? "done" : "to do"}>
            {branch.tag === "checked" ? "☑ " : "☐ "}
          </span>
        );
      case "link":
        return link(branch.href ?? "", kids());
      case "hr":
        return <hr />;
      case "br":
        return <br />;
      default:
        return <branch.tag>{kids()}</branch.tag>;
    }
  }
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
