/** Starts the page. */

import { render } from "preact";

import { Chat } from "./core/chat.ts";
import { Library } from "./core/library.ts";
import { Preferences, storageOr } from "./core/preferences.ts";
import { ServicesContext } from "./ui/context.ts";
import { Page } from "./ui/page.tsx";

const REFRESH_MILLISECONDS = 15_000;

const { storage, lasting } = storageOr("localStorage");
const preferences = new Preferences(storage, storageOr("sessionStorage").storage);
preferences.showTheme();
const chat = new Chat(new Library(storage), preferences);

const place = document.getElementById("page");
if (place === null) throw new Error("the page's HTML is not the one that belongs to this script");
render(
  <ServicesContext.Provider value={{ chat, preferences, lasting }}>
    <Page />
  </ServicesContext.Provider>,
  place,
);

// The state of the models, as long as somebody looks.
const refresh = () => {
  if (document.visibilityState === "visible" && chat.store.get().askForKey === "") void chat.refreshModels();
};
document.addEventListener("visibilitychange", refresh);
setInterval(refresh, REFRESH_MILLISECONDS);
refresh();
