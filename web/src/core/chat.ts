/** Everything that can be done on the page. */

import { listModels } from "./api.ts";
import * as conversations from "./conversation.ts";
import type { Answer, Settings } from "./conversation.ts";
import { Keeper } from "./keeper.ts";
import { exported, imported, type Library } from "./library.ts";
import type { Preferences } from "./preferences.ts";
import { Problem } from "./problem.ts";
import { Run } from "./run.ts";
import type { State } from "./state.ts";
import { Store } from "./store.ts";

export class Chat {
  readonly store: Store<State>;
  private readonly keeper: Keeper;
  private readonly runs = new Set<Run>();
  /** Runs that were refused for want of a key. */
  private refused: Run[] = [];
  /** The key that was refused last: whoever closed the dialog is not asked again about the same one. */
  private refusedKey: string | null | undefined;

  constructor(
    library: Library,
    private readonly preferences: Preferences,
  ) {
    const kept = library.all();
    const latest = kept[0];
    const open = kept.find((one) => one.id === preferences.open);
    const current = open ?? conversations.newConversation(latest?.models.slice(0, 1) ?? [""], latest?.settings ?? conversations.PLAIN);
    this.store = new Store<State>({
      ...{ models: null, modelsProblem: "", conversations: kept, current },
      ...{ undo: null, askForKey: "", storageProblem: "", announcement: "" },
    });
    const renamed = (old: string, id: string) => this.runsOf(old).forEach((run) => (run.conversation = id));
    this.store.subscribe(() => (preferences.open = this.store.get().current.id));
    this.keeper = new Keeper(this.store, library, (id) => this.runsOf(id).length > 0, renamed);
  }

  // Models and keys

  /**
   * Asks the server for its models; what it says shows in the state.
   *
   * @param insist Ask for a key even where that was declined before.
   */
  async refreshModels(insist = false): Promise<void> {
    const { key } = this.preferences;
    try {
      const models = await listModels(key);
      this.store.set({ models, modelsProblem: models.length > 0 ? "" : "This server has no model for you yet." });
      const { current } = this.store.get();
      const first = models.find((model) => model.ready !== false) ?? models[0];
      const known = models.some((model) => model.id === current.models[0]);
      // A conversation that has begun keeps its model's name, here or not.
      if (first !== undefined && !known && current.turns.length === 0) this.setModel(0, first.id);
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      this.store.set({ modelsProblem: error.message });
      if (error.needsKey && (insist || this.refusedKey !== key)) this.askForKey(this.keyReason(error));
      if (error.needsKey) this.refusedKey = key;
    }
  }

  setModel(lane: number, name: string): void {
    const { current } = this.store.get();
    this.keeper.change({ ...current, models: current.models.map((old, place) => (place === lane ? name : old)) });
  }

  /** Opens or closes the second model; closing keeps its answers. */
  setSideBySide(on: boolean): void {
    const { current, models } = this.store.get();
    const [first = ""] = current.models;
    if (!on) this.stop(1);
    const earlier = current.turns.findLast((turn) => turn.answers[1])?.answers[1]?.model;
    const others = models?.filter((model) => model.id !== first) ?? [];
    const second = earlier ?? (others.find((model) => model.ready !== false) ?? others[0])?.id ?? first;
    this.keeper.change({ ...this.store.get().current, models: on ? [first, second] : [first] });
  }

  /** Keeps a key, or forgets it; what was refused for want of one is asked again. */
  setKey(key: string | null, tabOnly = false): void {
    this.preferences.keepKey(key, tabOnly);
    this.store.set({ askForKey: "", modelsProblem: "" });
    void this.refreshModels();
    const refused = this.refused.splice(0);
    if (key !== null) for (const run of refused) this.start(run.conversation, run.turn, run.lane);
  }

  askForKey(reason: string): void {
    this.store.set({ askForKey: reason });
  }

  private keyReason(problem: Problem): string {
    if (problem.status !== 401) return problem.message;
    return this.preferences.key === null
      ? "This server asks for an API key."
      : "The server does not accept the API key that was entered. Enter another one.";
  }

  // Conversations

  open(id: string): void {
    const current = this.keeper.find(id);
    if (current !== undefined) this.store.set({ current, undo: null });
  }

  /** Starts a conversation with the models and settings of the one on the screen. */
  startNew(): void {
    const { current } = this.store.get();
    this.store.set({ current: conversations.newConversation(current.models, current.settings), undo: null });
    void this.refreshModels();
  }

  remove(id: string): void {
    this.halt(this.runsOf(id));
    const before = this.keeper.find(id);
    if (before === undefined) return;
    this.keeper.remove(id);
    if (this.store.get().current.id === id) this.startNew();
    this.store.set({ undo: { what: "The conversation was deleted.", before } });
  }

  /** Brings back what the last action replaced. */
  undo(): void {
    const { undo } = this.store.get();
    if (undo === null) return;
    this.halt(this.runsOf(undo.before.id));
    this.store.set({ current: undo.before, undo: null });
    this.keeper.change({ ...undo.before, updated: Date.now() });
  }

  dismissUndo(): void {
    this.store.set({ undo: null });
  }

  setSettings(settings: Settings): void {
    this.keeper.change({ ...this.store.get().current, settings });
  }

  exportAll(): string {
    return exported(this.store.get().conversations);
  }

  /** Adds the conversations of an exported file and returns their number. Throws Problem. */
  importAll(text: string): number {
    const added = imported(text);
    added.forEach((conversation) => this.keeper.change(conversation));
    this.keeper.save();
    return added.length;
  }

  // Questions and answers

  /** Whether the conversation on the screen is being answered. */
  get busy(): boolean {
    return this.runsOf(this.store.get().current.id).length > 0;
  }

  ask(question: string): void {
    this.store.set({ undo: null });
    this.keeper.change(conversations.ask(this.store.get().current, question));
    this.startTurn();
  }

  /** Replaces a question and asks it; what is lost by that can be had back by `undo`. */
  edit(index: number, question: string): void {
    this.stop();
    const before = this.store.get().current;
    this.keeper.change(conversations.edit(before, index, question));
    this.store.set({ undo: { what: "The question and what followed it were replaced.", before } });
    this.startTurn();
  }

  /** Asks for an answer to the last question, in place of the one that is there. */
  regenerate(lane: number): void {
    this.stop(lane);
    const before = this.store.get().current;
    const text = before.turns.at(-1)?.answers[lane]?.text;
    this.store.set({ undo: text ? { what: "The earlier answer was replaced.", before } : null });
    this.start(before.id, before.turns.length - 1, lane);
  }

  /** Stops the answers to the conversation on the screen, or that of one model. */
  stop(lane?: number): void {
    const runs = this.runsOf(this.store.get().current.id);
    this.halt(runs.filter((run) => lane === undefined || run.lane === lane));
  }

  private runsOf(id: string): Run[] {
    return [...this.runs].filter((run) => run.conversation === id);
  }

  private halt(runs: Run[]): void {
    for (const run of runs) {
      run.stop();
      // At once, since what comes next may replace the answer; the run itself ends a moment later.
      this.runs.delete(run);
      const answer = this.keeper.find(run.conversation)?.turns[run.turn]?.answers[run.lane];
      if (answer) this.put(run, { ...answer, state: "stopped", note: "Stopped." });
    }
    this.keeper.save();
  }

  private put(run: Run, answer: Answer | null): void {
    const conversation = this.keeper.find(run.conversation);
    if (conversation) this.keeper.change(conversations.withAnswer(conversation, run.turn, run.lane, answer));
  }

  private startTurn(): void {
    const { current } = this.store.get();
    current.models.forEach((_, lane) => this.start(current.id, current.turns.length - 1, lane));
    this.store.set({ announcement: `${current.models.join(" and ")} answering.` });
  }

  private start(id: string, turn: number, lane: number): void {
    const conversation = this.keeper.find(id);
    const model = conversation?.models[lane];
    if (conversation === undefined || model === undefined || conversation.turns[turn] === undefined) return;
    const { settings } = conversation;
    const request = {
      ...{ model, messages: conversations.messagesFor(conversation, turn, lane), temperature: settings.temperature },
      ...{ top_p: settings.topP, max_tokens: settings.maxTokens },
    };
    const run = new Run(id, turn, lane);
    this.runs.add(run);
    const show = (answer: Answer) => this.runs.has(run) && this.put(run, answer);
    void this.follow(run, run.answer(request, this.preferences.key, show));
  }

  private async follow(run: Run, answering: Promise<Answer>): Promise<void> {
    try {
      const answer = await answering;
      if (this.runs.has(run)) this.store.set({ announcement: spoken(answer) });
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      if (!this.runs.has(run)) return;
      this.put(run, null);
      this.refused.push(run);
      this.askForKey(this.keyReason(error));
    } finally {
      this.runs.delete(run);
      this.keeper.save();
      this.store.set({});
    }
  }
}

function spoken(answer: Answer): string {
  return answer.state === "failed" ? "" : `${answer.model} says: ${answer.text} ${answer.note}`;
}
