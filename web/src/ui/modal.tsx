/** A dialog over the page. The browser keeps the focus inside and gives it back at the end. */

import type { ComponentChildren, VNode } from "preact";
import { useLayoutEffect, useRef } from "preact/hooks";

import { Icon } from "./icons.tsx";

interface Props {
  title: string;
  kind?: "dialog" | "drawer" | "models";
  onClose: () => void;
  children: ComponentChildren;
}

export function Modal({ title, kind = "dialog", onClose, children }: Props): VNode {
  const dialog = useRef<HTMLDialogElement>(null);
  useLayoutEffect(() => {
    const element = dialog.current;
    element?.showModal();
    return () => element?.close();
  }, []);
  const outside = (event: MouseEvent) => event.target === dialog.current && onClose();
  return (
    <dialog ref={dialog} class={kind} aria-label={title} onClose={onClose} onMouseDown={outside}>
      <div class="dialog-body">
        <div class="dialog-head">
          <h2>{title}</h2>
          <button type="button" class="quiet" aria-label="Close" onClick={onClose}>
            <Icon name="close" />
          </button>
        </div>
        {children}
      </div>
    </dialog>
  );
}
