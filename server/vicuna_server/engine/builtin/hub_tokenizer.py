"""A tokenizer of transformers as a `Tokenizer`, for the folders that have no tokenizer.json."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import transformers
from tokenizers import AddedToken

from vicuna_server.errors import InputError

__all__ = ["HubTokenizer"]

# transformers' own types are partial, and differ between its versions.
_hub: Any = transformers


class HubTokenizer:
    """See `vicuna_server.prompts.tokenizer.Tokenizer`, which says what the members are.

    Args:
        hub: A tokenizer of transformers.
    """

    def __init__(self, hub: Any) -> None:
        self._hub = hub
        self.chat_template: str | Mapping[str, str] | None = hub.chat_template
        self.special_tokens: Mapping[str, str] = hub.special_tokens_map
        self.bos_id: int | None = hub.bos_token_id
        self.eos_id: int | None = hub.eos_token_id

    @classmethod
    def open(cls, folder: Path) -> "HubTokenizer":
        """Load whatever tokenizer transformers finds in a folder.

        Raises:
            InputError: `TokenizerBroken`.
        """
        try:
            return cls(_hub.AutoTokenizer.from_pretrained(folder, local_files_only=True))
        # The tokenizer libraries raise bare Exception and RecursionError on broken files.
        except Exception as error:
            words = str(error).strip().partition("\n")[0] or type(error).__name__
            raise InputError("TokenizerBroken", f"the tokenizer in {folder} cannot be loaded: {words}") from error

    @cached_property
    def special_ids(self) -> frozenset[int]:
        """Ids of all special tokens."""
        return frozenset(self._hub.all_special_ids)

    @cached_property
    def added_tokens(self) -> Mapping[int, AddedToken]:
        """Added tokens by id."""
        tokens: dict[int, AddedToken] = self._hub.added_tokens_decoder
        return tokens

    @cached_property
    def is_byte_level(self) -> bool:
        """Whether each letter of a token stands for one byte."""
        decoder = getattr(getattr(self._hub, "backend_tokenizer", None), "decoder", None)
        return decoder is not None and b'"ByteLevel"' in decoder.__getstate__()

    @cached_property
    def longest(self) -> int:
        """Letters of the longest token."""
        return max(map(len, self._hub.get_vocab()))

    def __len__(self) -> int:
        return len(self._hub)

    def encode(self, text: str, *, add_special_tokens: bool = False, special_as_text: bool = False) -> list[int]:
        """Return the ids of a text."""
        options = {"split_special_tokens": True} if special_as_text else {}
        ids: list[int] = self._hub(text, add_special_tokens=add_special_tokens, **options)["input_ids"]
        return ids

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool) -> str:
        """Return the text of ids."""
        return str(
            self._hub.decode(list(ids), skip_special_tokens=skip_special_tokens, clean_up_tokenization_spaces=False)
        )

    def token(self, token_id: int) -> str | None:
        """Return a token as the vocabulary writes it."""
        token: str | None = self._hub.convert_ids_to_tokens(token_id)
        return token

    def token_id(self, token: str) -> int | None:
        """Return a token's id."""
        number: int | None = self._hub.get_vocab().get(token)
        return number
