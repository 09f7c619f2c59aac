/** Which model is talked to, and in what state it is. */

import type { VNode } from "preact";

import type { Model } from "../core/api.ts";
import { useChatState, useServices } from "./context.ts";
import { Icon } from "./icons.tsx";

interface Props {
  onMenu: (() => void) | null;
  onSettings: () => void;
}

export function Header({ onMenu, onSettings }: Props): VNode {
  const { chat } = useServices();
  const { current, models } = useChatState();
  const sideBySide = current.models.length > 1;
  return (
    <header>
      {onMenu && (
        <button type="button" class="quiet" aria-label="Conversations" onClick={onMenu}>
          <Icon name="menu" />
        </button>
      )}
      <div class="pickers">
        {current.models.map((name, lane) => (
          <Picker key={lane} lane={lane} name={name} models={models} label={pickerLabel(lane, sideBySide)} />
        ))}
      </div>
      {(sideBySide || (models?.length ?? 0) > 1) && (
        <button
          type="button"
          class="quiet"
          aria-label="Compare with a second model"
          title="Compare with a second model"
          aria-pressed={sideBySide}
          onClick={() => chat.setSideBySide(!sideBySide)}
        >
          <Icon name="columns" />
        </button>
      )}
      <button type="button" class="quiet" aria-label="Settings" title="Settings" onClick={onSettings}>
        <Icon name="settings" />
      </button>
    </header>
  );
}

function pickerLabel(lane: number, sideBySide: boolean): string {
  if (!sideBySide) return "Model";
  return lane === 0 ? "First model" : "Second model";
}

function Picker({ lane, name, models, label }: { lane: number; name: string; models: Model[] | null; label: string }): VNode {
  const { chat } = useServices();
  const chosen = models?.find((model) => model.id === name);
  const state = stateOf(chosen, models);
  return (
    <div class="picker">
      <select
        aria-label={label}
        value={name}
        onFocus={() => void chat.refreshModels()}
        onChange={(event) => chat.setModel(lane, event.currentTarget.value)}
      >
        {!chosen && <option value={name}>{name === "" ? "No model" : name}</option>}
        {models?.map((model) => (
          <option key={model.id} value={model.id}>
            {model.ready === false ? `${model.id} (not ready)` : model.id}
          </option>
        ))}
      </select>
      {state && (
        <span class={`state ${state.kind}`} title={state.text}>
          {state.text}
        </span>
      )}
    </div>
  );
}

/** The model's state in words, where the server says one. */
export function stateOf(model: Model | undefined, models: Model[] | null): { kind: string; text: string } | null {
  if (models === null) return null;
  if (model === undefined) return { kind: "bad", text: "Not here" };
  if (model.ready === null) return null;
  if (model.ready) return { kind: "good", text: "Ready" };
  return { kind: "bad", text: model.reason === "" ? "Not ready" : `Not ready: ${model.reason}` };
}
