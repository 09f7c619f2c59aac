"""Making `tokenizer.json` from LLaMA's `tokenizer.model`, so that both give the same token ids.

transformers 5 loads a tokenizer.model alone only where protobuf is installed, and then not always with the ids that
the model was trained on. The rules are sentencepiece's (bpe_model.cc): the pair whose piece has the highest score is
merged first; every text between special tokens gets a space in front; characters without a piece become bytes.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from vicuna_server.weights.tokenizers.sentencepiece_format import PieceType, SentencePieceModel

__all__ = ["AddedToken", "build_tokenizer_json", "can_build"]

_SPACE = "▁"
_MOST_MERGES = 2**20  # the largest published vocabularies have 580 604


def can_build(model: SentencePieceModel) -> bool:
    """Whether it is a model of LLaMA's kind: the others need more than the rules here."""
    return model.is_bpe and model.keeps_text and all(piece.type is not PieceType.USER_DEFINED for piece in model.pieces)


@dataclass(frozen=True)
class AddedToken:
    """A token beside the vocabulary, or one of it that is never cut; `special` ones are left out of decoded text."""

    text: str
    id: int
    special: bool


def build_tokenizer_json(
    model: SentencePieceModel, special: Mapping[str, str], added: Iterable[AddedToken], *, add_bos: bool, add_eos: bool
) -> bytes:
    """Return the content of tokenizer.json.

    Args:
        model: what `can_build`.
        special: texts of bos_token, eos_token and unk_token, as far as they are known.
        added: further tokens; their ids follow the vocabulary's without a gap, or are those of its pieces.
        add_bos: whether every text begins with the bos token.
        add_eos: whether every text ends with the eos token.

    Raises:
        ValueError: a token has no id, or one that is another's; or its pieces can be put together in too many ways.
    """
    ids = {piece.text: number for number, piece in enumerate(model.pieces)}
    tokens = {text: AddedToken(text, ids[text], special=True) for text in special.values() if text in ids}
    tokens |= {token.text: token for token in added}
    _check(model, special, tokens)
    front = [tokens[special["bos_token"]]] if add_bos and "bos_token" in special else []
    back = [tokens[special["eos_token"]]] if add_eos and "eos_token" in special else []
    content = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_added_token(token) for token in sorted(tokens.values(), key=lambda token: token.id)],
        "normalizer": _normalizer(model),
        "pre_tokenizer": None,
        "post_processor": _post_processor(front, back),
        "decoder": _decoder(model),
        "model": _vocabulary(model, ids),
    }
    return (json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n").encode()


def _vocabulary(model: SentencePieceModel, ids: Mapping[str, int]) -> dict[str, Any]:
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": next((piece.text for piece in model.pieces if piece.type is PieceType.UNKNOWN), None),
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": True,
        "byte_fallback": model.byte_fallback,
        "ignore_merges": False,
        "vocab": ids,
        "merges": _bounded(_merges(model, ids)),
    }


def _bounded(merges: Iterator[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return all of them, as long as memory is laid out for so many."""
    found = list(islice(merges, _MOST_MERGES + 1))
    if len(found) > _MOST_MERGES:
        raise ValueError(f"its pieces can be put together in more than {_MOST_MERGES} ways")
    return found


def _check(model: SentencePieceModel, special: Mapping[str, str], tokens: Mapping[str, AddedToken]) -> None:
    for name, text in special.items():
        if text not in tokens:
            raise ValueError(f"{name} is {text!r}, which is not a token of its vocabulary")
    beyond = sorted(token.id for token in tokens.values() if token.id >= len(model.pieces))
    if beyond != list(range(len(model.pieces), len(model.pieces) + len(beyond))):
        raise ValueError(f"added tokens have the ids {beyond[:8]} where those from {len(model.pieces)} on are free")
    for token in tokens.values():
        if token.id < len(model.pieces) and model.pieces[token.id].text != token.text:
            raise ValueError(f"the added token {token.text!r} has the id of {model.pieces[token.id].text!r}")


def _added_token(token: AddedToken) -> dict[str, Any]:
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {"id": token.id, "content": token.text, **plain, "special": token.special}


def _normalizer(model: SentencePieceModel) -> dict[str, Any]:
    spaces = {"type": "Replace", "pattern": {"String": " "}, "content": _SPACE}
    prefix = [{"type": "Prepend", "prepend": _SPACE}] if model.dummy_prefix else []
    return {"type": "Sequence", "normalizers": [*prefix, spaces]}


def _decoder(model: SentencePieceModel) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"type": "Replace", "pattern": {"String": _SPACE}, "content": " "}]
    steps += [{"type": "ByteFallback"}] if model.byte_fallback else []
    steps += [{"type": "Fuse"}]
    steps += [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if model.dummy_prefix else []
    return {"type": "Sequence", "decoders": steps}


def _post_processor(front: list[AddedToken], back: list[AddedToken]) -> dict[str, Any] | None:
    """Put bos and eos around every text, and around both of a pair."""
    if not front and not back:
        return None

    def around(name: str, kind: int) -> list[dict[str, Any]]:
        return [
            *({"SpecialToken": {"id": token.text, "type_id": kind}} for token in front),
            {"Sequence": {"id": name, "type_id": kind}},
            *({"SpecialToken": {"id": token.text, "type_id": kind}} for token in back),
        ]

    return {
        "type": "TemplateProcessing",
        "single": around("A", 0),
        "pair": [*around("A", 0), *around("B", 1)],
        "special_tokens": {
            token.text: {"id": token.text, "ids": [token.id], "tokens": [token.text]} for token in (*front, *back)
        },
    }


def _merges(model: SentencePieceModel, ids: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    """Yield the pairs that make pieces: by falling score, pieces of one score by id, their longest left part first.

    sentencepiece lets the leftmost of equal pairs win, which a fixed order cannot say; in models it trained itself
    scores differ, and equal ones meet only in runs of one character.
    """
    usable = {piece.text for piece in model.pieces if piece.type is PieceType.NORMAL}
    order = sorted(range(len(model.pieces)), key=lambda number: (-model.pieces[number].score, number))
    for number in order:
        text = model.pieces[number].text
        if model.pieces[number].type is not PieceType.NORMAL or ids[text] != number:
            continue
        for cut in range(len(text) - 1, 0, -1):
            if text[:cut] in usable and text[cut:] in usable:
                yield text[:cut], text[cut:]
