"""A model's attention heads, and over how many GPUs tensor parallelism can split them."""

import re
from dataclasses import dataclass
from typing import Self

__all__ = ["MOST_GPUS", "Heads"]

MOST_GPUS = 16  # of serving.numGpus
_NOTED = re.compile(r"([1-9][0-9]{0,5}) ([1-9][0-9]{0,5})")


@dataclass(frozen=True)
class Heads:
    """How many attention heads a model has, and how many of keys and values (fewer with grouped queries)."""

    attention: int
    key_value: int

    def split_over(self, gpus: int) -> bool:
        """Tell whether each GPU gets as many heads; heads of keys and values may be copied, not divided unevenly.

        Source: the checks of vllm/config/model.py and of the attention in vllm/model_executor/models/llama.py.
        """
        fewer, more = sorted((self.key_value, gpus))
        return self.attention % gpus == 0 and more % fewer == 0

    def counts(self) -> list[int]:
        """Return the numbers of GPUs that work."""
        return [gpus for gpus in range(1, MOST_GPUS + 1) if self.split_over(gpus)]

    @property
    def noted(self) -> str:
        """Return the text that an annotation records."""
        return f"{self.attention} {self.key_value}"

    @classmethod
    def read(cls, noted: str) -> Self | None:
        """Read such a text; None where it is none."""
        found = _NOTED.fullmatch(noted)
        return cls(int(found[1]), int(found[2])) if found is not None else None

    @classmethod
    def of(cls, attention: object, key_value: object) -> Self | None:
        """Take the numbers of a `config.json`, where they are such; without the second, all heads have their own."""
        second = attention if key_value is None else key_value
        return cls.read(f"{attention} {second}") if type(attention) is type(second) is int else None
