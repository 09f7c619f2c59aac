"""The attention heads of an artifact's model, by which an engine can split it over GPUs."""

import json
from pathlib import Path

from vicuna_contract.heads import Heads

__all__ = ["heads_of"]


def heads_of(folder: Path) -> Heads | None:
    """Read the attention heads of an artifact; None where its `config.json` does not say."""
    try:
        config = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError):
        return None
    found = config if isinstance(config, dict) else {}
    return Heads.of(found.get("num_attention_heads"), found.get("num_key_value_heads"))
