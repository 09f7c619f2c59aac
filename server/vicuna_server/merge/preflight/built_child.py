"""The process in which transformers builds a model on the meta device: `python -m …built_child`, JSON in, JSON out.

Sizes come from strangers: the process bounds its own memory and processor time before it reads them. No code and no
file of theirs is loaded, nothing is fetched, and no tensor has memory.

In: `{"config": {...}, "tensors": {name: shape}}`. Out, one of:

    {"known": false}                     transformers has no causal language model of that type
    {"error": sentence}                  it cannot build one from this config
    {"unfit": sentence}                  it cannot make this config's tensors of those that are there
    {"missing": [name], "misshapen": [[name, found, wanted]], "unexpected": [name], "prefix": "model.",
     "layers": 2, "names": [name],       how the tensors differ from what it would load
     "served": true}                     and whether the server here could run it
"""

import json
import resource
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from typing import Any

__all__ = ["CPU_SECONDS", "DATA_BYTES", "is_served", "reply"]

# with the merge's own memory this stays within a Job's 1 GiB; torch and transformers take 270 MB of it
DATA_BYTES = 640 * 2**20
CPU_SECONDS = 60  # building a model takes one or two
# fields that would load code or files, or choose a computation: none of them changes names or shapes
_DROPPED = ("auto_map", "quantization_config", "torch_dtype", "dtype", "adapter", "_name_or_path")
_MOST_LETTERS = 300
_DROPPED_PARTS = ("attn_implementation", "experts_implementation", "kernel")


def main() -> None:
    """Answer one question, within bounds."""
    resource.setrlimit(resource.RLIMIT_DATA, (DATA_BYTES, DATA_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.stdout.write(reply(sys.stdin.read()))


def reply(question: str) -> str:
    """Answer one question in this process, without bounds: both are JSON, as above."""
    asked = json.loads(question)
    with redirect_stdout(sys.stderr):
        answer = _answer(asked["config"], asked["tensors"])
    return json.dumps(answer)


def _answer(config: Mapping[str, Any], shapes: Mapping[str, list[int]]) -> dict[str, Any]:
    try:
        import transformers
        from transformers.models.auto import configuration_auto, modeling_auto
    except ImportError:
        return {"known": False}
    try:
        hub: Any = transformers
        hub.utils.logging.set_verbosity_error()
        hub.utils.logging.disable_progress_bar()
        model_type = config.get("model_type")
        mapping: Any = modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING
        known: Any = configuration_auto.CONFIG_MAPPING
        if not isinstance(model_type, str) or model_type not in known or known[model_type] not in mapping:
            return {"known": False}
        return _compare(known[model_type].from_dict(_harmless(config)), mapping, shapes)
    except ImportError:  # a package that only this architecture needs
        return {"known": False}
    except MemoryError:
        return {"error": "it asks for more than a model of any size takes to describe"}
    except Exception as error:  # noqa: BLE001 - whatever a stranger's config makes of transformers
        return {"error": _in_a_line(error)}


def _in_a_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {' '.join(line.strip() for line in lines)[:_MOST_LETTERS]}"


def _harmless(value: Any) -> Any:
    """Return a config without what would load or choose code, at any depth."""
    if isinstance(value, list):
        return [_harmless(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {
        key: _harmless(one)
        for key, one in value.items()
        if key not in _DROPPED and not any(part in key for part in _DROPPED_PARTS)
    }


def _compare(config: Any, mapping: Any, shapes: Mapping[str, list[int]]) -> dict[str, Any]:
    import torch

    layers = getattr(config.get_text_config(), "num_hidden_layers", 0)
    if type(layers) is int and layers > len(shapes):
        return {"error": f"it names {layers} layers, and there are {len(shapes)} tensors"}
    classes = mapping[type(config)]
    cls = classes[0] if isinstance(classes, tuple) else classes
    with torch.device("meta"):
        cls(config)
    tensors = {name: torch.empty(shape, dtype=torch.float16, device="meta") for name, shape in shapes.items()}
    options = {"device_map": "meta", "dtype": torch.float16, "attn_implementation": "eager"}
    options |= {"output_loading_info": True, "ignore_mismatched_sizes": True}
    try:
        model, found = cls.from_pretrained(None, config=config, state_dict=tensors, **options)
    except (RuntimeError, ValueError) as error:  # experts that do not fit each other
        return {"unfit": _in_a_line(error)}
    return {
        "missing": sorted(found["missing_keys"]),
        "misshapen": [[name, list(ours), list(theirs)] for name, ours, theirs in sorted(found["mismatched_keys"])],
        "unexpected": sorted(found["unexpected_keys"]),
        "prefix": f"{model.base_model_prefix}.",
        "layers": layers if type(layers) is int else 0,
        "names": list(model.state_dict()),
        "served": is_served(model),
    }


def is_served(model: Any) -> bool:
    """Whether the server's own attention can take the place of a model's, and is all that looks back in it.

    Args:
        model: one of transformers, which may be on the meta device.
    """
    keeps_more = getattr(model, "_is_stateful", False)  # states of Mamba's kind
    compressed = getattr(model.config.get_text_config(), "kv_lora_rank", None) is not None
    replaceable = getattr(model, "_supports_attention_backend", True) and hasattr(model.base_model, "layers")
    return bool(replaceable and not keeps_more and not compressed)


if __name__ == "__main__":
    main()
