/** Keeps conversations in the browser's local storage, one record each, shared by all tabs. */

import { newId, settled, type Conversation } from "./conversation.ts";
import { Problem } from "./problem.ts";
import { conversationFrom } from "./validation.ts";

const PREFIX = "vicuna.conversation.";

export class Library {
  /** The version of each record that this tab has read or written last. */
  private readonly versions = new Map<string, number>();

  constructor(private readonly storage: Storage) {}

  ids(): string[] {
    const keys = Object.keys(this.storage).filter((key) => key.startsWith(PREFIX));
    return keys.map((key) => key.slice(PREFIX.length));
  }

  /** All conversations, latest first. What cannot be read is left where it is. */
  all(): Conversation[] {
    return this.ids()
      .flatMap((id) => this.read(id) ?? [])
      .sort((one, other) => other.updated - one.updated);
  }

  /** One conversation as it is stored now, or null. */
  read(id: string): Conversation | null {
    const record = this.record(id);
    const conversation = conversationFrom(record);
    if (conversation === null || conversation.id !== id) return null;
    this.versions.set(id, versionOf(record));
    return settled(conversation);
  }

  /**
   * Writes a conversation and returns the id under which it is kept: a new one where another tab has written to the
   * old one since this tab last read it, so that neither loses what it has. Throws Problem when there is no room.
   */
  save(conversation: Conversation): string {
    const stored = this.record(conversation.id);
    const foreign = stored !== null && versionOf(stored) !== this.versions.get(conversation.id);
    const id = foreign ? newId() : conversation.id;
    const version = foreign || stored === null ? 1 : versionOf(stored) + 1;
    try {
      this.storage.setItem(PREFIX + id, JSON.stringify({ ...conversation, id, version }));
    } catch {
      throw new Problem(
        "This browser has no room left for conversations, so the latest changes are not kept. " +
          "Export them in the settings, then delete old ones.",
      );
    }
    this.versions.set(id, version);
    return id;
  }

  remove(id: string): void {
    this.storage.removeItem(PREFIX + id);
    this.versions.delete(id);
  }

  /** Tells which conversation another tab has changed; null: possibly all of them. */
  watch(changed: (id: string | null) => void): void {
    window.addEventListener("storage", (event) => {
      if (event.storageArea !== this.storage) return;
      if (event.key === null) changed(null);
      else if (event.key.startsWith(PREFIX)) changed(event.key.slice(PREFIX.length));
    });
  }

  private record(id: string): unknown {
    try {
      return JSON.parse(this.storage.getItem(PREFIX + id) ?? "null");
    } catch {
      return null;
    }
  }
}

function versionOf(record: unknown): number {
  const version = (record as { version?: unknown } | null)?.version;
  return typeof version === "number" ? version : 0;
}

/** All conversations as a file's text. */
export function exported(conversations: Conversation[]): string {
  return `${JSON.stringify({ format: "vicuna-conversations", version: 2, conversations }, null, 2)}\n`;
}

/** The conversations in such a file, under new ids, so that they replace nothing. Throws Problem. */
export function imported(text: string): Conversation[] {
  let body: unknown = null;
  try {
    body = JSON.parse(text);
  } catch {
    // Said below.
  }
  const list = (body as { conversations?: unknown } | null)?.conversations;
  if (!Array.isArray(list)) throw new Problem("This file holds no exported conversations; choose another one.");
  return list.flatMap((value) => {
    const conversation = conversationFrom(value);
    return conversation === null ? [] : [{ ...settled(conversation), id: newId() }];
  });
}
