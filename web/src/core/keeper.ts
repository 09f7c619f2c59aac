/** Puts every change of a conversation into the state at once and into the library soon; other tabs' changes too. */

import type { Conversation } from "./conversation.ts";
import type { Library } from "./library.ts";
import { Problem } from "./problem.ts";
import type { State } from "./state.ts";
import type { Store } from "./store.ts";

const SAVE_MILLISECONDS = 1000;

export class Keeper {
  private saveTimer: ReturnType<typeof setTimeout> | undefined;
  private readonly unsaved = new Set<string>();

  /**
   * @param isBusy Whether this tab is answering a conversation: another tab's version must not replace it then.
   * @param renamed Called when a conversation goes on under another id.
   */
  constructor(
    private readonly store: Store<State>,
    private readonly library: Library,
    private readonly isBusy: (id: string) => boolean,
    private readonly renamed: (old: string, id: string) => void,
  ) {
    library.watch((id) => this.changedElsewhere(id));
    window.addEventListener("pagehide", () => this.save());
  }

  find(id: string): Conversation | undefined {
    const { current, conversations } = this.store.get();
    return current.id === id ? current : conversations.find((conversation) => conversation.id === id);
  }

  /** Shows the conversation as it is now; one with a question in it is kept. */
  change(conversation: Conversation): void {
    const { current, conversations } = this.store.get();
    if (conversation.id === current.id) this.store.set({ current: conversation });
    if (conversation.turns.length === 0) return;
    const others = conversations.filter((one) => one.id !== conversation.id);
    this.store.set({ conversations: byTime([conversation, ...others]) });
    this.unsaved.add(conversation.id);
    this.saveTimer ??= setTimeout(() => this.save(), SAVE_MILLISECONDS);
  }

  remove(id: string): void {
    this.unsaved.delete(id);
    this.library.remove(id);
    this.store.set({ conversations: this.store.get().conversations.filter((one) => one.id !== id) });
  }

  save(): void {
    clearTimeout(this.saveTimer);
    this.saveTimer = undefined;
    for (const id of [...this.unsaved]) {
      const conversation = this.find(id);
      try {
        const kept = conversation === undefined ? id : this.library.save(conversation);
        this.unsaved.delete(id);
        if (conversation !== undefined && kept !== id) this.goOnAs(id, { ...conversation, id: kept });
        if (this.store.get().storageProblem !== "") this.store.set({ storageProblem: "" });
      } catch (error) {
        // Still unsaved: the next change tries again.
        if (!(error instanceof Problem)) throw error;
        this.store.set({ storageProblem: error.message });
      }
    }
  }

  /** Another tab has written to the conversation under its old id: this tab goes on with its own copy. */
  private goOnAs(old: string, conversation: Conversation): void {
    this.renamed(old, conversation.id);
    const { current, conversations } = this.store.get();
    const theirs = this.library.read(old);
    const others = conversations.filter((one) => one.id !== old);
    this.store.set({
      conversations: byTime([conversation, ...(theirs === null ? [] : [theirs]), ...others]),
      current: current.id === old ? conversation : current,
    });
  }

  private changedElsewhere(id: string | null): void {
    const { current, conversations, undo } = this.store.get();
    const ids = id === null ? [...conversations.map((one) => one.id), ...this.library.ids()] : [id];
    // What this tab works on is not even read: `save` must still find that another tab has written to it.
    const touched = new Set(ids.filter((one) => !this.unsaved.has(one) && !this.isBusy(one)));
    const theirs = [...touched].flatMap((one) => this.library.read(one) ?? []);
    const all = byTime([...conversations.filter((one) => !touched.has(one.id)), ...theirs]);
    this.store.set({
      conversations: all,
      current: all.find((one) => one.id === current.id) ?? current,
      // What would be brought back is older than what the other tab has written.
      undo: undo !== null && touched.has(undo.before.id) ? null : undo,
    });
  }
}

function byTime(conversations: Conversation[]): Conversation[] {
  return conversations.toSorted((one, other) => other.updated - one.updated);
}
