/** The list of models: searched by name, each with its state. */

import type { VNode } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";

import { matching, stateOf, type Model, type ModelState } from "../core/models.ts";
import { useChatState, useServices } from "./context.ts";
import { Icon } from "./icons.tsx";
import { Modal } from "./modal.tsx";
import { isTouch } from "./textbox.tsx";

/** The model that is talked to at a place, and its state. */
export function Picker({ lane, name, label }: { lane: number; name: string; label: string }): VNode {
  const { models } = useChatState();
  const [open, setOpen] = useState(false);
  const shown = name === "" ? "No model" : name;
  const state = stateOf(
    models?.find((model) => model.id === name),
    models,
  );
  return (
    <div class="picker">
      <button
        type="button"
        class="model"
        aria-haspopup="dialog"
        aria-label={`${label}: ${shown}`}
        title={shown}
        onClick={() => setOpen(true)}
      >
        <span>{shown}</span>
        <Icon name="open" />
      </button>
      {state && <State state={state} />}
      {open && <ModelsDialog lane={lane} name={name} label={label} onClose={() => setOpen(false)} />}
    </div>
  );
}

function State({ state }: { state: ModelState }): VNode {
  return (
    <span class={`state ${state.kind}`} title={state.text}>
      {state.text}
    </span>
  );
}

interface Props {
  lane: number;
  /** The one that is chosen now. */
  name: string;
  label: string;
  onClose: () => void;
}

/** A combobox over a list that is always open (WAI-ARIA Authoring Practices, "Combobox"): the focus stays in the search. */
function ModelsDialog({ lane, name, label, onClose }: Props): VNode {
  const { chat } = useServices();
  const { models } = useChatState();
  const [query, setQuery] = useState("");
  const [active, setActive] = useState(name);
  const search = useRef<HTMLInputElement>(null);
  const list = useRef<HTMLUListElement>(null);
  const found = matching(query, models ?? []);
  const at = Math.max(
    0,
    found.findIndex(({ id }) => id === active),
  );
  useEffect(() => {
    void chat.refreshModels();
  }, []);
  useLayoutEffect(() => {
    if (!isTouch()) search.current?.focus(); // on a phone that would bring up the keyboard
  }, []);
  useLayoutEffect(() => list.current?.querySelector("[aria-selected=true]")?.scrollIntoView({ block: "nearest" }), [at, query]);
  const choose = (model: Model | undefined) => {
    if (model === undefined) return;
    chat.setModel(lane, model.id);
    onClose();
  };
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.isComposing) return;
    const steps: Record<string, number> = { ArrowDown: at + 1, ArrowUp: at - 1, PageDown: at + 8, PageUp: at - 8 };
    const to = steps[event.key];
    if (to !== undefined) setActive(found[Math.min(Math.max(to, 0), found.length - 1)]?.id ?? "");
    else if (event.key === "Enter") choose(found[at]);
    else return;
    event.preventDefault();
  };
  return (
    <Modal title={label} kind="models" onClose={onClose}>
      <input
        ref={search}
        type="text"
        role="combobox"
        aria-label="Search models"
        aria-expanded={found.length > 0}
        aria-controls="models"
        aria-autocomplete="list"
        aria-activedescendant={found.length > 0 ? `model-${at}` : undefined}
        autocomplete="off"
        spellcheck={false}
        placeholder="Search models"
        value={query}
        onInput={(event) => setQuery(event.currentTarget.value)}
        onKeyDown={onKeyDown}
      />
      <ul ref={list} id="models" role="listbox" aria-label="Models">
        {found.map((model, index) => (
          <li
            key={model.id}
            id={`model-${index}`}
            role="option"
            aria-selected={index === at}
            class={model.id === name ? "chosen" : undefined}
            onClick={() => choose(model)}
          >
            <Option model={model} models={models} chosen={model.id === name} />
          </li>
        ))}
      </ul>
      <p class="small" role="status">
        {found.length === 0 ? "No model has such a name." : `${found.length} ${found.length === 1 ? "model" : "models"}`}
      </p>
    </Modal>
  );
}

function Option({ model, models, chosen }: { model: Model; models: Model[] | null; chosen: boolean }): VNode {
  const state = stateOf(model, models);
  const context = model.context === null ? "" : `context of ${model.context.toLocaleString("en")} tokens`;
  const about = [model.ready === false ? model.message : "", context].filter((part) => part !== "").join(" · ");
  return (
    <>
      <span class="name">{model.id}</span>
      {chosen && <Icon name="check" />}
      {state && <State state={state} />}
      {about !== "" && <span class="small">{about}</span>}
    </>
  );
}
