/** Conversations by the day of their last change, and those that have some words. Pure. */

import { titleOf, type Conversation, type Turn } from "./conversation.ts";

export interface Group {
  name: string;
  conversations: Conversation[];
}

/** Groups in which there is any, latest first. Days are those of the reader's clock. */
export function byDay(conversations: readonly Conversation[], now = Date.now()): Group[] {
  const today = new Date(now);
  const day = (back: number) => new Date(today.getFullYear(), today.getMonth(), today.getDate() - back).getTime();
  const bounds: [string, number][] = [
    ["Today", day(0)],
    ["Yesterday", day(1)],
    ["Previous 7 days", day(7)],
    ["Older", Number.NEGATIVE_INFINITY],
  ];
  const groups = bounds.map(([name]) => ({ name, conversations: [] as Conversation[] }));
  for (const conversation of conversations) {
    groups[bounds.findIndex(([, from]) => conversation.updated >= from)]?.conversations.push(conversation);
  }
  return groups.filter((group) => group.conversations.length > 0);
}

/** Conversations whose title and texts have each word of the query, in any case; also in versions that are not shown. */
export function having(query: string, conversations: Conversation[]): Conversation[] {
  const words = query.toLowerCase().split(/\s+/).filter((word) => word !== "");
  if (words.length === 0) return conversations;
  return conversations.filter((conversation) => {
    const text = textOf(conversation);
    return words.every((word) => text.includes(word));
  });
}

/** A conversation is a new object with each change, so its text is put together once for all letters of a query. */
const texts = new WeakMap<Conversation, string>();

function textOf(conversation: Conversation): string {
  const known = texts.get(conversation);
  if (known !== undefined) return known;
  const parts = [titleOf(conversation)];
  gather(conversation.turns, parts);
  const text = parts.join("\n").toLowerCase();
  texts.set(conversation, text);
  return text;
}

function gather(turns: readonly Turn[], parts: string[]): void {
  for (const { question, answers, otherAnswers, otherTurns } of turns) {
    parts.push(question);
    for (const answer of [...answers, ...otherAnswers.flatMap(({ rest }) => rest)]) if (answer) parts.push(answer.text);
    for (const tail of otherTurns.rest) gather(tail, parts);
  }
}
