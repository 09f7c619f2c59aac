"""The forms of `prompt` and `input`: one or several, each as text or as token ids."""

from typing import Annotated

from pydantic import Discriminator, Field, Tag

__all__ = ["TextsOrIds", "TokenId", "separate"]

MAX_INPUTS = 2048
"""OpenAI's own limit, of embeddings."""

TokenId = Annotated[int, Field(ge=0, lt=2**31)]
# fail_fast: a body of a million wrong elements must not produce a million errors.
Ids = Annotated[list[TokenId], Field(min_length=1, fail_fast=True)]
Texts = Annotated[list[str], Field(min_length=1, max_length=MAX_INPUTS, fail_fast=True)]
ManyIds = Annotated[list[Ids], Field(min_length=1, max_length=MAX_INPUTS, fail_fast=True)]


def _kind(value: object) -> str:
    """Return the form by the first element, so that only one form is tried and only its errors are reported."""
    if not isinstance(value, list):
        return "[text]"
    first = value[0] if value else ""
    return "[ids]" if isinstance(first, int | float) else "[lists]" if isinstance(first, list) else "[texts]"


# With brackets, `from_validation` leaves the tags out of the paths in messages.
TextsOrIds = Annotated[
    Annotated[str, Tag("[text]")]
    | Annotated[Texts, Tag("[texts]")]
    | Annotated[Ids, Tag("[ids]")]
    | Annotated[ManyIds, Tag("[lists]")],
    Discriminator(_kind),
]


def separate(value: str | list[str] | list[int] | list[list[int]]) -> list[str | tuple[int, ...]]:
    """Return the inputs as a list, token ids as tuples."""
    if isinstance(value, str):
        return [value]
    ids: list[int] = []
    several: list[str | tuple[int, ...]] = []
    for one in value:
        if isinstance(one, int):
            ids.append(one)
        else:
            several.append(one if isinstance(one, str) else tuple(one))
    return [tuple(ids)] if ids else several
