"""OPT and Phi, as transformers' modeling_*.py of each has them."""

from vicuna_server.merge.preflight.architectures.fields import Fields
from vicuna_server.merge.preflight.architectures.gpt import linear, norm
from vicuna_server.merge.preflight.architectures.skeleton import HEAD, Shape, Skeleton

__all__ = ["FAMILIES"]

_OPT_FIRST_POSITIONS = 2  # rows that its table of positions has before the first


def _opt(fields: Fields) -> Skeleton:
    hidden = fields.size("hidden_size", default=768)
    heads = fields.size("num_attention_heads", default=12)
    fields.multiple("hidden_size", hidden, "num_attention_heads", heads)
    inner = fields.size("ffn_dim", default=3072)
    rows = fields.size("vocab_size", default=50272)
    narrow = fields.optional_size("word_embed_proj_dim") or hidden
    bias = fields.flag("enable_bias", default=True)
    has_norms = fields.flag("layer_norm_elementwise_affine", default=True)
    layer: dict[str, Shape] = {}
    for name in ("k_proj", "v_proj", "q_proj", "out_proj"):
        layer |= linear(f"self_attn.{name}", hidden, hidden, bias=bias)
    layer |= linear("fc1", inner, hidden, bias=bias) | linear("fc2", hidden, inner, bias=bias)
    positions = fields.size("max_position_embeddings", default=2048) + _OPT_FIRST_POSITIONS
    embedding = "model.decoder.embed_tokens.weight"
    outer: dict[str, Shape] = {embedding: (rows, narrow), HEAD: (rows, narrow)}
    outer["model.decoder.embed_positions.weight"] = (positions, hidden)
    if narrow != hidden:
        outer |= linear("model.decoder.project_out", narrow, hidden, bias=False)
        outer |= linear("model.decoder.project_in", hidden, narrow, bias=False)
    if has_norms:
        layer |= norm("self_attn_layer_norm", hidden) | norm("final_layer_norm", hidden)
        last = fields.flag("do_layer_norm_before", default=True)
        if last and not fields.flag("_remove_final_layer_norm", default=False):
            outer |= norm("model.decoder.final_layer_norm", hidden)
    return Skeleton(
        outer=outer,
        inner=layer,
        stem="model.decoder.layers.",
        layers=fields.size("num_hidden_layers", default=12),
        prefix="model.",
        embedding=embedding,
        tied=fields.flag("tie_word_embeddings", default=True),
        other_names={},
    )


def _phi(fields: Fields) -> Skeleton:
    hidden = fields.size("hidden_size", default=2048)
    heads = fields.size("num_attention_heads", default=32)
    key_heads = fields.optional_size("num_key_value_heads") or heads
    fields.multiple("num_attention_heads", heads, "num_key_value_heads", key_heads)
    head_dim = fields.optional_size("head_dim") or max(1, hidden // heads)
    inner = fields.size("intermediate_size", default=8192)
    rows = fields.size("vocab_size", default=51200)
    layer = norm("input_layernorm", hidden)
    for name, wide in (("q_proj", heads), ("k_proj", key_heads), ("v_proj", key_heads)):
        layer |= linear(f"self_attn.{name}", wide * head_dim, hidden)
    layer |= linear("self_attn.dense", hidden, heads * head_dim)
    if fields.flag("qk_layernorm", default=False):
        per_head = max(1, hidden // heads)
        layer |= norm("self_attn.q_layernorm", per_head) | norm("self_attn.k_layernorm", per_head)
    layer |= linear("mlp.fc1", inner, hidden) | linear("mlp.fc2", hidden, inner)
    embedding = "model.embed_tokens.weight"
    return Skeleton(
        outer={embedding: (rows, hidden), **norm("model.final_layernorm", hidden), **linear("lm_head", rows, hidden)},
        inner=layer,
        stem="model.layers.",
        layers=fields.size("num_hidden_layers", default=24),
        prefix="model.",
        embedding=embedding,
        tied=fields.flag("tie_word_embeddings", default=False),
        other_names={},
    )


FAMILIES = {"opt": _opt, "phi": _phi}
