"""The LLaMA architecture in few operations: for Vicuna, Alpaca and similar models.

The same arithmetic as transformers' LlamaForCausalLM, with query, key and value in one matrix product, what follows
a product within its kernel, and no work per layer that is the same in all layers. At batch 1 a third of
transformers' time goes to what is not a matrix product.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from vicuna_server.engine.builtin.decoder import shape_of
from vicuna_server.engine.builtin.linear import Product
from vicuna_server.engine.builtin.ragged import Pass
from vicuna_server.engine.builtin.recycling import Recycling
from vicuna_server.engine.builtin.weights import Weights

__all__ = ["LlamaDecoder", "is_plain_llama"]


def is_plain_llama(model: Any) -> bool:
    """Whether `LlamaDecoder` computes what this model computes: no quantized layers, all on one device."""
    linears = [module for name, module in model.named_modules() if name.endswith("_proj") or name == "lm_head"]
    return (
        type(model).__name__ == "LlamaForCausalLM"
        and model.config.hidden_act == "silu"
        and all(type(linear) is torch.nn.Linear for linear in linears)
        and len({parameter.device for parameter in model.parameters()}) == 1
    )


class LlamaDecoder:
    """Runs packed passes; takes the weights out of the model, which is of no use afterwards.

    Args:
        model: A LlamaForCausalLM for which `is_plain_llama` holds.
        weights: Where its parameters are read from, in the order of the files; None: the model has them.
    """

    def __init__(self, model: Any, weights: Weights | None = None) -> None:
        fill = weights.fill if weights is not None else lambda *_, **__: None
        shape = shape_of(model)
        inner, memory = model.model, Recycling()
        layers = {f"model.layers.{index}": layer for index, layer in enumerate(inner.layers)}
        self._rotary: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] = inner.rotary_emb
        self._eps: float = model.config.rms_norm_eps

        def take_ends() -> Product:
            fill(inner.embed_tokens, "model.embed_tokens")
            if weights is not None and model.config.tie_word_embeddings:
                model.lm_head.weight = inner.embed_tokens.weight
            else:  # a model that is loaded already has its own, tied or not
                fill(model.lm_head, "lm_head")
            return Product(model.lm_head)

        def take(name: str) -> _Layer:
            fill(layers[name], name, recycled=memory)
            return _Layer(layers[name], shape.heads, shape.size, self._eps)

        # Layer by layer, so that the model is never in memory twice; two at once, since packing uses one CPU; first
        # what is largest, while there is still room for it twice.
        order = weights.by_place(layers) if weights is not None else list(layers)
        with ThreadPoolExecutor(2, "load") as pool:
            ends = pool.submit(take_ends)
            taken = dict(zip(order, pool.map(take, order), strict=True))
        fill(inner.norm, "model.norm")  # the last in most files
        self._head = ends.result()
        self._layers = [taken[name] for name in layers]
        self._embedding: Tensor = inner.embed_tokens.weight
        self._norm: Tensor = inner.norm.weight
        self.shape = shape_of(model)

    def logits(self, batch: Pass) -> Tensor:
        """Return the logits behind each chunk's last token; see `Decoder.logits`."""
        return self._head(self._forward(batch, batch.last.to(self._embedding.device)))[: batch.chunks]

    def hidden(self, batch: Pass) -> Tensor:
        """Return every token's last hidden state; see `Decoder.hidden`."""
        return self._forward(batch, None)[: batch.tokens]

    def every_logits(self, batch: Pass) -> Tensor:
        """Return the logits behind every token; see `Decoder.every_logits`."""
        return self._head(self._forward(batch, None))[: batch.tokens]

    def _forward(self, batch: Pass, rows: Tensor | None) -> Tensor:
        """Return the normed last states, shape (rows, width); of all tokens where `rows` is None."""
        device = self._embedding.device
        states = functional.embedding(batch.ids.to(device), self._embedding)
        cosine, sine = (angles[0, :, None] for angles in self._rotary(states, batch.positions[None].to(device)))
        # x·cos + rotate_half(x)·sin, where rotate_half is a roll by half the size with the first half negated.
        half = sine.shape[-1] // 2
        sine = torch.cat((-sine[..., :half], sine[..., half:]), dim=-1)
        for index, layer in enumerate(self._layers):
            last = rows if index == len(self._layers) - 1 else None
            states = layer(batch, index, states, cosine, sine, last)
        return functional.rms_norm(states, self._norm.shape, self._norm, self._eps)


class _Layer:
    def __init__(self, layer: Any, heads: int, size: int, eps: float) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        self._heads, self._size, self._eps = heads, size, eps
        self._scale: float = attention.scaling
        self._norm_in: Tensor = layer.input_layernorm.weight
        self._norm_out: Tensor = layer.post_attention_layernorm.weight
        self._qkv = Product(attention.q_proj, attention.k_proj, attention.v_proj)
        self._o = Product(attention.o_proj)
        self._gate = Product(mlp.gate_proj)
        self._up = Product(mlp.up_proj)
        self._down = Product(mlp.down_proj)

    def __call__(
        self, batch: Pass, index: int, states: Tensor, cosine: Tensor, sine: Tensor, rows: Tensor | None
    ) -> Tensor:
        """Return the layer's output of shape (tokens, width), or of the given rows only."""
        normed = functional.rms_norm(states, self._norm_in.shape, self._norm_in, self._eps)
        qkv = self._qkv(normed).view(len(states), -1, self._size)
        turned, value = qkv[:, : -self._heads], qkv[:, -self._heads :]
        turned = torch.addcmul(turned * cosine, turned.roll(self._size // 2, -1), sine)
        query, key = turned[:, : -self._heads], turned[:, -self._heads :]
        attended = batch.attend(index, query, key, value, self._scale)
        if rows is not None:
            attended, states = attended[rows], states[rows]
        states = self._o.plus(attended.reshape(len(attended), -1), states)
        normed = functional.rms_norm(states, self._norm_out.shape, self._norm_out, self._eps)
        return self._down.plus(self._up.times(normed, self._gate.silu(normed)), states)
