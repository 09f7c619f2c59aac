"""Names and shapes of a model as a pattern, so that a config of a billion layers costs no more than one of two."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import TypeAlias

__all__ = ["HEAD", "Shape", "Skeleton"]

Shape: TypeAlias = tuple[int, ...]

HEAD = "lm_head.weight"
_MOST_DIGITS = 12  # of a layer's number


@dataclass(frozen=True)
class Skeleton:
    """What a causal language model consists of.

    Attributes:
        outer: shapes of what stands once, by full name.
        inner: shapes of what every layer has, by name within the layer.
        stem: what stands before a layer's number.
        layers: how many there are.
        prefix: of everything but the head; files saved by `AutoModel` lack it, and transformers adds it.
        embedding: name of the input embedding, whose rows are the vocabulary.
        tied: whether the head is the embedding under a second name; either may then be absent.
        other_names: older names of tensors, each with the one it stands for.
    """

    outer: Mapping[str, Shape]
    inner: Mapping[str, Shape]
    stem: str
    layers: int
    prefix: str
    embedding: str
    tied: bool
    other_names: Mapping[str, str]

    @property
    def count(self) -> int:
        """How many tensors there are; a tied head is not counted."""
        return len(self.outer) - self.tied + self.layers * len(self.inner)

    def shape(self, name: str) -> Shape | None:
        """Return what shape a tensor has by its full name; None where the model has none of that name."""
        if not name.startswith(self.stem):
            return self.outer.get(name)
        number, _, leaf = name[len(self.stem) :].partition(".")
        is_layer = number.isdecimal() and len(number) <= _MOST_DIGITS and str(int(number)) == number
        return self.inner.get(leaf) if is_layer and int(number) < self.layers else None

    def resolve(self, name: str) -> str | None:
        """Return the full name of the tensor that a name in a file stands for, as transformers finds it."""
        name = self.other_names.get(name, name)
        return next((one for one in (name, self.prefix + name) if self.shape(one) is not None), None)

    def missing(self, present: Collection[str]) -> Iterator[str]:
        """Yield the full names that are not among these, outer ones first; take no more than are wanted.

        A tied head is missing only where the embedding is too.
        """
        either = {HEAD, self.embedding} if self.tied else set()
        tied_is_there = any(name in present for name in either)
        for name in chain(self.outer, self._inner_names()):
            if name not in present and not (name in either and (tied_is_there or name == HEAD)):
                yield name

    def _inner_names(self) -> Iterator[str]:
        for number in range(self.layers):
            for leaf in self.inner:
                yield f"{self.stem}{number}.{leaf}"
