"""What a config promises against the tensors that are there: what is missing, misshapen, or of another model."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TypeAlias

from vicuna_server.merge.preflight.architectures import Shape, Skeleton

__all__ = ["Comparison", "Misshapen", "Tensors", "compare"]

Tensors: TypeAlias = Mapping[str, tuple[str, Shape]]  # type under safetensors' name, and shape, by name

MOST_MISSING = 50


@dataclass(frozen=True)
class Misshapen:
    """A tensor that is not of the shape that the config promises."""

    name: str
    found: Shape
    wanted: Shape


@dataclass(frozen=True)
class Comparison:
    """How a model's tensors differ from what its config promises.

    Attributes:
        missing: full names of the first few tensors that are not there.
        missing_count: how many there are of those.
        misshapen: those of another shape, by the names that the files have.
        unexpected: names of tensors that the model has no place for.
        bare: whether names lack the prefix that the whole model's have.
        prefix: that prefix, with its dot.
        layers: how many the config names.
        lost_layer: number of the first one of which nothing is there.
        knows: says whether the model has a tensor of a name.
        served: whether the server here could run it, as far as this was asked.
    """

    missing: tuple[str, ...]
    missing_count: int
    misshapen: tuple[Misshapen, ...]
    unexpected: tuple[str, ...]
    bare: bool
    prefix: str
    layers: int
    lost_layer: int | None
    knows: Callable[[str], bool]
    served: bool = True

    def is_inside(self, name: str) -> bool:
        """Whether an unexpected tensor claims a place in the part that writes text, where it would change answers."""
        return name.startswith((self.prefix, "lm_head.", "embed_out."))


def compare(skeleton: Skeleton, tensors: Tensors) -> Comparison:
    """Compare the tensors of a model with what its config promises."""
    misshapen, unexpected = [], []
    present: set[str] = set()
    bare = False
    for name, (_, shape) in tensors.items():
        full = skeleton.resolve(name)
        wanted = skeleton.shape(full) if full is not None else None
        if full is None or wanted is None:
            unexpected.append(name)
            continue
        present.add(full)
        bare = bare or full == skeleton.prefix + name
        if shape != wanted:
            misshapen.append(Misshapen(name, shape, wanted))
    missing = tuple(islice(skeleton.missing(present), MOST_MISSING))
    count = len(missing) if len(missing) < MOST_MISSING else max(MOST_MISSING, skeleton.count - len(present))
    return Comparison(
        missing=missing,
        missing_count=count,
        misshapen=tuple(misshapen),
        unexpected=tuple(unexpected),
        bare=bare,
        prefix=skeleton.prefix,
        layers=skeleton.layers,
        lost_layer=_lost_layer(skeleton, tensors),
        knows=lambda name: skeleton.resolve(name) is not None,
    )


def _lost_layer(skeleton: Skeleton, names: Iterable[str]) -> int | None:
    """Return the number of the first layer of which no file holds anything."""
    full = (name if name.startswith(skeleton.prefix) else skeleton.prefix + name for name in names)
    layers = {name[len(skeleton.stem) :].partition(".")[0] for name in full if name.startswith(skeleton.stem)}
    return next((number for number in range(skeleton.layers) if str(number) not in layers), None)
