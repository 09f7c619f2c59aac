/** What the browser remembers beside conversations: key and theme; per tab, the open conversation, unsent text, and on wish the key. */

export type Theme = "system" | "light" | "dark";

const KEY = "vicuna.key";
const THEME = "vicuna.theme";
const DRAFT = "vicuna.draft";
const OPEN = "vicuna.open";

/** The browser's storage; where it is switched off, one that lasts as long as the page. */
export function storageOr(kind: "localStorage" | "sessionStorage"): { storage: Storage; lasting: boolean } {
  try {
    const storage = window[kind];
    storage.setItem("vicuna.probe", "");
    storage.removeItem("vicuna.probe");
    return { storage, lasting: true };
  } catch (error) {
    // A full storage is one all the same.
    if (error instanceof DOMException && error.name === "QuotaExceededError") {
      return { storage: window[kind], lasting: true };
    }
    return { storage: memory(), lasting: false };
  }
}

export class Preferences {
  constructor(
    private readonly lasting: Storage,
    private readonly tab: Storage,
  ) {}

  get key(): string | null {
    return this.tab.getItem(KEY) ?? this.lasting.getItem(KEY);
  }

  /** Keeps a key, in this browser or for as long as this tab is open, in place of any other; null forgets it. */
  keepKey(value: string | null, tabOnly = false): void {
    this.tab.removeItem(KEY);
    this.lasting.removeItem(KEY);
    if (value !== null) attempt(() => (tabOnly ? this.tab : this.lasting).setItem(KEY, value));
  }

  get theme(): Theme {
    const value = this.lasting.getItem(THEME);
    return value === "light" || value === "dark" ? value : "system";
  }

  set theme(value: Theme) {
    attempt(() => this.lasting.setItem(THEME, value));
    this.showTheme();
  }

  /** Puts the theme where the style sheet looks for it. */
  showTheme(): void {
    document.documentElement.dataset.theme = this.theme;
  }

  /** Id of the conversation on the screen: a tab that is loaded again shows it again. */
  get open(): string | null {
    return this.tab.getItem(OPEN);
  }

  set open(id: string) {
    if (id !== this.open) attempt(() => this.tab.setItem(OPEN, id));
  }

  get draft(): string {
    return this.tab.getItem(DRAFT) ?? "";
  }

  set draft(value: string) {
    attempt(() => this.tab.setItem(DRAFT, value));
  }
}

/** These are small and can be given again: a full storage is not worth a word here; conversations say it. */
function attempt(write: () => void): void {
  try {
    write();
  } catch {
    // See above.
  }
}

function memory(): Storage {
  const items = new Map<string, string>();
  const methods = {
    getItem: (key: string) => items.get(key) ?? null,
    setItem: (key: string, value: string) => void items.set(key, value),
    removeItem: (key: string) => void items.delete(key),
  };
  return methods as unknown as Storage;
}
