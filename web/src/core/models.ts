/** The models that a server lists. Pure. */

/** One entry of the list; its state where the server says one: a word, and a sentence about it. */
export interface Model {
  id: string;
  /** null where the server says nothing about it. */
  ready: boolean | null;
  status: string;
  reason: string;
  message: string;
  /** The most tokens of question and answer together. */
  context: number | null;
}

/** The models in OpenAI's list; null where it is none. */
export function modelsIn(body: unknown): Model[] | null {
  const data = typeof body === "object" && body !== null && "data" in body ? body.data : null;
  if (!Array.isArray(data)) return null;
  return data.flatMap((entry: Record<string, unknown> | null) => {
    if (typeof entry?.id !== "string") return [];
    const text = (value: unknown) => (typeof value === "string" ? value : "");
    const status = text(entry.status);
    const length = entry.max_model_len;
    return [
      {
        ...{ id: entry.id, ready: status === "" ? null : status === "ready", status },
        ...{ reason: text(entry.reason), message: text(entry.message) },
        context: typeof length === "number" && length > 0 ? length : null,
      },
    ];
  });
}

export interface ModelState {
  kind: "good" | "resting" | "bad";
  text: string;
}

/** A model that rests is woken by the next question. */
const RESTING = ["asleep", "sleeping", "waking"];

/** The model's state in words, where the server says one. */
export function stateOf(model: Model | undefined, models: Model[] | null): ModelState | null {
  if (models === null) return null;
  if (model === undefined) return { kind: "bad", text: "Not here" };
  const { status, reason } = model;
  if (status === "") return null;
  const word = status.charAt(0).toUpperCase() + status.slice(1);
  if (model.ready) return { kind: "good", text: word };
  return { kind: RESTING.includes(status) ? "resting" : "bad", text: reason === "" ? word : `${word}: ${reason}` };
}

/** The models whose name has each word of a query, in any case. */
export function matching(query: string, models: readonly Model[]): Model[] {
  const words = query.toLowerCase().split(/\s+/);
  return models.filter(({ id }) => words.every((word) => id.toLowerCase().includes(word)));
}

/** The one to begin with: the first that is ready. */
export function preferred(models: readonly Model[]): Model | undefined {
  return models.find((model) => model.ready !== false) ?? models[0];
}
