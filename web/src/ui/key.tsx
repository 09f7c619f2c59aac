/** Asks for the API key. */

import type { VNode } from "preact";
import { useState } from "preact/hooks";

import { useServices } from "./context.ts";
import { Modal } from "./modal.tsx";

/** What an Authorization header can carry (RFC 6750: visible ASCII). */
const USABLE = /^[\x21-\x7e]+$/;

export function KeyDialog({ reason }: { reason: string }): VNode {
  const { chat, preferences } = useServices();
  const [text, setText] = useState("");
  const [tabOnly, setTabOnly] = useState(false);
  const key = text.trim();
  const wrong = key !== "" && !USABLE.test(key);
  return (
    <Modal title="API key" onClose={() => chat.askForKey("")}>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          if (USABLE.test(key)) chat.setKey(key, tabOnly);
        }}
      >
        <p>{reason}</p>
        <label>
          API key
          <input
            type="password"
            autocomplete="off"
            spellcheck={false}
            value={text}
            aria-invalid={wrong}
            aria-describedby="key-note"
            onInput={(event) => setText(event.currentTarget.value)}
          />
        </label>
        <p id="key-note" class={wrong ? "small wrong" : "small"} role={wrong ? "alert" : undefined}>
          {wrong
            ? "A key has letters, digits and signs only, without spaces."
            : `Kept in ${tabOnly ? "this tab until it is closed" : "this browser"}, sent to this server, and shown to nobody.`}
        </p>
        <label class="choice">
          <input type="checkbox" checked={tabOnly} onInput={(event) => setTabOnly(event.currentTarget.checked)} /> In this tab only
        </label>
        <div class="row end">
          {preferences.key !== null && (
            <button type="button" onClick={() => chat.setKey(null)}>
              Forget the key
            </button>
          )}
          <button type="submit" class="primary" disabled={key === "" || wrong}>
            Use this key
          </button>
        </div>
      </form>
    </Modal>
  );
}
