"""Which tokens top-k, top-p, min-p and typical-p leave to draw from.

Order and definitions are those of transformers: each looks at what the one before it has left. typical-p is from
Meister et al. 2022, "Locally Typical Sampling".
"""

from torch import Tensor

from vicuna_server.engine import GenerationRequest

__all__ = ["filtered", "filters"]

_HEAD = 256
"""Tokens among which top-p is looked for first: sorting a whole vocabulary takes milliseconds."""


def filters(request: GenerationRequest) -> bool:
    """Whether a request leaves tokens out that have a probability."""
    return request.top_k > 0 or request.top_p < 1 or request.min_p > 0 or request.typical_p < 1


def filtered(probabilities: Tensor, request: GenerationRequest) -> tuple[Tensor, Tensor]:
    """Return the probabilities of what a request's filters leave, likeliest first, and the tokens.

    Args:
        probabilities: Shape (vocabulary,), float32 on the CPU.
        request: The one that draws.
    """
    ordered, order = _head(probabilities, request)
    if request.top_k:
        ordered = ordered / ordered.sum()
    # A token stays while those before it have not reached top_p; the first always stays.
    kept = ordered.cumsum(0) - ordered < request.top_p if request.top_p < 1 else ordered > -1
    kept[0] = True
    kept &= ordered >= request.min_p * ordered[0]
    ordered, order = ordered[kept], order[kept]
    if request.typical_p < 1:
        typical = _most_typical(ordered / ordered.sum(), request.typical_p)
        ordered, order = ordered[typical], order[typical]
    return ordered, order


def _head(probabilities: Tensor, request: GenerationRequest) -> tuple[Tensor, Tensor]:
    """Return the likeliest in their order, with the tokens: at least as many as top-k, top-p and min-p leave."""
    size = len(probabilities)
    wanted = min(size, request.top_k or size)
    ordered, order = probabilities.topk(wanted if request.top_k else min(wanted, _HEAD))
    below_min_p = bool(ordered[-1] < request.min_p * ordered[0])
    if len(ordered) == wanted or below_min_p or float(ordered.sum()) >= request.top_p:
        return ordered, order
    ordered, order = probabilities.topk(wanted)
    return ordered, order


def _most_typical(probabilities: Tensor, mass: float) -> Tensor:
    """Return which tokens are kept: those whose surprise is nearest to the mean surprise, until they reach `mass`.

    Ties are as in transformers' TypicalLogitsWarper.
    """
    surprise = -probabilities.log()
    entropy = (probabilities * surprise).nan_to_num(0.0).sum()
    distance = (surprise - entropy).abs()
    ordered, order = distance.sort()
    last = int((probabilities[order].cumsum(0) < mass).sum().clamp(max=len(order) - 1))
    return distance <= ordered[last]
