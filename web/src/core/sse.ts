/** Server-sent events from a fetch, by the rules of the HTML standard ("Interpreting an event stream"). */

/** Takes text in pieces of any size and gives the data of each event that is complete; comments vanish. */
export class EventParser {
  private rest = "";
  private data: string[] = [];

  push(piece: string): string[] {
    const text = this.rest + piece;
    // A carriage return at the very end may be half of a CRLF.
    const whole = text.endsWith("\r") ? text.slice(0, -1) : text;
    const lines = whole.split(/\r\n|\n|\r/);
    this.rest = (lines.pop() ?? "") + text.slice(whole.length);
    return lines.flatMap((line) => this.line(line));
  }

  private line(line: string): string[] {
    if (line === "") {
      const event = this.data;
      this.data = [];
      return event.length > 0 ? [event.join("\n")] : [];
    }
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "data") this.data.push(value);
    return [];
  }
}

/**
 * The data of each event of a response's body. Ends with the body; an event that was not finished is dropped.
 *
 * @param onBytes Called for whatever arrives, comments too: the sign that the other side lives.
 */
export async function* events(body: ReadableStream<Uint8Array>, onBytes: () => void): AsyncGenerator<string> {
  const parser = new EventParser();
  const decoder = new TextDecoder();
  const reader = body.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      onBytes();
      yield* parser.push(decoder.decode(value, { stream: true }));
    }
  } finally {
    // Rejects where the stream has failed already, which the reader above has said.
    reader.cancel().catch(() => undefined);
  }
}
