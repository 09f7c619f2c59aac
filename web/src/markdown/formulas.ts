/** The formulas of one answer, set by the worker for mathematics, some at a time and each once. */

import type { MathTree } from "../math/typeset.ts";
import type { Outcome } from "../workers/bounded.ts";
import type { MathQuestion, MathReply } from "../workers/protocol.ts";
import type { Budget } from "./budget.ts";
import { keyOf, type Formula } from "./tree.ts";

const AT_ONCE = 20;

export class Formulas {
  private readonly set = new Map<string, MathTree | null>();
  private readonly unset = new Map<string, Formula>();
  private setting = false;
  private closed = false;

  /** @param changed Called with the keys of formulas that are set now, or cannot be; and without any at the end. */
  constructor(
    private readonly worker: { ask(question: MathQuestion): Promise<Outcome<MathReply>> },
    private readonly budget: Budget,
    private readonly changed: (keys: ReadonlySet<string>) => void,
  ) {}

  get busy(): boolean {
    return this.setting;
  }

  /** A formula as it is set; null where it is not, or not yet. */
  get(formula: Formula): MathTree | null {
    return this.set.get(keyOf(formula)) ?? null;
  }

  /** Has those set that are not. */
  want(formulas: readonly Formula[]): void {
    for (const formula of formulas) {
      const key = keyOf(formula);
      if (!this.set.has(key)) this.unset.set(key, formula);
    }
    if (!this.setting) void this.work();
  }

  close(): void {
    this.closed = true;
  }

  private async work(): Promise<void> {
    this.setting = true;
    while (this.unset.size > 0 && !this.budget.exhausted && !this.closed) {
      // The last ones first, since an answer is looked at from its end.
      const some = [...this.unset].slice(-AT_ONCE);
      const outcome = await this.worker.ask(some.map(([, { tex, display }]) => ({ tex, display })));
      const { reply } = outcome;
      this.budget.count(outcome);
      some.forEach(([key], index) => {
        this.unset.delete(key);
        this.set.set(key, typeof reply === "string" ? null : (reply[index] ?? null));
      });
      if (!this.closed) this.changed(new Set(some.map(([key]) => key)));
    }
    this.setting = false;
    if (!this.closed) this.changed(new Set());
  }
}
