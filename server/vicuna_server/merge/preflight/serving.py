"""What of a model the server here will refuse, told before its weights are merged.

What other engines can serve is a warning; what nobody can load from the artifact, since it needs programs that are not
merged, or what continues no text, is a problem.
"""

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from vicuna_server.merge.preflight.architectures import BadFieldError, skeleton_of
from vicuna_server.merge.preflight.built import NotComparedError, UnfitError, compare_built
from vicuna_server.merge.preflight.vocabulary import with_vocabulary
from vicuna_server.problems import Problems
from vicuna_server.weights.checkpoint import Checkpoint

__all__ = ["check_served", "unserved_part", "without_code"]

CODE = "auto_map"  # names the program files of a repository
_CONTINUES = ("ForCausalLM", "LMHeadModel")
# families whose code in transformers has no list of layers, or no attention that can be replaced: the server needs both
# Two more attend in a way of their own. What a family beside these is made of says `built_child.is_served`.
UNSERVED_TYPES = frozenset({
    "bloom", "codegen", "ctrl", "dbrx", "diffllama", "falcon", "falcon_mamba", "gpt2", "gpt_bigcode", "gpt_neo",
    "gptj", "jetmoe", "mamba", "mamba2", "mpt", "openai-gpt", "opt", "rwkv", "xglm", "xlnet", "xlstm", "zamba2",
})  # fmt: skip
_WINDOWED_BY_DEFAULT = ("mistral", "gemma2", "gemma3_text", "cohere2", "gpt_oss", "starcoder2")
_WINDOW_IGNORED = ("llama", "gpt_neox", "phi", "stablelm", "mixtral")
_ONLY_IF_USED = (
    "qwen2",
    "qwen2_moe",
    "qwen3",
    "qwen3_moe",
)  # of these, `use_sliding_window` decides, and it is false by default
_SERVED_ALL_THE_SAME = ("biogpt",)  # transformers says that its attention cannot be replaced, but it can
_FULL = "full_attention"
_MOST_LETTERS = 60


def check_served(config_source: Checkpoint, problems: Problems) -> None:
    """Note what keeps a model from being served.

    Args:
        config_source: whose config the artifact gets; compared with it before.
        problems: gets `RemoteCode`, `ModelUnsupported`; the warnings `RemoteCode`, `ModelUnsupported`.
    """
    config, where = config_source.config, f"{config_source.folder}/config.json"
    known, served = _asked(config_source) if find_spec("transformers") is not None else (True, True)
    if not known:
        _note_unknown(config, where, problems)
        return
    if config.get(CODE):
        problems.warn("RemoteCode", f"{where} names program files ({CODE}); they are not needed, and left out")
    part = unserved_part(config)
    if not served and part is None:
        part = _decoder_for(str(config.get("model_type")))
    if part:
        problems.warn(
            "ModelUnsupported",
            f"{where}: the server here has no {part}, and will end with this reason; other engines may serve it",
        )


def unserved_part(config: Mapping[str, Any]) -> str | None:
    """Return what a config asks for that the server's decoders do not compute; None where nothing is known."""
    model_type = str(config.get("model_type"))
    if model_type in UNSERVED_TYPES:
        return _decoder_for(model_type)
    layers = config.get("layer_types")
    other = next((kind for kind in layers if kind != _FULL), None) if isinstance(layers, list) else None
    if other is not None:
        return f"layers of type {str(other)[:_MOST_LETTERS]} (layer_types)"
    if config.get("attn_logit_softcapping") is not None:
        return "attention with attn_logit_softcapping"
    return "attention with a sliding_window" if _has_window(model_type, config) else None


def without_code(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config that names no program files: they are never run, nor copied."""
    return {key: value for key, value in config.items() if key != CODE}


def _has_window(model_type: str, config: Mapping[str, Any]) -> bool:
    if model_type in _WINDOW_IGNORED or (model_type in _ONLY_IF_USED and config.get("use_sliding_window") is not True):
        return False
    if "sliding_window" not in config:
        return model_type in _WINDOWED_BY_DEFAULT
    return config["sliding_window"] is not None


def _decoder_for(model_type: str) -> str:
    return f"decoder for {model_type[:_MOST_LETTERS]} models"


def _asked(config_source: Checkpoint) -> tuple[bool, bool]:
    """Whether transformers has this model as one that continues text, and the server can run what it builds.

    It was asked already where the model was compared.
    """
    tensors = {name: (tensor.dtype, tensor.shape) for name, tensor in config_source.tensors.items()}
    config = with_vocabulary(config_source.config, {name: shape for name, (_, shape) in tensors.items()})
    try:
        if skeleton_of(config) is not None:
            return True, True
        comparison = compare_built(config, tensors)
    except (BadFieldError, UnfitError, NotComparedError):  # `whole` has reported it
        return True, True
    if comparison is None:
        return False, True
    return True, comparison.served or config.get("model_type") in _SERVED_ALL_THE_SAME


def _note_unknown(config: Mapping[str, Any], where: str, problems: Problems) -> None:
    model_type = str(config.get("model_type"))[:_MOST_LETTERS]
    names = config.get("architectures")
    name = str(names[0])[:_MOST_LETTERS] if isinstance(names, list) and names else ""
    if config.get(CODE):
        problems.add(
            "RemoteCode",
            f"{where}: {name or model_type} needs program files of its repository ({CODE}), which are never run here "
            "nor copied; give a conversion to an architecture that transformers has",
        )
    elif name and not name.endswith(_CONTINUES):
        problems.add(
            "ModelUnsupported",
            f"{where} describes {name}, which is not a model that continues text; give one that is (…ForCausalLM)",
        )
    else:
        problems.warn(
            "ModelUnsupported",
            f"{where}: the transformers installed here does not know {model_type} models, and serving will end with "
            "ModelBroken; other engines may serve the artifact",
        )
