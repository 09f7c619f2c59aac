/** How answers are asked for, within the limits of the API. Pure. */

/** null and empty leave a value to the server. */
export interface Settings {
  system: string;
  temperature: number | null;
  topP: number | null;
  maxTokens: number | null;
  seed: number | null;
  /** The answer ends before the first of these that it would contain. */
  stop: string[];
  presencePenalty: number | null;
  frequencyPenalty: number | null;
  repetitionPenalty: number | null;
}

export const PLAIN: Settings = {
  ...{ system: "", temperature: null, topP: null, maxTokens: null, seed: null, stop: [] },
  ...{ presencePenalty: null, frequencyPenalty: null, repetitionPenalty: null },
};

export type NumberName = Exclude<keyof Settings, "system" | "stop">;

/** What a number is called, between what it lies, and whether it is whole. */
export interface NumberRule {
  label: string;
  /** The limits in words; behind a semicolon, what the number does. */
  hint: string;
  least: number;
  most: number;
  whole: boolean;
}

export const NUMBERS: Record<NumberName, NumberRule> = {
  temperature: { label: "Temperature", hint: "0 to 2; 0 gives the likeliest words", least: 0, most: 2, whole: false },
  topP: { label: "Top-p", hint: "above 0, up to 1; less leaves out unlikely words", least: 0.01, most: 1, whole: false },
  maxTokens: { label: "Max tokens", hint: "1 or more; the longest answer", least: 1, most: 1_000_000, whole: true },
  seed: {
    label: "Seed",
    hint: "a whole number; the same seed gives the same answer",
    least: Number.MIN_SAFE_INTEGER,
    most: Number.MAX_SAFE_INTEGER,
    whole: true,
  },
  presencePenalty: {
    label: "Presence penalty",
    hint: "-2 to 2; against words that were said",
    least: -2,
    most: 2,
    whole: false,
  },
  frequencyPenalty: {
    label: "Frequency penalty",
    hint: "-2 to 2; against words that were said often",
    least: -2,
    most: 2,
    whole: false,
  },
  repetitionPenalty: {
    label: "Repetition penalty",
    hint: "above 0, up to 10; more than 1 is against words that were said or asked",
    least: 0.01,
    most: 10,
    whole: false,
  },
};

export const MOST_STOPS = 64;
export const LONGEST_STOP = 256;

/** Whether a number is one that the API takes. */
export function isWithin(name: NumberName, value: number): boolean {
  const { least, most, whole } = NUMBERS[name];
  return value >= least && value <= most && (!whole || Number.isInteger(value));
}

/** Whether stop texts are such that the API takes them. */
export function areStops(stop: readonly string[]): boolean {
  return stop.length <= MOST_STOPS && stop.every((text) => text !== "" && text.length <= LONGEST_STOP);
}

/** Stop texts out of a box with one on each line, where `\n`, `\t` and `\\` stand for what cannot be typed there. */
export function stopsFrom(lines: string): string[] {
  const escapes: Record<string, string> = { n: "\n", t: "\t", "\\": "\\" };
  const each = lines.split("\n").filter((line) => line !== "");
  return each.map((line) => line.replace(/\\([nt\\])/g, (_, letter: string) => escapes[letter] ?? letter));
}

/** The box's text for stop texts. */
export function linesOf(stop: readonly string[]): string {
  const escaped = stop.map((text) => text.replaceAll("\\", "\\\\").replaceAll("\n", "\\n").replaceAll("\t", "\\t"));
  return escaped.join("\n");
}

/** What is set, in words; "" where nothing is. */
export function summaryOf({ system, stop, maxTokens, ...numbers }: Settings): string {
  const named = Object.entries(numbers) as [Exclude<NumberName, "maxTokens">, number | null][];
  return [
    ...(system.trim() === "" ? [] : ["with a system prompt"]),
    ...named.flatMap(([name, value]) => (value === null ? [] : [`${NUMBERS[name].label.toLowerCase()} ${value}`])),
    ...(maxTokens === null ? [] : [`at most ${maxTokens} tokens`]),
    ...(stop.length === 0 ? [] : [`${stop.length} stop ${stop.length === 1 ? "text" : "texts"}`]),
  ].join(" · ");
}

/** The settings by their names in the API; null where the server decides. */
export function fieldsOf(settings: Settings): Record<string, number | string[] | null> {
  return {
    temperature: settings.temperature,
    top_p: settings.topP,
    max_tokens: settings.maxTokens,
    seed: settings.seed,
    stop: settings.stop.length > 0 ? settings.stop : null,
    presence_penalty: settings.presencePenalty,
    frequency_penalty: settings.frequencyPenalty,
    repetition_penalty: settings.repetitionPenalty,
  };
}
