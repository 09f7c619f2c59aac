"""Stanford's checksum of the recovered Alpaca 7B: the sum of all weights (stanford_alpaca, weight_diff.py, recover).

Stanford adds float32 sums of float32 weights; here every sum is float64, which their tolerance covers. Their state
dict may hold one `rotary_emb.inv_freq` buffer per layer, depending on the version of transformers: with and without
both count as right.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vicuna_server.run.reporter import Reporter

if TYPE_CHECKING:
    import torch

__all__ = ["AlpacaChecksum"]

_RIGHT = 50637.1836
_TOLERANCE = 0.01
_MOST = 1e6  # of layers, columns, heads and theta alike


class AlpacaChecksum:
    """A `layout.Observer` that sums up the results before they have the output's type.

    Args:
        config: the base's config.json, whatever it holds.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._buffers = _inverse_frequencies(config)
        self.sum = 0.0

    def observe(self, base: "torch.Tensor", delta: "torch.Tensor | None", result: "torch.Tensor") -> None:  # noqa: ARG002
        """Add one chunk's sum, in float64."""
        import torch

        self.sum += float(result.sum(dtype=torch.float64))

    @property
    def right(self) -> bool:
        """Whether the sum, with the buffers or without, is Stanford's."""
        return any(abs(self.sum + more - _RIGHT) <= _TOLERANCE for more in (0.0, self._buffers))

    def report(self, reporter: Reporter) -> None:
        """Say whether it is right: a warning, `ChecksumDiffers`, where it is not."""
        if self.right:
            text = f"the sum of all weights is Stanford's: {self.sum:.4f}"
            reporter.note("checksum", text, sum=self.sum, expected=_RIGHT)
        else:
            reporter.warning(
                "ChecksumDiffers",
                f"the sum of all weights is {self.sum:.4f} ({self.sum + self._buffers:.4f} with rotary_emb.inv_freq), "
                f"not {_RIGHT} as Stanford's Alpaca 7B; check the base's conversion and fetch both again, or leave "
                "--alpaca-checksum out if this is another model",
            )


def _inverse_frequencies(config: Mapping[str, Any]) -> float:
    """Return the sum of all layers' `inv_freq`: theta^(-2i/d) for i below d/2, d being a head's size."""
    layers, hidden, heads = (_size(config, key) for key in ("num_hidden_layers", "hidden_size", "num_attention_heads"))
    theta = float(_size(config, "rope_theta") or 10000)
    width = hidden // heads if heads else 0
    return float(layers * sum(theta ** (-2 * place / width) for place in range(width // 2)))


def _size(config: Mapping[str, Any], key: str) -> int:
    value = config.get(key)
    return int(value) if isinstance(value, int | float) and 0 < value < _MOST else 0
