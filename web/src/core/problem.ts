/** What went wrong, as a sentence for the person who reads the page. */

/** A failure that is understood. Every one says what can be done next. */
export class Problem extends Error {
  /**
   * @param status The HTTP status; 0 when there was none.
   * @param retryAfter Seconds after which the server asks to be tried again.
   * @param code OpenAI's code of the error, or "".
   */
  constructor(
    sentence: string,
    readonly status = 0,
    readonly retryAfter: number | null = null,
    readonly code = "",
  ) {
    super(sentence);
  }

  /** Whether another API key would help. */
  get needsKey(): boolean {
    return this.status === 401 || this.code === "api_key_expired";
  }
}

/** The problem that a response with an error status describes. */
export async function problemOf(response: Response): Promise<Problem> {
  const body: unknown = await response.json().catch(() => null);
  const said = fieldOf(body, "message");
  const wait = retryAfter(response.headers.get("retry-after"));
  return new Problem(sentence(response.status, said, wait), response.status, wait, fieldOf(body, "code"));
}

/** A text inside OpenAI's error object `{"error": {"message", "code"}}`, or "" where there is none. */
export function fieldOf(body: unknown, name: "message" | "code"): string {
  if (typeof body !== "object" || body === null || !("error" in body)) return "";
  const { error } = body;
  const value: unknown = (error as Record<string, unknown> | null)?.[name];
  return typeof value === "string" ? value : "";
}

function sentence(status: number, said: string, wait: number | null): string {
  const why = said === "" ? "" : ` ${asSentence(said)}`;
  const later = wait === null ? "Try again in a moment." : `Try again in ${seconds(wait)}.`;
  switch (status) {
    case 401:
      return `This server asks for an API key.${why}`;
    case 403:
      return `Your API key does not allow this.${why} Use another key, or pick another model.`;
    case 404:
      return `This model is not here.${why} Pick another one.`;
    case 408:
      return `The request took too long to arrive.${why} Try again.`;
    case 413:
      return `The conversation is too large for the server.${why} Start a new one.`;
    case 429:
      return `The server has too much to do, or your key has reached its limit.${why} ${later}`;
    case 502:
    case 503:
    case 504:
      return `The model cannot answer now.${why} ${later}`;
    default:
      return status >= 500
        ? `The server failed (${status}).${why} Try again; if it stays so, ask whoever runs it.`
        : `The server refuses this request (${status}).${why}`;
  }
}

/** The text with a capital at its head, unless that is a name, and a full stop at its end. */
export function asSentence(text: string): string {
  const trimmed = text.trim();
  const capital = /^[a-z]+(?![\w.:])/.test(trimmed) ? trimmed.charAt(0).toUpperCase() + trimmed.slice(1) : trimmed;
  return /[.!?]$/.test(capital) ? capital : `${capital}.`;
}

function seconds(count: number): string {
  if (count > 90) return `${Math.ceil(count / 60)} minutes`;
  return count === 1 ? "a second" : `${count} seconds`;
}

/** Seconds to wait, from a Retry-After header (RFC 9110 section 10.2.3: seconds or a date). */
export function retryAfter(value: string | null, now = Date.now()): number | null {
  if (value === null || value.trim() === "") return null;
  if (/^\s*\d+\s*$/.test(value)) return Math.max(1, Number(value));
  const date = Date.parse(value);
  return Number.isNaN(date) ? null : Math.max(1, Math.ceil((date - now) / 1000));
}
