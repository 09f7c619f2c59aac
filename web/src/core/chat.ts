/** Everything that can be done on the page. */

import { Answering } from "./answering.ts";
import { listModels } from "./api.ts";
import * as conversations from "./conversation.ts";
import type { Answer, Conversation } from "./conversation.ts";
import { Keeper } from "./keeper.ts";
import { exported, imported, type Library } from "./library.ts";
import { preferred } from "./models.ts";
import type { Preferences } from "./preferences.ts";
import { Problem } from "./problem.ts";
import { PLAIN, type Settings } from "./settings.ts";
import type { State } from "./state.ts";
import { Store } from "./store.ts";

export class Chat {
  readonly store: Store<State>;
  private readonly keeper: Keeper;
  private readonly answering: Answering;
  /** The key that was refused last: whoever closed the dialog is not asked again about the same one. */
  private refusedKey: string | null | undefined;

  constructor(
    library: Library,
    private readonly preferences: Preferences,
  ) {
    const kept = library.all();
    const latest = kept[0];
    const open = kept.find((one) => one.id === preferences.open);
    const current = open ?? conversations.newConversation(latest?.models.slice(0, 1) ?? [""], latest?.settings ?? PLAIN);
    this.store = new Store<State>({
      ...{ models: null, modelsProblem: "", conversations: kept, current },
      ...{ undo: null, askForKey: "", storageProblem: "", announcement: "" },
    });
    this.store.subscribe(() => (preferences.open = this.store.get().current.id));
    const isBusy = (id: string) => this.answering.of(id).length > 0;
    const renamed = (old: string, id: string) => this.answering.renamed(old, id);
    this.keeper = new Keeper(this.store, library, isBusy, renamed);
    const ended = (answer: Answer | null) => this.store.set(answer ? { announcement: spoken(answer) } : {});
    const needsKey = (problem: Problem) => this.askForKey(this.keyReason(problem));
    this.answering = new Answering(this.keeper, preferences, ended, needsKey);
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
      const first = preferred(models);
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
    this.change((current) => ({ ...current, models: current.models.with(lane, name) }));
  }

  /** Opens or closes the second model; closing keeps its answers. */
  setSideBySide(on: boolean): void {
    const { current, models } = this.store.get();
    const [first = ""] = current.models;
    if (!on) this.stop(1);
    const earlier = current.turns.findLast((turn) => turn.answers[1])?.answers[1]?.model;
    const second = earlier ?? preferred(models?.filter((model) => model.id !== first) ?? [])?.id ?? first;
    this.change((now) => ({ ...now, models: on ? [first, second] : [first] }));
  }

  /** Keeps a key, or forgets it; what was refused for want of one is asked again. */
  setKey(key: string | null, tabOnly = false): void {
    this.preferences.keepKey(key, tabOnly);
    this.store.set({ askForKey: "", modelsProblem: "" });
    void this.refreshModels();
    if (key === null) this.answering.forget();
    else this.answering.resume();
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

  rename(id: string, title: string): void {
    const found = this.keeper.find(id);
    if (found !== undefined) this.keeper.change(conversations.renamed(found, title));
    this.keeper.save();
  }

  remove(id: string): void {
    this.answering.halt(this.answering.of(id));
    const before = this.keeper.find(id);
    if (before === undefined) return;
    this.keeper.remove(id);
    if (this.store.get().current.id === id) this.startNew();
    this.store.set({ undo: { what: "The conversation was deleted.", before } });
  }

  /** Brings back the conversation that was deleted last. */
  undo(): void {
    const { undo } = this.store.get();
    if (undo === null) return;
    this.store.set({ current: undo.before, undo: null });
    this.keeper.change({ ...undo.before, updated: Date.now() });
  }

  dismissUndo(): void {
    this.store.set({ undo: null });
  }

  setSettings(settings: Settings): void {
    this.change((current) => ({ ...current, settings }));
  }

  /** Conversations as a file's text: one, or all. */
  export(id?: string): string {
    return exported(this.store.get().conversations.filter((one) => id === undefined || one.id === id));
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
    return this.answering.of(this.store.get().current.id).length > 0;
  }

  ask(question: string): void {
    this.store.set({ undo: null });
    this.change((current) => conversations.ask(current, question));
    this.startTurn();
  }

  /** Asks another version of a question; the one before it stays, with what followed it. */
  edit(index: number, question: string): void {
    this.leave();
    this.change((current) => conversations.edit(current, index, question));
    this.startTurn();
  }

  showQuestion(index: number, place: number): void {
    this.leave();
    this.change((current) => conversations.showQuestion(current, index, place));
  }

  showAnswer(index: number, lane: number, place: number): void {
    this.change((current) => conversations.showAnswer(current, index, lane, place));
  }

  /** Asks for another answer to the last question, or for the rest of the one that is there. */
  answerLast(lane: number, way: "again" | "continue"): void {
    this.stop(lane);
    const { current } = this.store.get();
    this.answering.start(current.id, current.turns.length - 1, lane, way);
  }

  /** Stops the answers to the conversation on the screen, or that of one model. */
  stop(lane?: number): void {
    this.answering.halt(this.answering.of(this.store.get().current.id, lane));
  }

  /** The turns on the screen are about to be others. */
  private leave(): void {
    this.stop();
    this.answering.forget();
  }

  private change(how: (current: Conversation) => Conversation): void {
    this.keeper.change(how(this.store.get().current));
  }

  private startTurn(): void {
    const { current } = this.store.get();
    current.models.forEach((_, lane) => this.answering.start(current.id, current.turns.length - 1, lane, "first"));
    this.store.set({ announcement: `${current.models.join(" and ")} answering.` });
  }
}

function spoken({ state, model, text, calls, note }: Answer): string {
  if (state === "failed") return "";
  const called = calls.map(({ name }) => `It calls the tool ${name}.`);
  return [`${model} says:`, text, ...called, note].filter((part) => part !== "").join(" ");
}
