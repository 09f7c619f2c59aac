"""`kubectl vicuna history`: the last rollouts, and which of their revisions are kept for a rollback."""

from collections.abc import Mapping, Sequence
from typing import Any

from vicuna_operator.plugin.model_objects import ModelObjects

__all__ = ["columns_of", "history_rows", "table"]

_COLUMNS = ("revision", "artifactID", "image", "engineImage", "since", "outcome", "reason", "kept", "now")


def history_rows(objects: ModelObjects) -> list[dict[str, Any]]:
    """Return the rollouts, newest first; `kept`: a rollback to it is possible, `now`: it is active or target."""
    kept = {item.revision for item in objects.deployments if not item.meta.deleting}
    rows = []
    for entry in objects.status.get("history") or ():
        revision = str(entry.get("revision", ""))
        roles = [role for role in ("active", "target") if revision == objects.revision_in(role)]
        rows.append({**entry, "kept": revision in kept, "now": ",".join(roles)})
    return rows


def columns_of(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the columns of a history; vLLM's image is one only where some revision had it."""
    with_vllm = any("engineImage" in row for row in rows)
    return [name for name in _COLUMNS if with_vllm or name != "engineImage"]


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Lay out rows in columns, as kubectl does."""
    lines = [[name.upper() for name in columns], *([_cell(row.get(name)) for name in columns] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    return "\n".join(
        "   ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def _cell(value: object) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value or "-")
