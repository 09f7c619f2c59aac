"""The attention heads of an artifact's model, by which an engine can split it over GPUs."""

from pathlib import Path

from vicuna_contract.heads import Heads
from vicuna_server.errors import InputError
from vicuna_server.weights.formats.small_file import read_object

__all__ = ["heads_of"]


def heads_of(folder: Path) -> Heads | None:
    """Read the attention heads of an artifact; None where its `config.json` does not say."""
    try:
        config = read_object(folder / "config.json", "ConfigBroken", "a configuration")
    except (OSError, InputError):
        return None
    return Heads.of(config.get("num_attention_heads"), config.get("num_key_value_heads"))
