/** What a model is sent for an answer. Pure. */

import type { ChatRequest, Message } from "./api.ts";
import type { Conversation } from "./conversation.ts";
import { fieldsOf } from "./settings.ts";

/**
 * The request for the answer at `lane` to the question at `index`; null where there is no such question.
 *
 * @param begun The text that the answer has already: the model goes on with an assistant's message that comes last.
 */
export function requestFor(conversation: Conversation, index: number, lane: number, begun: string): ChatRequest | null {
  const model = conversation.models[lane];
  if (model === undefined || conversation.turns[index] === undefined) return null;
  const messages = messagesFor(conversation, index, lane);
  if (begun !== "") messages.push({ role: "assistant", content: begun });
  return { ...fieldsOf(conversation.settings), model, messages };
}

/**
 * The messages up to the question at `index`: of each answer the version on the screen, without its reasoning. A turn
 * in which the model at `lane` said nothing is told with the other model's answer, so that a model called in later
 * knows what was said; without any answer the turn is left out.
 */
export function messagesFor(conversation: Conversation, index: number, lane: number): Message[] {
  const messages: Message[] = [];
  const system = conversation.settings.system.trim();
  if (system !== "") messages.push({ role: "system", content: system });
  for (const turn of conversation.turns.slice(0, index)) {
    const own = turn.answers[lane]?.text || turn.answers.find((answer) => answer?.text)?.text;
    if (!own) continue;
    messages.push({ role: "user", content: turn.question }, { role: "assistant", content: own });
  }
  const turn = conversation.turns[index];
  if (turn !== undefined) messages.push({ role: "user", content: turn.question });
  return messages;
}
