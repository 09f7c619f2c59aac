"""GPT-NeoX (Pythia, Dolly), GPT-J and GPT-2, as transformers' modeling_*.py of each has them."""

from collections.abc import Mapping

from vicuna_server.merge.preflight.architectures.fields import Fields
from vicuna_server.merge.preflight.architectures.skeleton import HEAD, Shape, Skeleton

__all__ = ["FAMILIES", "linear", "norm"]


def linear(name: str, rows: int, columns: int, *, bias: bool = True) -> dict[str, Shape]:
    """Return the tensors of one linear layer, whose weight is (rows, columns)."""
    return {f"{name}.weight": (rows, columns)} | ({f"{name}.bias": (rows,)} if bias else {})


def norm(name: str, width: int) -> dict[str, Shape]:
    """Return the tensors of one LayerNorm."""
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _gpt_neox(fields: Fields) -> Skeleton:
    hidden = fields.size("hidden_size", default=6144)
    heads = fields.size("num_attention_heads", default=64)
    fields.multiple("hidden_size", hidden, "num_attention_heads", heads)
    inner = fields.size("intermediate_size", default=24576)
    rows = fields.size("vocab_size", default=50432)
    bias = fields.flag("attention_bias", default=True)
    layer = norm("input_layernorm", hidden) | norm("post_attention_layernorm", hidden)
    layer |= linear("attention.query_key_value", 3 * hidden, hidden, bias=bias)
    layer |= linear("attention.dense", hidden, hidden, bias=bias)
    layer |= linear("mlp.dense_h_to_4h", inner, hidden) | linear("mlp.dense_4h_to_h", hidden, inner)
    embedding = "gpt_neox.embed_in.weight"
    return Skeleton(
        outer={embedding: (rows, hidden), **norm("gpt_neox.final_layer_norm", hidden), HEAD: (rows, hidden)},
        inner=layer,
        stem="gpt_neox.layers.",
        layers=fields.size("num_hidden_layers", default=44),
        prefix="gpt_neox.",
        embedding=embedding,
        tied=fields.flag("tie_word_embeddings", default=False),
        other_names={"embed_out.weight": HEAD},  # its name before transformers 5
    )


def _gptj(fields: Fields) -> Skeleton:
    hidden, inner = _widths(fields, 4096, default_heads=16)
    rows = fields.size("vocab_size", default=50400)
    layer = norm("ln_1", hidden)
    for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
        layer |= linear(f"attn.{name}", hidden, hidden, bias=False)
    layer |= linear("mlp.fc_in", inner, hidden) | linear("mlp.fc_out", hidden, inner)
    outer = linear("lm_head", rows, hidden)
    return _transformer(fields, layer, outer, hidden, rows, layers=28, tied=False)


def _gpt2(fields: Fields) -> Skeleton | None:
    if fields.flag("add_cross_attention", default=False):
        return None
    hidden, inner = _widths(fields, 768, default_heads=12)
    rows = fields.size("vocab_size", default=50257)
    layer = norm("ln_1", hidden) | norm("ln_2", hidden)
    # these are Conv1D: a weight is (inputs, outputs)
    for name, inputs, outputs in (
        ("attn.c_attn", hidden, 3 * hidden),
        ("attn.c_proj", hidden, hidden),
        ("mlp.c_fc", hidden, inner),
        ("mlp.c_proj", inner, hidden),
    ):
        layer |= {f"{name}.weight": (inputs, outputs), f"{name}.bias": (outputs,)}
    positions = fields.size("n_positions", "max_position_embeddings", default=1024)
    outer: dict[str, Shape] = {HEAD: (rows, hidden), "transformer.wpe.weight": (positions, hidden)}
    return _transformer(fields, layer, outer, hidden, rows, layers=12, tied=True)


def _widths(fields: Fields, default: int, default_heads: int) -> tuple[int, int]:
    """Return the width of the model and that of its feed-forward layers."""
    hidden = fields.size("n_embd", "hidden_size", default=default)
    heads = fields.size("n_head", "num_attention_heads", default=default_heads)
    fields.multiple("n_embd", hidden, "n_head", heads)
    return hidden, fields.optional_size("n_inner") or 4 * hidden


def _transformer(
    fields: Fields,
    layer: Mapping[str, Shape],
    outer: Mapping[str, Shape],
    hidden: int,
    rows: int,
    *,
    layers: int,
    tied: bool,
) -> Skeleton:
    embedding = "transformer.wte.weight"
    return Skeleton(
        outer={embedding: (rows, hidden), **norm("transformer.ln_f", hidden), **outer},
        inner=layer,
        stem="transformer.h.",
        layers=fields.size("n_layer", "num_hidden_layers", default=layers),
        prefix="transformer.",
        embedding=embedding,
        tied=fields.flag("tie_word_embeddings", default=tied),
        other_names={},
    )


FAMILIES = {"gpt_neox": _gpt_neox, "gptj": _gptj, "gpt2": _gpt2}
