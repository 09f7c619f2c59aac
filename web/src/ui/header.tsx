/** Which models are talked to, and the way to everything else. */

import type { VNode } from "preact";

import { useChatState, useServices } from "./context.ts";
import { Icon } from "./icons.tsx";
import { Picker } from "./models.tsx";

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
          <Picker key={lane} lane={lane} name={name} label={pickerLabel(lane, sideBySide)} />
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
