"""Which ids a tokenizer gives, and what its special tokens are: what its files say to transformers.

transformers 5 takes special tokens from `tokenizer_config.json`; from `special_tokens_map.json` too, which then wins,
unless the first has `added_tokens_decoder`. Tokens that no vocabulary has get the next free ids.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vicuna_server.files.beneath import read_file
from vicuna_server.weights.tokenizers.sentencepiece_format import PieceType, parse_model

__all__ = ["ROLES", "TokenTable", "read_token_table"]

ROLES = ("bos", "eos", "pad")
_NAMED = (*ROLES, "unk", "sep", "cls", "mask")
_LISTS = ("additional_special_tokens", "extra_special_tokens")
_ENDOFTEXT = "<|endoftext|>"
_GPT2 = {"bos": _ENDOFTEXT, "eos": _ENDOFTEXT, "unk": _ENDOFTEXT}
# defaults of transformers' classes, used if the vocabulary has the token
_OF_CLASS = {
    "GPT2Tokenizer": _GPT2,
    "GPTNeoXTokenizer": _GPT2,
    "CodeGenTokenizer": _GPT2,
    "Qwen2Tokenizer": {"eos": _ENDOFTEXT, "pad": _ENDOFTEXT},
    "GemmaTokenizer": {"bos": "<bos>", "eos": "<eos>", "pad": "<pad>", "unk": "<unk>"},
}
# looks like a control token even if no file calls it special; sentencepiece's byte tokens do not count
_MARK = re.compile(r"<(?!0x[0-9A-F]{2}>)[^<>]+>|\[[^\[\]]+\]")


@dataclass(frozen=True)
class TokenTable:
    """The ids of a tokenizer.

    Attributes:
        texts: every token's text by id.
        roles: the ids of bos, eos, pad, unk and so on, where the tokenizer has them.
        marked: ids of tokens that are added to the vocabulary or named by a role: more than text.
    """

    texts: Mapping[int, str]
    roles: Mapping[str, int]
    marked: frozenset[int]

    def is_text(self, token: int) -> bool:
        """Whether a token is plain text, which ends no answer and begins none."""
        return token in self.texts and token not in self.marked and _MARK.fullmatch(self.texts[token]) is None

    def beyond(self, rows: int) -> list[int]:
        """Return the ids that an embedding of so many rows has none for, in order."""
        return sorted(token for token in self.texts if token >= rows)

    def id_of(self, text: str) -> int | None:
        """Return the id of a token that is more than text, None where there is none."""
        return next((token for token in sorted(self.marked) if self.texts[token] == text), None)


def read_token_table(files: Mapping[str, Path | bytes]) -> TokenTable | None:
    """Read what a tokenizer's files say; None where they cannot be understood, which is others' to judge.

    Args:
        files: by name, a path or the content, as in `Tokenizer.files`.
    """
    try:
        config = _object(files, "tokenizer_config.json")
        special = {} if "added_tokens_decoder" in config else _object(files, "special_tokens_map.json")
        ids, marked = _vocabulary(files)
        named = dict(_named({**config, **special}))
        for text in (*_decoder(config), *named.values(), *_listed({**config, **special})):
            marked.add(text)
            ids.setdefault(text, max(ids.values(), default=-1) + 1)
        named = {**_of_class(config, ids), **named}
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return None
    texts = {token: text for text, token in ids.items()}
    roles = {role: ids[text] for role, text in named.items()}
    return TokenTable(texts, roles, frozenset({ids[text] for text in marked if text in ids} | set(roles.values())))


def _object(files: Mapping[str, Path | bytes], name: str) -> dict[str, Any]:
    if name not in files:
        return {}
    content = json.loads(_read(files[name]))
    if not isinstance(content, dict):
        raise TypeError(name)
    return content


def _read(item: Path | bytes) -> bytes:
    return item if isinstance(item, bytes) else read_file(item)


def _vocabulary(files: Mapping[str, Path | bytes]) -> tuple[dict[str, int], set[str]]:
    """Return ids by text, and the texts of added tokens, out of whichever file the vocabulary is in."""
    if "tokenizer.json" in files:
        vocabulary, added = _of_tokenizer_json(files)
    elif "vocab.json" in files:
        vocabulary, added = _object(files, "vocab.json"), _object(files, "added_tokens.json")
    else:
        vocabulary, added = _of_pieces(files)
    ids = {str(text): token for text, token in {**vocabulary, **added}.items()}
    if not all(type(token) is int and token >= 0 for token in ids.values()):
        raise ValueError("ids are not numbers")
    return ids, set(map(str, added))


def _of_tokenizer_json(files: Mapping[str, Path | bytes]) -> tuple[dict[str, int], dict[str, int]]:
    content = _object(files, "tokenizer.json")
    vocabulary = content["model"]["vocab"]
    if isinstance(vocabulary, list):  # a unigram vocabulary: pairs of text and score
        vocabulary = {entry[0]: token for token, entry in enumerate(vocabulary)}
    return vocabulary, {entry["content"]: entry["id"] for entry in content.get("added_tokens") or ()}


def _of_pieces(files: Mapping[str, Path | bytes]) -> tuple[dict[str, int], dict[str, int]]:
    pieces = parse_model(_read(files["tokenizer.model"])).pieces
    vocabulary = {piece.text: token for token, piece in enumerate(pieces)}
    added = {piece.text: token for token, piece in enumerate(pieces) if piece.type is PieceType.CONTROL}
    return vocabulary, added | _object(files, "added_tokens.json")


def _decoder(config: Mapping[str, Any]) -> list[str]:
    """Return the texts of `added_tokens_decoder` by the ids it gives them, which count for their order alone."""
    added = config.get("added_tokens_decoder") or {}
    return [_text(added[token]) for token in sorted(added, key=int)]


def _named(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for role in _NAMED:
        text = _text(config.get(f"{role}_token") or "")
        if text:
            yield role, text


def _listed(config: Mapping[str, Any]) -> Iterator[str]:
    for key in _LISTS:
        several = config.get(key) or ()
        yield from filter(None, map(_text, several.values() if isinstance(several, dict) else several))


def _of_class(config: Mapping[str, Any], ids: Mapping[str, int]) -> dict[str, str]:
    known = _OF_CLASS.get(str(config.get("tokenizer_class")).removesuffix("Fast"), {})
    return {role: text for role, text in known.items() if text in ids and f"{role}_token" not in config}


def _text(token: Any) -> str:
    """Return the text of a token written plainly or as an AddedToken object."""
    return str(token.get("content", "")) if isinstance(token, dict) else str(token)
