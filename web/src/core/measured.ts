/** How long an answer is and how fast it came, in words. Pure. */

import type { Answer } from "./conversation.ts";

/** Over less time than this a rate says more about the network than about the model. */
const LEAST_SECONDS = 0.1;

/** "120 tokens · 45 tokens/s · 2.9 s": the wait for the first token is in the time and not in the rate. */
export function measured({ tokens, firstSeconds, seconds }: Answer): string {
  const parts: string[] = [];
  if (tokens !== null) parts.push(`${tokens.toLocaleString("en")} ${tokens === 1 ? "token" : "tokens"}`);
  const spent = seconds !== null && firstSeconds !== null ? seconds - firstSeconds : 0;
  if (tokens !== null && tokens > 1 && spent >= LEAST_SECONDS) {
    const rate = (tokens - 1) / spent;
    parts.push(`${rate.toFixed(rate < 10 ? 1 : 0)} tokens/s`);
  }
  if (seconds !== null) parts.push(`${seconds.toFixed(1)} s`);
  return parts.join(" · ");
}
