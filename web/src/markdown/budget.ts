/** What workers may spend on one answer, and how often in vain; what is left of it then stays as it is written. */

import type { Outcome } from "../workers/bounded.ts";

const MOST_MILLISECONDS = 20_000;
const MOST_LATE = 3;

export class Budget {
  private spent = 0;
  private late = 0;

  get exhausted(): boolean {
    return this.spent >= MOST_MILLISECONDS || this.late >= MOST_LATE;
  }

  count({ reply, milliseconds }: Outcome<unknown>): void {
    this.spent += milliseconds;
    if (reply === "late") this.late += 1;
  }
}
