/** Where a link in an answer may lead. */

import { decodeEntities } from "./entities.ts";

/** The address, where it is a whole one and of a kind that only shows something; else null. */
export function safeAddress(href: string): string | null {
  try {
    const url = new URL(decodeEntities(href));
    return ["http:", "https:", "mailto:"].includes(url.protocol) ? url.href : null;
  } catch {
    return null;
  }
}
