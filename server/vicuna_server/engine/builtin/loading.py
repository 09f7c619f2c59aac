"""Loads an artifact: tokenizer, chat template and model; each failure is one sentence."""

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

from vicuna_contract.quantity import in_words
from vicuna_server.engine.builtin.budget import check_weights_fit, kv_capacity
from vicuna_server.engine.builtin.decoder import Decoder, TransformersDecoder
from vicuna_server.engine.builtin.hub_tokenizer import HubTokenizer
from vicuna_server.engine.builtin.llama import LlamaDecoder, is_plain_llama
from vicuna_server.engine.builtin.placement import Placement, choose_placement
from vicuna_server.engine.builtin.weights import Weights
from vicuna_server.engine.choosing import choose_template
from vicuna_server.engine.encoding import PromptEncoder, make_encoder
from vicuna_server.engine.ends import end_ids, read_config
from vicuna_server.engine.settings import LoadSettings
from vicuna_server.errors import EngineError, InputError
from vicuna_server.prompts.tokenizer import Tokenizer, has_tokenizer_json, open_tokenizer

# transformers' own types are partial, and differ between its versions.
_hub: Any = transformers

_HEAD, _EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"

__all__ = ["LoadSettings", "LoadedModel", "load_model", "native_context_length"]


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model ready to run, with everything that belongs to it.

    Attributes:
        kv_tokens: Tokens whose keys and values are held at most.
        width: Numbers in a hidden state, and so in a text's vector.
    """

    decoder: Decoder
    kv_tokens: int
    encoder: PromptEncoder
    eos: frozenset[int]
    context_length: int
    placement: Placement
    template: str
    width: int


def load_model(settings: LoadSettings) -> LoadedModel:
    """Load everything from the folder; never from the network.

    Raises:
        InputError: The folder's content is broken, incomplete, or of unknown prompt format.
        EngineError: This machine or installation cannot run it as asked.
    """
    _hub.utils.logging.set_verbosity_error()
    _hub.utils.logging.disable_progress_bar()
    config = _load_config(settings.folder)
    placement = choose_placement(
        settings.device, settings.num_gpus, settings.dtype, settings.max_gpu_memory, _stored_dtype(config)
    )
    native = native_context_length(config)
    context_length = settings.context_length or native
    if context_length > native:
        raise InputError(
            "ContextLengthTooLarge",
            f"--context-length {context_length} is more than the {native} tokens that config.json allows; set at most "
            f"{native}",
        )
    tokenizer = _load_tokenizer(settings.folder)
    template = choose_template(tokenizer, settings)
    vocabulary_size = config.get_text_config().vocab_size
    encoder = make_encoder(tokenizer, template, vocabulary_size)
    check_weights_fit(config.to_dict(), placement, settings.quantization)
    decoder = _stream(settings, placement, config) or _load_whole(settings, placement)
    eos = end_ids(tokenizer, read_config(settings.folder / "generation_config.json"), config.to_dict())
    kv_tokens = kv_capacity(settings.kv_cache_memory, decoder.shape, context_length, settings.max_concurrency)
    width = int(config.get_text_config().hidden_size)
    return LoadedModel(decoder, kv_tokens, encoder, eos, context_length, placement, template, width)


def native_context_length(config: Any) -> int:
    """Return `max_position_embeddings` times the factor of linear rope scaling, if there is one."""
    length = int(config.max_position_embeddings)
    rope = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    if rope.get("rope_type", rope.get("type")) == "linear":
        length = int(length * float(rope.get("factor", 1.0)))
    return length


def _load_config(folder: Path) -> Any:
    try:
        json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return _hub.AutoConfig.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            "ModelBroken",
            f"{folder / 'config.json'} cannot be used: {_first_line(error)}; correct it, or fetch it again",
        ) from error


def _stored_dtype(config: Any) -> torch.dtype | None:
    """Return the type that the config says its weights have; None where it does not say, or names another."""
    stored = getattr(config.get_text_config(), "dtype", None) or getattr(config, "dtype", None)
    return stored if isinstance(stored, torch.dtype) else None


def _load_tokenizer(folder: Path) -> Tokenizer:
    return open_tokenizer(folder) if has_tokenizer_json(folder) else HubTokenizer.open(folder)


def _stream(settings: LoadSettings, placement: Placement, config: Any) -> Decoder | None:
    """Load layer by layer; None where this model, device or folder does not allow that."""
    if config.model_type != "llama" or placement.max_memory is not None or settings.quantization != "none":
        return None
    try:
        weights = Weights(settings.folder, placement.dtype)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if config.tie_word_embeddings and weights.differ(_HEAD, _EMBEDDING):
        config.tie_word_embeddings = False  # the file's head counts, as in transformers' `tie_weights`
    with torch.device("meta"):
        model = _hub.AutoModelForCausalLM.from_config(config, dtype=placement.dtype).eval()
    if not (is_plain_llama(model) and weights.hold(dict(model.named_parameters()))):
        return None
    model.model.rotary_emb = type(model.model.rotary_emb)(config)
    with _explaining(settings.folder):
        return LlamaDecoder(model, weights)


def _load_whole(settings: LoadSettings, placement: Placement) -> Decoder:
    model = _load_weights(settings, placement)
    return LlamaDecoder(model) if is_plain_llama(model) else TransformersDecoder(model)


def _load_weights(settings: LoadSettings, placement: Placement) -> Any:
    options: dict[str, Any] = {"dtype": placement.dtype, "local_files_only": True, "output_loading_info": True}
    if placement.max_memory is not None:
        options |= {"device_map": "auto", "max_memory": placement.max_memory}
    if settings.quantization != "none":
        options["quantization_config"] = _quantization(settings.quantization, placement.dtype)
        options.setdefault("device_map", {"": placement.device})
    options["ignore_mismatched_sizes"] = True  # so that they are listed; `_check_whole` refuses them
    with _explaining(settings.folder):
        model, info = _hub.AutoModelForCausalLM.from_pretrained(settings.folder, **options)
    _check_whole(settings.folder, info)
    elsewhere = {str(place) for place in getattr(model, "hf_device_map", {}).values()} & {"cpu", "disk", "meta"}
    if elsewhere and placement.max_memory is not None:
        raise EngineError(
            "OutOfMemory",
            f"the layers do not fit the {len(placement.max_memory)} GPU(s) with "
            f"{in_words(min(placement.max_memory.values()))} each; use more GPUs, quantization, or a higher "
            "--max-gpu-memory",
        )
    return model.eval()


def _check_whole(folder: Path, info: Mapping[str, Any]) -> None:
    """Refuse a model that lacks weights, which transformers has filled with random numbers.

    Args:
        folder: The model's.
        info: transformers' report of loading it.

    Raises:
        InputError: `ModelBroken` for other shapes, `TensorMissing`.
    """
    advice = "give a complete model; `vicuna-server inspect` lists all that is wrong with one"
    if misshapen := sorted(info["mismatched_keys"]):
        name, found, wanted = misshapen[0]
        more = f" (and {len(misshapen) - 1} more)" if misshapen[1:] else ""
        raise InputError(
            "ModelBroken",
            f"the weights in {folder} cannot be loaded: {name} is {list(found)} where config.json wants "
            f"{list(wanted)}{more}; {advice}",
        )
    if missing := sorted(info["missing_keys"]):
        more = f" and {len(missing) - 1} more of the model's tensors" if missing[1:] else ""
        raise InputError("TensorMissing", f"{folder} lacks {missing[0]}{more}; {advice}")


@contextmanager
def _explaining(folder: Path) -> Iterator[None]:
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise EngineError(
            "OutOfMemory",
            f"the weights do not fit the memory here: {_first_line(error)}; use more GPUs or quantization",
        ) from error
    except Exception as error:
        raise InputError("ModelBroken", f"the weights in {folder} cannot be loaded: {_first_line(error)}") from error


def _quantization(kind: str, dtype: torch.dtype) -> Any:
    try:
        import bitsandbytes  # noqa: F401
    except ImportError as error:
        raise EngineError(
            "QuantizationUnavailable",
            f"quantization {kind} needs bitsandbytes, which is not installed here; use an image that has it, "
            'quantization none, or pip install "vicuna-operator[gpu]"',
        ) from error
    # It logs its casts at every matrix product of a step.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    if kind == "int8":
        return _hub.BitsAndBytesConfig(load_in_8bit=True)
    return _hub.BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)


def _first_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return text[0] if text else type(error).__name__
