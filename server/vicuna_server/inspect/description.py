"""What `inspect` reports about one source."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from vicuna_server.artifacts.manifest import Manifest
from vicuna_server.inspect.memory import MemoryRow

__all__ = ["AdapterSummary", "Description", "Finding", "SourceFile", "TokenizerFiles", "findings"]


class _Part(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class Finding(_Part):
    """A problem or a warning: CamelCase reason and one sentence."""

    reason: str
    message: str


class SourceFile(_Part):
    """One file of a source; size in bytes."""

    name: str
    size: int


class TokenizerFiles(_Part):
    """The tokenizer's files, and those of them that a merge would repair."""

    files: list[str]
    repaired: list[str]


class AdapterSummary(_Part):
    """A LoRA adapter: its rank and scale, what it changes and replaces, and the base its author trained it on."""

    rank: int
    ranks: list[int]
    alpha: float
    rslora: bool
    base: str | None
    targets: list[str]
    changed: int
    replaced: list[str]


class Description(_Part):
    """One source. Lists and numbers are empty or 0, and texts None, where the source does not tell."""

    uri: str
    type: Literal["model", "delta", "artifact", "adapter", "unknown"] = "unknown"
    layout: Literal["safetensors", "pickle", "meta"] | None = None
    files: list[SourceFile] = Field(default_factory=list)
    bytes: int = 0
    tensors: int = 0
    parameters: int = 0
    dtypes: dict[str, int] = Field(default_factory=dict)
    architecture: dict[str, Any] = Field(default_factory=dict)
    vocabulary: int | None = None
    tokenizer: TokenizerFiles | None = None
    chat_template: str | None = None
    fingerprint: str | None = None
    digest: str | None = None
    artifact: Manifest | None = None
    adapter: AdapterSummary | None = None
    memory: list[MemoryRow] | None = None
    tensor_parallel: list[int] | None = None
    problems: list[Finding] = Field(default_factory=list)
    warnings: list[Finding] = Field(default_factory=list)


def findings(pairs: list[tuple[str, str]]) -> list[Finding]:
    """Turn (reason, sentence) pairs into what a report holds."""
    return [Finding(reason=reason, message=message) for reason, message in pairs]
