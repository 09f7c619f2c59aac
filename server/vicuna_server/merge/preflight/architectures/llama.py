"""LLaMA, and the families that have its names: Mistral, Qwen 2 and 3, Gemma 1 to 3, Phi 3.

Names, shapes and defaults are those of transformers' modeling_*.py and configuration_*.py of the family.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from vicuna_server.merge.preflight.architectures.fields import Fields
from vicuna_server.merge.preflight.architectures.skeleton import HEAD, Shape, Skeleton

__all__ = ["FAMILIES"]

_TWO_NORMS = ("input_layernorm", "post_attention_layernorm")
_FOUR_NORMS = (*_TWO_NORMS, "pre_feedforward_layernorm", "post_feedforward_layernorm")


@dataclass(frozen=True)
class _Variant:
    """Where a family differs from LLaMA: defaults of its fields, and what its layers have.

    Attributes:
        vocabulary: default of vocab_size; likewise hidden, inner, layers and heads.
        key_heads: default of num_key_value_heads; None: as many as heads.
        head_dim: default of head_dim; None: hidden_size / num_attention_heads.
        tied: default of tie_word_embeddings.
        biases: whether attention_bias and mlp_bias are read.
        query_biases: whether queries, keys and values have biases whatever the config says.
        fused: whether queries, keys and values are one matrix, and gate and up another.
        head_norms: whether queries and keys are normalised per head.
        norms: of a layer.
        whole_heads: whether transformers demands that hidden_size is a multiple of the heads.
        never_null: fields that transformers does not let be null.
    """

    vocabulary: int = 32000
    hidden: int = 4096
    inner: int = 11008
    layers: int = 32
    heads: int = 32
    key_heads: int | None = None
    head_dim: int | None = None
    tied: bool = False
    biases: tuple[str, ...] = ()
    query_biases: bool = False
    fused: bool = False
    head_norms: bool = False
    norms: tuple[str, ...] = _TWO_NORMS
    whole_heads: bool = False
    never_null: tuple[str, ...] = ()

    def optional_size(self, fields: Fields, name: str, default: int | None) -> int | None:
        """Return a size that most of the families let be null."""
        if name in self.never_null and default is not None:
            return fields.size(name, default=default)
        return fields.optional_size(name, default=default)


_KEY_HEADS, _HEAD_DIM = "num_key_value_heads", "head_dim"
_GEMMA = _Variant(
    *(256000, 3072, 24576, 28, 16, 16, 256),
    tied=True,
    biases=("attention_bias",),
    never_null=(_KEY_HEADS, _HEAD_DIM),
)
_GEMMA2 = replace(_GEMMA, hidden=2304, inner=9216, layers=26, heads=8, key_heads=4, norms=_FOUR_NORMS, whole_heads=True)
_QWEN2 = _Variant(vocabulary=151936, inner=22016, key_heads=32, query_biases=True)
_VARIANTS = {
    "llama": _Variant(biases=("attention_bias", "mlp_bias"), whole_heads=True),
    "mistral": _Variant(inner=14336, key_heads=8, never_null=(_KEY_HEADS,)),
    "qwen2": _QWEN2,
    "qwen3": replace(
        _QWEN2,
        query_biases=False,
        biases=("attention_bias",),
        head_dim=128,
        head_norms=True,
        never_null=(_HEAD_DIM,),
    ),
    "gemma": _GEMMA,
    "gemma2": _GEMMA2,
    "gemma3_text": replace(_GEMMA2, vocabulary=262208, head_norms=True),
    "phi3": _Variant(vocabulary=32064, hidden=3072, inner=8192, fused=True),
}


def _skeleton(fields: Fields, variant: _Variant) -> Skeleton:
    hidden = fields.size("hidden_size", default=variant.hidden)
    heads = fields.size("num_attention_heads", default=variant.heads)
    if variant.whole_heads:
        fields.multiple("hidden_size", hidden, "num_attention_heads", heads)
    key_heads = variant.optional_size(fields, "num_key_value_heads", variant.key_heads) or heads
    fields.multiple("num_attention_heads", heads, "num_key_value_heads", key_heads)
    head_dim = variant.optional_size(fields, "head_dim", variant.head_dim) or max(1, hidden // heads)
    inner = fields.size("intermediate_size", default=variant.inner)
    rows = fields.size("vocab_size", default=variant.vocabulary)
    switched = {name for name in variant.biases if fields.flag(name, default=False)}
    layer: dict[str, Shape] = {f"{norm}.weight": (hidden,) for norm in variant.norms}
    attention = _attention(hidden, heads * head_dim, key_heads * head_dim, fused=variant.fused)
    layer |= _with_attention(attention, variant, head_dim, biases="attention_bias" in switched)
    layer |= _with_feed_forward(_feed_forward(hidden, inner, fused=variant.fused), biases="mlp_bias" in switched)
    embedding = "model.embed_tokens.weight"
    return Skeleton(
        outer={embedding: (rows, hidden), "model.norm.weight": (hidden,), HEAD: (rows, hidden)},
        inner=layer,
        stem="model.layers.",
        layers=fields.size("num_hidden_layers", default=variant.layers),
        prefix="model.",
        embedding=embedding,
        tied=fields.flag("tie_word_embeddings", default=variant.tied),
        other_names={},
    )


def _with_attention(matrices: dict[str, Shape], variant: _Variant, head_dim: int, *, biases: bool) -> dict[str, Shape]:
    """Return a layer's tensors of attention by name: matrices, biases and the norms of heads."""
    found: dict[str, Shape] = {}
    for name, shape in matrices.items():
        found[f"self_attn.{name}.weight"] = shape
        if biases or (variant.query_biases and name != "o_proj"):
            found[f"self_attn.{name}.bias"] = shape[:1]
    if variant.head_norms:
        found |= {"self_attn.q_norm.weight": (head_dim,), "self_attn.k_norm.weight": (head_dim,)}
    return found


def _with_feed_forward(matrices: dict[str, Shape], *, biases: bool) -> dict[str, Shape]:
    found: dict[str, Shape] = {}
    for name, shape in matrices.items():
        found[f"mlp.{name}.weight"] = shape
        if biases:
            found[f"mlp.{name}.bias"] = shape[:1]
    return found


def _attention(hidden: int, queries: int, keys: int, *, fused: bool) -> dict[str, Shape]:
    output = {"o_proj": (hidden, queries)}
    if fused:
        return {"qkv_proj": (queries + 2 * keys, hidden), **output}
    return {"q_proj": (queries, hidden), "k_proj": (keys, hidden), "v_proj": (keys, hidden), **output}


def _feed_forward(hidden: int, inner: int, *, fused: bool) -> dict[str, Shape]:
    down = {"down_proj": (hidden, inner)}
    if fused:
        return {"gate_up_proj": (2 * inner, hidden), **down}
    return {"gate_proj": (inner, hidden), "up_proj": (inner, hidden), **down}


def _of(variant: _Variant) -> Callable[[Fields], Skeleton]:
    return lambda fields: _skeleton(fields, variant)


FAMILIES = {model_type: _of(variant) for model_type, variant in _VARIANTS.items()}
