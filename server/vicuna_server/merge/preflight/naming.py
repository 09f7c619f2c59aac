"""What names that a model has no place for say of how they were saved, and what to do about it."""

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable

from vicuna_server.merge.preflight.comparison import Comparison

__all__ = ["explain_names"]

_PEFT = re.compile(r"(^|\.)(lora_[AB]|lora_embedding_[AB]|base_layer|modules_to_save)(\.|$)")
_FLAT = re.compile(r"(^|[._])flat_param")
_CLASSIFIERS = re.compile(
    r"(^|\.)(score|classifier|v_head|value_head|reward_head|regression_head|qa_outputs|classification_head)(\.|$)"
)
# which tool puts which prefix into names, and how to save without it
_WRAPPERS = {
    "module": "DataParallel, DistributedDataParallel or DeepSpeed: save the model inside (model.module)",
    "_orig_mod": "torch.compile: save the model inside (model._orig_mod)",
    "_fsdp_wrapped_module": "FSDP: save a full state dict (StateDictType.FULL_STATE_DICT)",
    "_checkpoint_wrapped_module": "activation checkpointing: save the model without it",
    "_forward_module": "Lightning Fabric: save the model inside",
    "base_model": "PEFT: call merge_and_unload() and save what it returns",
}


def explain_names(comparison: Comparison) -> str | None:
    """Return what is wrong with the names as one clause with its cure, to follow the folder's name; None: nothing.

    Args:
        comparison: of the model's tensors with its config.
    """
    for explain in (_peft, _flat, _wrapped, _classifier, _bare):
        found = explain(comparison)
        if found:
            return found
    return None


def _peft(comparison: Comparison) -> str | None:
    name = next(filter(_PEFT.search, comparison.unexpected), None)
    if name is None:
        return None
    return (
        f"holds a model that PEFT still wraps ({name}): its adapter is beside the weights, not in them; call "
        "merge_and_unload() and save what it returns, or give the base and the adapter apart (--adapter)"
    )


def _flat(comparison: Comparison) -> str | None:
    name = next(filter(_FLAT.search, comparison.unexpected), None)
    if name is None:
        return None
    return f"holds flattened parameters of FSDP ({name}); save a full state dict (StateDictType.FULL_STATE_DICT)"


def _wrapped(comparison: Comparison) -> str | None:
    if not comparison.missing:
        return None
    seen: Counter[str] = Counter()
    example: dict[str, str] = {}
    for name in comparison.unexpected:
        wrapper = _wrapper(name, comparison.knows)
        if wrapper:
            seen[wrapper] += 1
            example.setdefault(wrapper, name)
    if not seen:
        return None
    wrapper, count = seen.most_common(1)[0]
    if wrapper == comparison.prefix:
        cure = f"{wrapper} is there twice: save the model without its wrapper"
    else:
        known = next((cure for part, cure in _WRAPPERS.items() if part in wrapper.split(".")), None)
        cure = f"as by {known}" if known else "a larger model's: save the language model alone"
    return (
        f"names {count} tensors with {wrapper} in front of or within the name that its config.json promises "
        f"({example[wrapper]}), {cure}, or take {wrapper} out of the names"
    )


def _wrapper(name: str, knows: Callable[[str], bool]) -> str | None:
    """Return what has to be taken out of a name to make it one of the model's."""
    outer = next((name[: len(name) - len(end)] for end in _ends(name) if knows(end)), None)
    if outer:
        return outer
    parts = name.split(".")
    within = [part for part in parts if part in _WRAPPERS]
    return f"{within[0]}." if within and knows(".".join(part for part in parts if part not in _WRAPPERS)) else None


def _ends(name: str) -> Iterable[str]:
    """Yield what follows each dot, the longest first."""
    parts = name.split(".")
    return (".".join(parts[place:]) for place in range(1, len(parts)))


def _classifier(comparison: Comparison) -> str | None:
    name = next(filter(_CLASSIFIERS.search, comparison.unexpected), None)
    if name is None or not _lacks_head(comparison.missing):
        return None
    return (
        f"is a reward model or classifier: it has {name} and not {_head(comparison.missing)}, so it cannot write text; "
        "give the language model (...ForCausalLM)"
    )


def _bare(comparison: Comparison) -> str | None:
    if not comparison.bare or not _lacks_head(comparison.missing):
        return None
    return (
        f"was saved from AutoModel: its names lack {comparison.prefix} and it has no {_head(comparison.missing)}; "
        "load the original with AutoModelForCausalLM and save it again"
    )


def _lacks_head(missing: Collection[str]) -> bool:
    return any("head" in name for name in missing)


def _head(missing: Iterable[str]) -> str:
    return next(name for name in missing if "head" in name)
