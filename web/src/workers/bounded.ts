/** Work of unknown length, with a limit: a worker that takes too long is ended, and another one begun for what is left. */

import { READY } from "./protocol.ts";

/** What is used of a `Worker`. */
export interface Port {
  onmessage: ((event: { data: unknown }) => void) | null;
  onerror: ((event: unknown) => void) | null;
  postMessage(message: unknown): void;
  terminate(): void;
}

/** Why there is no reply: it took too long, or the worker cannot be had (a server that is gone, or another version). */
export type Failure = "late" | "failed";

export interface Outcome<Reply> {
  reply: Reply | Failure;
  milliseconds: number;
}

interface Call<Question, Reply> {
  question: Question;
  done: (outcome: Outcome<Reply>) => void;
}

/** Far longer than any text takes that a person wants to read. */
const LIMIT_MILLISECONDS = 2000;

export class Bounded<Question, Reply> {
  private port: Port | null = null;
  private ready = false;
  private current: { call: Call<Question, Reply>; started: number; timer: ReturnType<typeof setTimeout> | 0 } | null = null;
  /** The last one asked comes first: it is what somebody looks at. */
  private readonly waiting: Call<Question, Reply>[] = [];

  /** @param start Begins a worker. */
  constructor(
    private readonly start: () => Port,
    private readonly limit = LIMIT_MILLISECONDS,
  ) {}

  ask(question: Question): Promise<Outcome<Reply>> {
    return new Promise((done) => {
      this.waiting.push({ question, done });
      this.proceed();
    });
  }

  private proceed(): void {
    if (this.current !== null || this.waiting.length === 0) return;
    if (this.port === null) this.begin();
    else if (this.ready) this.send(this.port);
  }

  private begin(): void {
    this.ready = false;
    try {
      const port = this.start();
      this.port = port;
      port.onmessage = ({ data }) => this.heard(port, data);
      port.onerror = () => {
        if (this.port !== port) return;
        if (this.ready) this.end("late", true);
        else this.lost();
      };
    } catch {
      this.lost();
    }
  }

  private send(port: Port): void {
    const call = this.waiting.pop();
    if (call === undefined) return;
    const current = { call, started: performance.now(), timer: 0 as ReturnType<typeof setTimeout> | 0 };
    // In two halves: a computer that wakes up, or a page that was held up, still gives the worker the second one.
    const half = (then: () => void) => {
      current.timer = setTimeout(then, this.limit / 2);
    };
    half(() => half(() => this.end("late", true)));
    this.current = current;
    port.postMessage(call.question);
  }

  private heard(port: Port, data: unknown): void {
    if (this.port !== port) return;
    if (this.ready) this.end(data as Reply, false);
    else if (data === READY) {
      this.ready = true;
      this.proceed();
    } else this.lost();
  }

  /** The worker cannot be had: nothing that waits will get an answer. A later question tries again. */
  private lost(): void {
    const calls = this.waiting.splice(0);
    this.end("failed", true);
    for (const { done } of calls) done({ reply: "failed", milliseconds: 0 });
  }

  private end(reply: Reply | Failure, stop: boolean): void {
    const { current } = this;
    this.current = null;
    if (stop) {
      this.port?.terminate();
      this.port = null;
    }
    if (current !== null) {
      if (current.timer !== 0) clearTimeout(current.timer);
      current.call.done({ reply, milliseconds: performance.now() - current.started });
    }
    this.proceed();
  }
}
