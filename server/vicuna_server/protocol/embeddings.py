"""`/v1/embeddings`. Source: OpenAI's API reference, "Embeddings"."""

import base64
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar, Literal, Self

from pydantic import model_validator
from typing_extensions import TypedDict

from vicuna_server.protocol.body import Integer, ModelName, RequestBody
from vicuna_server.protocol.inputs import TextsOrIds, separate
from vicuna_server.protocol.unsupported_fields import REFUSED_FOR_VECTORS, Refusal

__all__ = ["EmbeddingList", "EmbeddingRequest", "embedding_list"]


class EmbeddingRequest(RequestBody):
    """The body of `POST /v1/embeddings`."""

    refused: ClassVar[Mapping[str, Refusal]] = REFUSED_FOR_VECTORS

    model: ModelName
    input: TextsOrIds
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Integer | None = None

    @model_validator(mode="after")
    def _refuse_unsupported_features(self) -> Self:
        if self.dimensions is not None:
            raise ValueError("dimensions: this model's vectors cannot be shortened; leave it out")
        return self

    @property
    def inputs(self) -> list[str | tuple[int, ...]]:
        """The inputs, each as text or as token ids."""
        return separate(self.input)


class EmbeddingObject(TypedDict):
    """One vector: numbers, or their bytes as little-endian float32 in base64."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingUsage(TypedDict):
    """Token counts; nothing is generated."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingList(TypedDict):
    """The response."""

    object: Literal["list"]
    data: list[EmbeddingObject]
    model: str
    usage: EmbeddingUsage


def embedding_list(model: str, vectors: Iterable[Sequence[float]], tokens: int, encoding_format: str) -> EmbeddingList:
    """Return the response.

    Args:
        model: The served model's name.
        vectors: One per input, in order.
        tokens: Tokens of all inputs together.
        encoding_format: "float" or "base64".
    """
    data: list[EmbeddingObject] = [
        {"object": "embedding", "index": index, "embedding": _encoded(vector, encoding_format)}
        for index, vector in enumerate(vectors)
    ]
    return {
        "object": "list",
        "data": data,
        "model": model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def _encoded(vector: Sequence[float], encoding_format: str) -> list[float] | str:
    if encoding_format == "base64":
        return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
    return list(vector)
