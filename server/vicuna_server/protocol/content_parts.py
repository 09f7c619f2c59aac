"""Parts of a message's content, in any of their forms: text. These models read nothing else."""

from typing import ClassVar

from pydantic import field_validator, model_validator

from vicuna_server.protocol.body import RequestPart
from vicuna_server.protocol.quoting import quoted

__all__ = ["MAX_PARTS", "ContentPart"]

MAX_PARTS = 2048

_OTHERS = {
    "image_url": "images are",
    "input_image": "images are",
    "image": "images are",
    "computer_screenshot": "images are",
    "input_audio": "audio is",
    "audio_url": "audio is",
    "video_url": "videos are",
    "file": "files are",
    "input_file": "files are",
}


class ContentPart(RequestPart):
    """One part; the text of an assistant's refusal counts as text.

    Attributes:
        kinds: Values of `type` that are taken, "text" among them; messages name the first.
    """

    kinds: ClassVar[tuple[str, ...]]

    type: str
    text: str

    @model_validator(mode="before")
    @classmethod
    def _refusal_is_text(cls, value: object) -> object:
        if isinstance(value, dict) and value.get("type") == "refusal":
            return {"type": "text", "text": value.get("refusal")}
        return value

    @field_validator("type", mode="before")
    @classmethod
    def _only_text(cls, value: object) -> object:
        if isinstance(value, str) and value not in cls.kinds:
            kind = _OTHERS.get(value, f"parts of type {quoted(value, 40)} are")
            raise ValueError(f"{kind} not supported: this model reads text only; send parts of type {cls.kinds[0]}")
        return value
