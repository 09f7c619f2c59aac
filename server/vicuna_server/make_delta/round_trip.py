"""What merging a delta with its base will not bring back bit for bit, counted while the delta is made."""

from collections import Counter
from typing import TYPE_CHECKING

from vicuna_server.merge.planning.pairing import sum_dtype

if TYPE_CHECKING:
    import torch

__all__ = ["RoundTrip"]


class RoundTrip:
    """A `layout.Observer` of a difference: adds base and delta as a merge would, and compares with the tuned model.

    A rounded difference need not lead back: where base and tuned model differ by more than a factor of two, or in sign,
    the delta may lack the last bit or two. The sum is compared in the tuned model's own type.

    Args:
        name: the tensor's.
        stored: the type that the delta is stored in.
        lost: counts elements that do not come back, by tensor.
    """

    def __init__(self, name: str, stored: str, lost: Counter[str]) -> None:
        self._name = name
        self._stored = stored
        self._lost = lost

    def observe(self, base: "torch.Tensor", delta: "torch.Tensor | None", result: "torch.Tensor") -> None:
        """Compare one chunk.

        Args:
            base: as read, fewer elements where the tuned model has more rows.
            delta: the tuned model's elements, as read.
            result: their difference, not rounded yet to the type that it is stored in.
        """
        import torch

        from vicuna_server.weights.torch_tensors import TORCH, named

        assert delta is not None  # noqa: S101 - a difference is of two
        bits = {2: torch.int16, 4: torch.int32, 8: torch.int64}[delta.element_size()]
        summed = sum_dtype("additive-v0", named(base), self._stored, named(delta)) or self._stored
        again = result.to(TORCH[self._stored]).to(TORCH[summed]) + 0.0  # stands for rows that the base lacks
        again[: base.numel()] += base.to(again.dtype)
        count = int((again.to(delta.dtype).view(bits) != delta.view(bits)).sum())
        if count:
            self._lost[self._name] += count
