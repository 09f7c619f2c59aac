"""Files of weights beside an adapter's own: trained with it and merged too, a model's, or something that is refused.

Some trainers keep what they train whole, norms and embeddings, in a file of its own: LongLoRA's trainable_params.bin,
LLaVA's non_lora_trainables.bin. Their own scripts load it into the base before the adapter; so does a merge.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass

__all__ = ["Companions", "companions_among"]

_MERGED = re.compile(r"(trainable_params|non_lora_trainables|non_lora_state_dict)\.(safetensors|bin)")
_WEIGHTS = re.compile(r".+\.(safetensors|bin|pt|pth|ckpt)", re.IGNORECASE)
# a whole model: some repositories hold the merged model beside the adapter
_MODELS = re.compile(r"(pytorch_)?model(-\d+-of-\d+)?\.(safetensors|bin)|consolidated.*\.(safetensors|pth)")
# the adapter in its other layout, training state, and conversions for other programs
_NO_WEIGHTS = re.compile(
    r"adapter_model\.(safetensors|bin)|(optimizer|scheduler|scaler|rng_state|random_states|training_args|trainer).*|"
    r".*_optim_states\.pt|ggml-adapter-model\.bin|\._.*",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Companions:
    """Names of files beside an adapter's weights.

    Attributes:
        merged: hold whole tensors that belong to the adapter.
        models: hold a whole model, which the adapter does without.
        strange: hold what nothing here can place.
    """

    merged: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    strange: tuple[str, ...] = ()


def companions_among(names: Collection[str]) -> Companions:
    """Sort the names of a folder's files."""
    weights = sorted(name for name in names if _WEIGHTS.fullmatch(name) and not _NO_WEIGHTS.fullmatch(name))
    merged = tuple(name for name in weights if _MERGED.fullmatch(name))
    models = tuple(name for name in weights if _MODELS.fullmatch(name))
    return Companions(merged, models, tuple(name for name in weights if name not in (*merged, *models)))
