"""A tokenizer of transformers as the server opens it: saved into a folder, and read from there without transformers."""

from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from vicuna_server.prompts.tokenizer import JsonTokenizer, open_tokenizer

__all__ = ["opened"]


@lru_cache(maxsize=16)
def opened(tokenizer: Any) -> JsonTokenizer:
    """Return it; what was changed in memory is saved too, but only as it was at the first call."""
    with TemporaryDirectory() as place:
        tokenizer.save_pretrained(place)
        return open_tokenizer(Path(place))
