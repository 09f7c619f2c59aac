/** The page's two workers. */

import { Bounded, type Port } from "./bounded.ts";
import type { MathQuestion, MathReply, TextQuestion, TextReply } from "./protocol.ts";

/** Names of files beside the page's own script. */
type Script = "text.js" | "math.js";

interface Policy {
  createScriptURL(name: string): string;
}

interface TrustedTypes {
  createPolicy(name: string, rules: Policy): Policy;
}

const SCRIPTS: readonly string[] = ["text.js", "math.js"] satisfies Script[];

const rules: Policy = {
  createScriptURL(name) {
    if (!SCRIPTS.includes(name)) throw new TypeError("no worker of the page");
    return new URL(name, import.meta.url).href;
  },
};
// The Content-Security-Policy allows this policy and no other, and it can be made once: workers are these two files.
const factory = (globalThis as { trustedTypes?: TrustedTypes }).trustedTypes;
const policy = factory?.createPolicy("workers", rules) ?? rules;

function start(script: Script): Port {
  return new Worker(policy.createScriptURL(script)) as unknown as Port;
}

export const textWorker = new Bounded<TextQuestion, TextReply>(() => start("text.js"));
export const mathWorker = new Bounded<MathQuestion, MathReply>(() => start("math.js"));
