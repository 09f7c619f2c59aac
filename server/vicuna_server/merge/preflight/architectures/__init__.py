"""Which tensors a config.json promises, by name and shape.

Formulas of the families whose models are published as deltas, adapters or whole. Nothing is built but a few dozen
names, whatever sizes a config states.

fields.py      reading sizes out of a config that a stranger wrote
skeleton.py    names and shapes as a pattern: outer tensors, and those of one layer
llama.py       LLaMA and those that have its names
gpt.py         GPT-NeoX, GPT-J, GPT-2
others.py      OPT, Phi
"""

from collections.abc import Callable, Mapping
from typing import Any

from vicuna_server.merge.preflight.architectures import gpt, llama, others
from vicuna_server.merge.preflight.architectures.fields import BadFieldError, Fields, shown
from vicuna_server.merge.preflight.architectures.skeleton import HEAD, Shape, Skeleton

__all__ = ["HEAD", "BadFieldError", "Shape", "Skeleton", "shown", "skeleton_of"]

_FAMILIES: dict[str, Callable[[Fields], Skeleton | None]] = {**llama.FAMILIES, **gpt.FAMILIES, **others.FAMILIES}


def skeleton_of(config: Mapping[str, Any]) -> Skeleton | None:
    """Return what a config promises; None where its architecture, or the variant it asks for, is not in the table.

    Raises:
        BadFieldError: the config states something that is not a size, or sizes that do not go together.
    """
    model_type = config.get("model_type")
    family = _FAMILIES.get(model_type) if isinstance(model_type, str) else None
    return family(Fields(config)) if family else None
