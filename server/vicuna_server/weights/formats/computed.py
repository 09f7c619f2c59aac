"""Buffers that some releases carry and others do not: every program computes them again, and none reads them.

They are what transformers leaves out when it loads a model (`_keys_to_ignore_on_load_unexpected` of modeling_gpt2.py,
modeling_gptj.py, modeling_gpt_neox.py, modeling_codegen.py; inverse frequencies of every architecture).
"""

__all__ = ["is_computed"]

_EVERYWHERE = ("rotary_emb.inv_freq", "rotary_emb.cos_cached", "rotary_emb.sin_cached")
_MASKS = {
    "gpt2": (".attn.bias", ".attn.masked_bias", ".crossattention.bias", ".crossattention.masked_bias"),
    "gptj": (".attn.bias", ".attn.masked_bias"),
    "gpt_neo": (".attention.bias", ".attention.masked_bias"),
    "gpt_neox": (".attention.bias", ".attention.masked_bias"),
    "codegen": (".attn.causal_mask",),
}


def is_computed(name: str, model_type: object) -> bool:
    """Whether a tensor of this name is a buffer that no program reads.

    Args:
        name: the tensor's.
        model_type: what config.json says of the architecture, whatever that is.
    """
    masks = _MASKS.get(model_type, ()) if isinstance(model_type, str) else ()
    return name.endswith(_EVERYWHERE) or f".{name}".endswith(masks)
