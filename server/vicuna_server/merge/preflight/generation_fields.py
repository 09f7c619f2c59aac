"""Fields of generation_config.json that transformers cannot read: it loads no model beside such a file.

They are only defaults for its own `generate`, so that the model is the same without them. The table is transformers'
`GenerationConfig.validate` in words of its own, and held against it by tests.
"""

from collections.abc import Callable, Iterator, Mapping
from types import NoneType
from typing import Any

__all__ = ["unreadable_fields"]

_CACHES = (
    *("static", "offloaded_static", "sliding_window", "hybrid", "hybrid_chunked", "offloaded_hybrid"),
    *("offloaded_hybrid_chunked", "dynamic", "offloaded", "quantized", "paged"),
)
# arguments of `generate`, and attributes of the class itself: an error if present at all
_NO_FIELDS = frozenset({
    *("logits_processor", "stopping_criteria", "prefix_allowed_tokens_fn", "synced_gpus", "assistant_model"),
    *("streamer", "negative_prompt_ids", "negative_prompt_attention_mask"),
    *("self", "validate", "update", "to_dict", "to_diff_dict", "to_json_string", "to_json_file", "dict_dtype_to_str"),
    *("from_dict", "from_model_config", "from_pretrained", "save_pretrained", "get_generation_mode"),
    *("extra_output_flags", "_get_default_generation_params", "_dict_from_json_file"),
})  # fmt: skip
_FORCED = ("forced_bos_token_id", "forced_eos_token_id")


def unreadable_fields(config: Mapping[str, Any]) -> list[str]:
    """Return the names of the fields that have to go, in order.

    Args:
        config: generation_config.json's content.
    """
    return sorted({*_alone(config), *_together(config)})


def _alone(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield fields that no other field could make right."""
    for name, value in config.items():
        is_none = name in _NO_FIELDS or name.startswith("__")
        if is_none or not _FORMS.get(name, _always)(value) or not _names_types(value):
            yield name


def _together(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield fields that others contradict."""
    if not _has_enough_beams(config):
        yield "num_return_sequences"
    suppressed = config.get("suppress_tokens")
    for name in _FORCED:
        forced = config.get(name)
        if _are_ids(suppressed) and _is_one_or_more(forced) and set(_listed(forced)) <= set(suppressed or ()):
            yield name


def _has_enough_beams(config: Mapping[str, Any]) -> bool:
    wanted, beams = config.get("num_return_sequences"), config.get("num_beams")
    if not isinstance(wanted, int | float) or not wanted > 1:
        return True
    if beams is None or beams == 1:
        return bool(config.get("do_sample"))
    return isinstance(beams, int | float) and wanted <= beams


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def _are_ids(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, int) for one in value)


def _is_one_or_more(value: Any) -> bool:
    return isinstance(value, int) or (_are_ids(value) and value != [])


def _listed(value: Any) -> list[int]:
    return value if isinstance(value, list) else [value]


def _names_types(value: Any) -> bool:
    """Whether what is called a type in an object is the name of one."""
    if not isinstance(value, dict):
        return True
    return isinstance(value.get("dtype"), str | NoneType) and all(map(_names_types, value.values()))


def _always(_: Any) -> bool:
    return True


def _is_watermark(value: Any) -> bool:
    known = {"greenlist_ratio", "bias", "hashing_key", "seeding_scheme", "context_width"}
    return (
        isinstance(value, dict)
        and value.keys() <= known
        and value.get("seeding_scheme", "lefthash") in ("lefthash", "selfhash")
        and _is_number(value.get("greenlist_ratio", 0))
        and 0 <= value.get("greenlist_ratio", 0) <= 1
        and _is_number(value.get("context_width", 1))
        and value.get("context_width", 1) >= 1
    )


_Form = Callable[[Any], bool]


def _or_null(form: _Form) -> _Form:
    return lambda value: value is None or form(value)


_FORMS: dict[str, _Form] = {
    "early_stopping": lambda value: value in (None, True, False, "never"),
    "pad_token_id": _or_null(_is_number),
    "max_new_tokens": _or_null(lambda value: _is_number(value) and value > 0),
    "num_return_sequences": _or_null(_is_number),
    "assistant_ensemble_weight": _or_null(lambda value: _is_number(value) and 0 < value < 1),
    "cache_implementation": lambda value: value is None or value in _CACHES,
    "compile_config": lambda value: value is None,
    "watermarking_config": _or_null(_is_watermark),
    "suppress_tokens": _or_null(_are_ids),
    **dict.fromkeys(_FORCED, _or_null(lambda value: isinstance(value, int) or _are_ids(value))),
    "dtype": lambda value: value is None or isinstance(value, str),
}
