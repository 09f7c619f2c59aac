"""Whether a model's head is its embedding, or one of its own that a config denies.

transformers 5 believes the file: with `tie_word_embeddings` it ties the two only where they are equal or one of them is
missing; earlier versions and other engines believe the config. An artifact leaves no choice.
"""

from collections.abc import Mapping
from typing import Any

from vicuna_server.merge.preflight.vocabulary import embedding_of
from vicuna_server.weights.samples import sampled_sha256
from vicuna_server.weights.tensors import TensorSource

__all__ = ["HEAD", "denied_head", "same_tensor"]

HEAD = "lm_head.weight"
# families whose config ties head and embedding by default, and whose head is called lm_head
_TIED_FAMILIES = frozenset(
    {"gpt2", "gpt_bigcode", "opt", "bloom", "falcon", "cohere", "gemma", "gemma2", "gemma3_text", "mpt", "starcoder2"}
)


def denied_head(config: Mapping[str, Any], tensors: Mapping[str, TensorSource]) -> bool:
    """Whether a config ties the head to the embedding, and the file has another head."""
    silent = config.get("tie_word_embeddings") is None and str(config.get("model_type")) in _TIED_FAMILIES
    embedding = embedding_of({name: tensor.shape for name, tensor in tensors.items()})
    if not (config.get("tie_word_embeddings") is True or silent) or HEAD not in tensors or embedding is None:
        return False
    return not same_tensor(tensors[HEAD], tensors[embedding])


def same_tensor(one: TensorSource, other: TensorSource) -> bool:
    """Whether two tensors are one, or hold the same, judged from samples."""
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    places = [source.spans(0, source.elements) for source in (one, other)]
    if places[0] == places[1]:
        return True
    samples = {sampled_sha256(place[0].file, place[0].offset, one.nbytes) for place in places if len(place) == 1}
    return len(samples) == 1
