/** How components reach the chat and its state. */

import { createContext } from "preact";
import { useContext, useLayoutEffect, useReducer } from "preact/hooks";

import type { Chat } from "../core/chat.ts";
import type { Preferences } from "../core/preferences.ts";
import type { State } from "../core/state.ts";

export interface Services {
  chat: Chat;
  preferences: Preferences;
  /** Whether the browser keeps conversations when the page is closed. */
  lasting: boolean;
}

export const ServicesContext = createContext<Services | null>(null);

export function useServices(): Services {
  const services = useContext(ServicesContext);
  if (services === null) throw new Error("outside of the page");
  return services;
}

/** The state now; the component is drawn again when it changes. */
export function useChatState(): State {
  const { store } = useServices().chat;
  const [, redraw] = useReducer((count: number) => count + 1, 0);
  useLayoutEffect(() => store.subscribe(() => redraw(undefined)), [store]);
  return store.get();
}

/** Whether a media query holds, as long as the component lives. */
export function useMedia(query: string): boolean {
  const list = window.matchMedia(query);
  const [, redraw] = useReducer((count: number) => count + 1, 0);
  useLayoutEffect(() => {
    const changed = () => redraw(undefined);
    list.addEventListener("change", changed);
    return () => list.removeEventListener("change", changed);
  }, [query]);
  return list.matches;
}
