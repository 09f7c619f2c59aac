/** A box for text that grows with it. Enter sends where there is a keyboard; with Shift it begins a new line. */

import type { VNode } from "preact";
import { useLayoutEffect, useRef } from "preact/hooks";

interface Props {
  id?: string;
  label: string;
  value: string;
  placeholder?: string;
  /** Takes the focus when it appears. */
  focus?: boolean;
  onInput: (value: string) => void;
  onEnter: () => void;
  onEscape?: () => void;
}

export function TextBox({ id, label, value, placeholder, focus, onInput, onEnter, onEscape }: Props): VNode {
  const box = useRef<HTMLTextAreaElement>(null);
  useLayoutEffect(() => {
    if (focus) box.current?.focus();
  }, []);
  useLayoutEffect(() => {
    const element = box.current;
    if (element === null) return;
    element.style.height = "auto";
    element.style.height = `${element.scrollHeight}px`;
  }, [value]);
  const onKeyDown = (event: KeyboardEvent) => {
    // While an input method composes a word, Enter belongs to it.
    if (event.isComposing) return;
    if (event.key === "Enter" && !event.shiftKey && !isTouch()) {
      event.preventDefault();
      onEnter();
    } else if (event.key === "Escape" && onEscape) {
      event.preventDefault();
      onEscape();
    }
  };
  return (
    <textarea
      ref={box}
      {...(id === undefined ? {} : { id })}
      rows={1}
      aria-label={label}
      placeholder={placeholder}
      value={value}
      onInput={(event) => onInput(event.currentTarget.value)}
      onKeyDown={onKeyDown}
    />
  );
}

/** Whether this is a phone: Enter is then the only way to begin a line, and the focus brings up a keyboard. */
export function isTouch(): boolean {
  return window.matchMedia("(hover: none) and (pointer: coarse)").matches;
}
