/** Which version of a question or an answer is shown, with buttons to the ones beside it. */

import type { VNode } from "preact";

import { countOf, type Others } from "../core/versions.ts";
import { Icon } from "./icons.tsx";

interface Props {
  /** Named in labels: "Versions of the answer". */
  what: string;
  others: Others<unknown>;
  onChoose: (place: number) => void;
}

export function Versions({ what, others, onChoose }: Props): VNode | null {
  const count = countOf(others);
  if (count < 2) return null;
  const { place } = others;
  // Not `disabled` at the ends: the focus would be lost with the last step.
  const step = (to: number, label: string, icon: "left" | "right") => (
    <button
      type="button"
      class="quiet"
      aria-label={`${label} version of the ${what}`}
      title={`${label} version`}
      aria-disabled={to < 0 || to >= count}
      onClick={() => to >= 0 && to < count && onChoose(to)}
    >
      <Icon name={icon} />
    </button>
  );
  return (
    <span class="versions" role="group" aria-label={`Versions of the ${what}`}>
      {step(place - 1, "Earlier", "left")}
      <span role="status">
        <span class="hidden">Version </span>
        {place + 1}/{count}
      </span>
      {step(place + 1, "Later", "right")}
    </span>
  );
}
