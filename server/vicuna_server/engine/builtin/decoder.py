"""What runs a pass through the model: any causal model of transformers, by its own code."""

from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from vicuna_server.engine.builtin.kv import KeyValueShape
from vicuna_server.engine.builtin.ragged import Pass
from vicuna_server.errors import EngineError

__all__ = ["Decoder", "TransformersDecoder"]

ATTENTION = "vicuna_ragged"


class Decoder(Protocol):
    """A model that runs packed passes."""

    shape: KeyValueShape

    def logits(self, batch: Pass) -> Tensor:
        """Return the logits behind each chunk's last token, shape (chunks, vocabulary)."""

    def hidden(self, batch: Pass) -> Tensor:
        """Return every token's last hidden state, after the final norm, shape (tokens, width)."""

    def every_logits(self, batch: Pass) -> Tensor:
        """Return the logits behind every token, shape (tokens, vocabulary); large, so of few tokens at once."""


class TransformersDecoder:
    """Runs `forward` of a model of transformers, with the attention of the pass in place of its own.

    Args:
        model: A causal language model of transformers, whole on one device or spread by accelerate.
    """

    def __init__(self, model: Any) -> None:
        AttentionInterface.register(ATTENTION, _attention)
        AttentionMaskInterface.register(ATTENTION, sdpa_mask)
        model.set_attn_implementation(ATTENTION)
        self._model = model
        self.shape = shape_of(model)

    def logits(self, batch: Pass) -> Tensor:
        """Return the logits behind each chunk's last token; see `Decoder.logits`."""
        output = self._run(self._model, batch, logits_to_keep=batch.last)
        logits: Tensor = output.logits[0][: batch.chunks]
        return logits

    def hidden(self, batch: Pass) -> Tensor:
        """Return every token's last hidden state; see `Decoder.hidden`."""
        hidden: Tensor = self._run(self._model.base_model, batch).last_hidden_state[0][: batch.tokens]
        return hidden

    def every_logits(self, batch: Pass) -> Tensor:
        """Return the logits behind every token; see `Decoder.every_logits`."""
        logits: Tensor = self._run(self._model, batch).logits[0][: batch.tokens]
        return logits

    def _run(self, module: Any, batch: Pass, **options: Any) -> Any:
        device = self._model.get_input_embeddings().weight.device
        seen: set[int] = set()
        output = module(
            input_ids=batch.ids[None].to(device),
            position_ids=batch.positions[None].to(device),
            # Keeps transformers from making a mask of its own, which this attention would not use.
            attention_mask=torch.zeros((1, 1, 1, 1), dtype=self._model.dtype, device=device),
            use_cache=False,
            ragged=batch,
            ragged_seen=seen,
            **options,
        )
        if len(seen) != len(self.shape.layers):
            raise _unsupported(self._model)
        return output


def _unsupported(model: Any) -> EngineError:
    return EngineError(
        "ModelUnsupported",
        f"{type(model).__name__} is not a plain decoder with attention in every layer, which this server needs; serve "
        "it with another server",
    )


def shape_of(model: Any) -> KeyValueShape:
    """Return what a model keeps per token, and where.

    Raises:
        EngineError: `ModelUnsupported` where it has no list of layers, or no heads of attention, or keeps states of
            another kind.
    """
    config = model.config.get_text_config()
    try:
        heads: int = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        layers = tuple(next(layer.parameters()).device for layer in model.base_model.layers)
    except (AttributeError, TypeError) as error:
        raise _unsupported(model) from error
    if getattr(model, "_is_stateful", False):  # it keeps more than this cache does
        raise _unsupported(model)
    return KeyValueShape(layers, heads, size, model.dtype)


def _attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    ragged: Pass | None = None,
    ragged_seen: set[int] | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Attention as transformers calls it: states of shape (1, heads, tokens, size), result (1, tokens, heads, size)."""
    if ragged is None or ragged_seen is None:
        plain: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **options
        )
        return plain
    # Some models ask for more than this attention does. To ignore it would give wrong text without an error.
    for name in ("softcap", "s_aux", "sliding_window"):
        if options.get(name) is not None:
            raise EngineError(
                "ModelUnsupported",
                f"this model's attention needs {name}, which this server does not have; serve it with another server",
            )
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    query, key, value = (state[0].transpose(0, 1) for state in (query, key, value))
    if module.layer_idx in ragged_seen or not (ragged.keeps(key) and ragged.keeps(value)):
        raise EngineError(
            "ModelUnsupported",
            f"{type(module).__name__} does not attend once with the heads that config.json names, which this server "
            "needs; serve it with another server",
        )
    ragged_seen.add(module.layer_idx)
    return ragged.attend(module.layer_idx, query, key, value, scale)[None], None
