"""Whether base and delta belong together: judged from configs, headers and a few values, before a byte is written."""

from vicuna_server.merge.checkpoint import Checkpoint
from vicuna_server.merge.problems import Problems

__all__ = ["check_pair", "check_whole"]

_SHARED_KEYS = (
    *("model_type", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads"),
    *("intermediate_size", "head_dim", "tie_word_embeddings"),
)


def check_pair(base: Checkpoint, delta: Checkpoint, problems: Problems) -> None:
    """Note what keeps a delta from being this base's."""
    for key in _SHARED_KEYS:
        ours, theirs = base.config.get(key), delta.config.get(key)
        if ours is not None and theirs is not None and ours != theirs:
            problems.add(
                "ConfigMismatch",
                f"{key} is {ours} in {base.folder}/config.json and {theirs} in {delta.folder}/config.json; "
                "give the base that this delta was made for",
            )


def check_whole(checkpoint: Checkpoint, problems: Problems) -> None:
    """Note layers that the config names and no file holds: shards may be lost with their index."""
    layers = checkpoint.config.get("num_hidden_layers")
    present = {
        int(parts[2])
        for parts in (name.split(".") for name in checkpoint.tensors)
        if len(parts) > 3 and parts[1] == "layers" and parts[2].isdigit()
    }
    if isinstance(layers, int) and present:
        missing = sorted(set(range(layers)) - present)
        if missing:
            problems.add(
                "TensorMissing",
                f"{checkpoint.folder} lacks layer {missing[0]} of the {layers} its config.json names; fetch it again",
            )
