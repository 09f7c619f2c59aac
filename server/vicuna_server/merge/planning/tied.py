"""An adapter that replaces the embedding or the head of a model whose head is its embedding.

The judge is peft 0.21.2. What `modules_to_save` names is a copy of its own, tied to nothing: embedding and head part,
and each is what the adapter, or else the model, has. What lies in the file for another reason (embeddings that were
resized, `ensure_weight_tying`) goes into the one tensor that both share.
"""

from dataclasses import replace

from vicuna_server.merge.arithmetic.layout import OutputTensor
from vicuna_server.merge.planning.pairing import EMBEDDING, HEAD
from vicuna_server.problems import Problems
from vicuna_server.weights.adapters.folder import Adapter
from vicuna_server.weights.samples import alike
from vicuna_server.weights.tensors import Tensor

__all__ = ["tied_replacements"]


def tied_replacements(table: dict[str, OutputTensor], adapter: Adapter, problems: Problems) -> dict[str, Tensor]:
    """Return what an adapter replaces of a tied model, and give `table` a head where the two part.

    Args:
        table: the output tensors so far, by name,, with an embedding and no head.
        adapter: the adapter.
        problems: gets `UnsupportedAdapter` for what has no one meaning.
    """
    whole = dict(adapter.replacements)
    if HEAD in adapter.changes:
        problems.add(
            "UnsupportedAdapter",
            f"{adapter.folder} changes {HEAD} of a model whose {HEAD} is its embedding (tie_word_embeddings), which "
            "would part the two; merge it with peft",
        )
    given = {name: whole[name] for name in (EMBEDDING, HEAD) if name in whole}
    both = len(given) == len((EMBEDDING, HEAD))
    if both and alike(*given.values()):
        del whole[HEAD]
    elif any(map(adapter.config.parts, given)):
        _part(table, given, adapter, problems)
    elif both:
        problems.add(
            "UnsupportedAdapter",
            f"{adapter.folder} has an embedding and another {HEAD} for a model whose {HEAD} is its embedding "
            "(tie_word_embeddings), and its modules_to_save names neither, so that only one of them was trained; "
            "remove the other",
        )
    elif HEAD in whole:
        whole[EMBEDDING] = whole.pop(HEAD)
    return whole


def _part(table: dict[str, OutputTensor], given: dict[str, Tensor], adapter: Adapter, problems: Problems) -> None:
    """Give the model a head of its own, for now the embedding's values."""
    rows = table[EMBEDDING].shape
    longer = next((name for name, tensor in given.items() if tensor.shape != rows), None)
    if len(given) == 1 and longer is not None:
        other = EMBEDDING if longer == HEAD else HEAD
        problems.add(
            "UnsupportedAdapter",
            f"{adapter.folder} replaces {longer} by one of {list(given[longer].shape)} and has no {other}, which in a "
            f"model whose {HEAD} is its embedding (tie_word_embeddings) would keep {rows[0]} rows; save the adapter "
            "with both in modules_to_save, or with ensure_weight_tying",
        )
        return
    table[HEAD] = replace(table[EMBEDDING], name=HEAD)
