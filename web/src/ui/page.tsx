/** The whole page. */

import type { VNode } from "preact";
import { useEffect, useState } from "preact/hooks";

import { titleOf } from "../core/conversation.ts";
import { Composer, focusMessage } from "./composer.tsx";
import { useChatState, useMedia } from "./context.ts";
import { Header } from "./header.tsx";
import { KeyDialog } from "./key.tsx";
import { Modal } from "./modal.tsx";
import { Notices } from "./notices.tsx";
import { SettingsDialog } from "./settings.tsx";
import { Sidebar } from "./sidebar.tsx";
import { Thread } from "./thread.tsx";

export function Page(): VNode {
  const { current, askForKey, announcement } = useChatState();
  const narrow = useMedia("(max-width: 52rem)");
  const [open, setOpen] = useState<"" | "menu" | "settings">("");
  const close = () => setOpen("");
  const title = current.turns.length === 0 ? "Chat" : titleOf(current);
  useEffect(() => {
    document.title = title;
  }, [title]);
  const chosen = () => {
    close();
    focusMessage();
  };
  return (
    <div class="page">
      <button type="button" class="skip" onClick={focusMessage}>
        Skip to the message box
      </button>
      {!narrow && (
        <aside>
          <Sidebar onDone={focusMessage} />
        </aside>
      )}
      <main>
        <h1 class="hidden">{title}</h1>
        <Header onMenu={narrow ? () => setOpen("menu") : null} onSettings={() => setOpen("settings")} />
        <Thread key={current.id} />
        <Notices />
        <Composer onSettings={() => setOpen("settings")} />
      </main>
      <p class="hidden" role="status">
        {announcement}
      </p>
      {narrow && open === "menu" && (
        <Modal title="Conversations" kind="drawer" onClose={close}>
          <Sidebar onDone={chosen} />
        </Modal>
      )}
      {open === "settings" && <SettingsDialog key={current.id} onClose={close} />}
      {askForKey !== "" && <KeyDialog reason={askForKey} />}
    </div>
  );
}
