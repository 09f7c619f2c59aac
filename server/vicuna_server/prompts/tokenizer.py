"""A model's tokenizer: what the code that encodes prompts asks of one, and the one of a folder with tokenizer.json.

It needs the `tokenizers` package alone, so that a server without torch and transformers encodes prompts too. The ids
are those of transformers' AutoTokenizer, to which tests hold it. What tokenizer_config.json and special_tokens_map.json
add is added in the same order. `add_bos_token` and `add_eos_token` are ignored as there: the post-processor in
tokenizer.json says what goes around a text. `clean_up_tokenization_spaces` is not applied: spaces stay as the model
wrote them. Some classes of transformers replace parts of tokenizer.json. Only LLaMA's is followed, see `llama_form`:
files that the other classes have written give the same ids as they are.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Protocol

from tokenizers import AddedToken
from tokenizers import Tokenizer as Backend

from vicuna_server.errors import InputError
from vicuna_server.prompts.llama_form import in_llama_form, takes_llama_form
from vicuna_server.prompts.tokenizer_files import TOKENIZER_FILE, TokenizerFiles, read_files

__all__ = ["JsonTokenizer", "Tokenizer", "has_tokenizer_json", "open_tokenizer"]


class Tokenizer(Protocol):
    """Text to token ids and back. Not thread-safe: tokenizers keep settings between calls.

    Attributes:
        chat_template: Jinja, or several by name; None: there is none. May be replaced.
    """

    chat_template: str | Mapping[str, str] | None

    @property
    def special_tokens(self) -> Mapping[str, str]:
        """Special tokens by the names that templates call them by, such as `bos_token`."""

    @property
    def special_ids(self) -> frozenset[int]:
        """Ids of all special tokens that the configuration names."""

    @property
    def added_tokens(self) -> Mapping[int, AddedToken]:
        """The tokens that are found in a text before anything else, by id; not all are special."""

    @property
    def bos_id(self) -> int | None:
        """The beginning-of-sequence token."""

    @property
    def eos_id(self) -> int | None:
        """The end-of-sequence token."""

    @property
    def is_byte_level(self) -> bool:
        """Whether each letter of a token stands for one byte, as in GPT-2's vocabulary."""

    @property
    def longest(self) -> int:
        """Letters of the longest token."""

    def __len__(self) -> int:
        """Return how many tokens there are, added ones included."""

    def encode(self, text: str, *, add_special_tokens: bool = False, special_as_text: bool = False) -> list[int]:
        """Return the ids of a text.

        Args:
            text: Any text.
            add_special_tokens: Whether BOS and EOS go around it, where the tokenizer has it so.
            special_as_text: Whether letters that spell a special token are text like any other.
        """

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool) -> str:
        """Return the text of ids; spaces stay as the model wrote them."""

    def token(self, token_id: int) -> str | None:
        """Return a token as the vocabulary writes it; None where there is none."""

    def token_id(self, token: str) -> int | None:
        """Return a token's id; None where there is none."""


class JsonTokenizer:
    """The `Tokenizer` of a tokenizer.json.

    Args:
        backend: As read from the file; tokens are added to it.
        files: What the other files of the folder say.
    """

    def __init__(self, backend: Backend, files: TokenizerFiles) -> None:
        self.chat_template: str | Mapping[str, str] | None = files.chat_template
        self.special_tokens: Mapping[str, str] = {name: str(token.content) for name, token in files.named.items()}
        self._extra = [str(token.content) for token in files.extra]
        self._splits_special = files.splits_special
        backend.no_truncation()
        backend.no_padding()
        _add_tokens(backend, files)
        self._backend = backend

    @cached_property
    def special_ids(self) -> frozenset[int]:
        """See `Tokenizer.special_ids`."""
        ids = map(self.token_id, (*self.special_tokens.values(), *self._extra))
        return frozenset(token for token in ids if token is not None)

    @cached_property
    def added_tokens(self) -> Mapping[int, AddedToken]:
        """See `Tokenizer.added_tokens`."""
        tokens: dict[int, AddedToken] = self._backend.get_added_tokens_decoder()
        return tokens

    @cached_property
    def bos_id(self) -> int | None:
        """See `Tokenizer.bos_id`."""
        return self._named("bos_token")

    @cached_property
    def eos_id(self) -> int | None:
        """See `Tokenizer.eos_id`."""
        return self._named("eos_token")

    @cached_property
    def is_byte_level(self) -> bool:
        """See `Tokenizer.is_byte_level`."""
        decoder = self._backend.decoder
        return decoder is not None and b'"ByteLevel"' in decoder.__getstate__()

    @cached_property
    def longest(self) -> int:
        """See `Tokenizer.longest`."""
        return max(map(len, self._backend.get_vocab()))

    def __len__(self) -> int:
        """See `Tokenizer.__len__`."""
        return int(self._backend.get_vocab_size())

    def encode(self, text: str, *, add_special_tokens: bool = False, special_as_text: bool = False) -> list[int]:
        """See `Tokenizer.encode`."""
        self._backend.encode_special_tokens = special_as_text or self._splits_special
        ids: list[int] = self._backend.encode(text, add_special_tokens=add_special_tokens).ids
        return ids

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool) -> str:
        """See `Tokenizer.decode`."""
        return str(self._backend.decode(list(ids), skip_special_tokens=skip_special_tokens))

    def token(self, token_id: int) -> str | None:
        """See `Tokenizer.token`."""
        token: str | None = self._backend.id_to_token(token_id)
        return token

    def token_id(self, token: str) -> int | None:
        """See `Tokenizer.token_id`."""
        number: int | None = self._backend.token_to_id(token)
        return number

    def _named(self, name: str) -> int | None:
        token = self.special_tokens.get(name)
        return None if token is None else self.token_id(token)


def has_tokenizer_json(folder: Path) -> bool:
    """Whether `open_tokenizer` can open the folder's tokenizer."""
    return (folder / TOKENIZER_FILE).is_file()


def open_tokenizer(folder: Path) -> JsonTokenizer:
    """Return the tokenizer of a folder that has a tokenizer.json; nothing is fetched.

    Raises:
        InputError: `TokenizerBroken`, naming the file and what is wrong with it.
    """
    path = folder / TOKENIZER_FILE
    try:
        content = path.read_text(encoding="utf-8")
        backend = Backend.from_str(content)
        files = read_files(folder).with_tokens_of(backend)
        if takes_llama_form(files, content):
            backend, files = in_llama_form(backend, files)
        return JsonTokenizer(backend, files)
    except InputError:
        raise
    # The library raises bare Exception for broken content, and RecursionError.
    except Exception as error:
        words = str(error).strip().partition("\n")[0] or type(error).__name__
        raise InputError(
            "TokenizerBroken", f"the tokenizer in {folder} cannot be loaded: {words}; fetch {path.name} again"
        ) from error


def _add_tokens(backend: Backend, files: TokenizerFiles) -> None:
    """Add what the other files have and tokenizer.json has not; a token that differs there takes their form."""
    backend.add_tokens([token for _, token in sorted(files.added.items(), key=lambda item: item[0])])
    known = {str(token.content) for token in backend.get_added_tokens_decoder().values()}
    backend.add_tokens(_unknown((*files.named.values(), *files.extra), known))


def _unknown(tokens: Iterable[AddedToken], known: set[str]) -> list[AddedToken]:
    found: dict[str, AddedToken] = {}
    for token in tokens:
        if token.content not in known:
            found.setdefault(str(token.content), token)
    return list(found.values())
