"""What a server needs of a model's folder when another process runs the model: tokenizer, chat template and ends."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vicuna_server.engine.choosing import choose_template
from vicuna_server.engine.encoding import PromptEncoder, make_encoder
from vicuna_server.engine.ends import end_ids, read_config
from vicuna_server.engine.settings import LoadSettings
from vicuna_server.errors import InputError
from vicuna_server.prompts.tokenizer import has_tokenizer_json, open_tokenizer

__all__ = ["ModelPrompts", "load_prompts"]


@dataclass(frozen=True, slots=True)
class ModelPrompts:
    """The text side of a model.

    Attributes:
        encoder: Of its prompts.
        ends: Ids of the tokens that end an answer.
    """

    encoder: PromptEncoder
    ends: frozenset[int]


def load_prompts(settings: LoadSettings) -> ModelPrompts:
    """Read the folder's small files; never the weights, never the network.

    Raises:
        InputError: What the folder holds is broken, incomplete, or of unknown prompt format.
        EngineError: There is no process for the chat template.
    """
    folder = settings.folder
    config = read_config(folder / "config.json")
    size = _vocabulary_size(config)
    if size is None:
        raise InputError(
            "ModelBroken", f"{folder / 'config.json'} does not name a vocab_size above 0; give a complete model"
        )
    if not has_tokenizer_json(folder):
        raise InputError(
            "TokenizerBroken",
            f"{folder} has no tokenizer.json, which the vllm engine needs; merge the model again, which writes one, or "
            "serve it with the builtin engine",
        )
    tokenizer = open_tokenizer(folder)
    encoder = make_encoder(tokenizer, choose_template(tokenizer, settings), size)
    return ModelPrompts(encoder, end_ids(tokenizer, read_config(folder / "generation_config.json"), config))


def _vocabulary_size(config: Mapping[str, Any]) -> int | None:
    text = config.get("text_config")
    for fields in (text if isinstance(text, dict) else {}, config):
        size = fields.get("vocab_size")
        if isinstance(size, int) and size > 0:
            return size
    return None
