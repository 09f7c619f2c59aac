/** What the page shows. */

import type { Conversation } from "./conversation.ts";
import type { Model } from "./models.ts";

export interface State {
  /** null until the server has listed them once. */
  models: Model[] | null;
  modelsProblem: string;
  /** Those that are kept, latest first. */
  conversations: Conversation[];
  /** The one on the screen; kept from its first question on. */
  current: Conversation;
  /** What the last action removed, to be had back. */
  undo: { what: string; before: Conversation } | null;
  /** Why a key is asked for; "" when it is not. */
  askForKey: string;
  storageProblem: string;
  /** For screen readers: what has just happened. */
  announcement: string;
}
