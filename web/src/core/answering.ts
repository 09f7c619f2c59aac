/** The answers under way in this tab. */

import * as conversations from "./conversation.ts";
import type { Answer } from "./conversation.ts";
import { emptyAnswer } from "./growing.ts";
import type { Keeper } from "./keeper.ts";
import type { Preferences } from "./preferences.ts";
import { Problem } from "./problem.ts";
import { requestFor } from "./request.ts";
import { Run, type Way } from "./run.ts";

export class Answering {
  private readonly runs = new Set<Run>();
  /** Runs that were refused for want of a key. */
  private refused: Run[] = [];

  /**
   * @param ended Called with an answer that is complete; null: a run ended without one that is worth a word.
   * @param needsKey Called when the server asks for another key.
   */
  constructor(
    private readonly keeper: Keeper,
    private readonly preferences: Preferences,
    private readonly ended: (answer: Answer | null) => void,
    private readonly needsKey: (problem: Problem) => void,
  ) {}

  /** The runs of a conversation, or of one of its models. */
  of(id: string, lane?: number): Run[] {
    return [...this.runs].filter((run) => run.conversation === id && (lane === undefined || run.lane === lane));
  }

  /** A conversation goes on under another id. */
  renamed(old: string, id: string): void {
    for (const run of this.of(old)) run.conversation = id;
  }

  start(id: string, turn: number, lane: number, way: Way): void {
    const found = this.keeper.find(id);
    if (found === undefined) return;
    const shown = found.turns[turn]?.answers[lane] ?? null;
    // Without the blanks at its end: many templates leave them out, and the model would write them twice.
    const before = way === "continue" && shown !== null ? { ...shown, text: shown.text.trimEnd() } : null;
    const request = requestFor(found, turn, lane, before?.text ?? "");
    if (request === null) return;
    if (before !== null) request.model = before.model;
    if (way === "again") this.keeper.change(conversations.answerAgain(found, turn, lane));
    const run = new Run(id, turn, lane, way, before ?? emptyAnswer(request.model));
    this.runs.add(run);
    const show = (answer: Answer) => this.runs.has(run) && this.put(run, answer);
    void this.follow(run, run.answer(request, this.preferences.key, show));
  }

  halt(runs: Run[]): void {
    for (const run of runs) {
      // At once, since what comes next may replace the answer; the run itself ends a moment later.
      this.runs.delete(run);
      this.put(run, run.stop());
    }
    this.keeper.save();
  }

  /** Asks again for what was refused for want of a key. */
  resume(): void {
    for (const run of this.refused.splice(0)) this.start(run.conversation, run.turn, run.lane, run.way);
  }

  /** Nothing of what was refused is wanted any more. */
  forget(): void {
    this.refused = [];
  }

  private put(run: Run, answer: Answer | null): void {
    const conversation = this.keeper.find(run.conversation);
    if (conversation) this.keeper.change(conversations.withAnswer(conversation, run.turn, run.lane, answer));
  }

  private async follow(run: Run, answering: Promise<Answer>): Promise<void> {
    let said: Answer | null = null;
    try {
      const answer = await answering;
      if (this.runs.has(run)) said = answer;
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      if (!this.runs.has(run)) return;
      this.takeBack(run);
      this.refused.push(run);
      this.needsKey(error);
    } finally {
      this.runs.delete(run);
      this.keeper.save();
      this.ended(said);
    }
  }

  private takeBack(run: Run): void {
    if (run.way === "continue") return this.put(run, run.before);
    const conversation = this.keeper.find(run.conversation);
    if (conversation) this.keeper.change(conversations.withoutAnswer(conversation, run.turn, run.lane));
  }
}
