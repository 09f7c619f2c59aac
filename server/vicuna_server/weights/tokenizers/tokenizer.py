"""The tokenizer's files: copied byte for byte, except for what is known to break silently or is missing."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vicuna_contract.templates import resolve_template
from vicuna_server.errors import InputError
from vicuna_server.files.beneath import is_file, read_file
from vicuna_server.files.json_files import dump_json
from vicuna_server.weights.checkpoint import TOKENIZER_FILES
from vicuna_server.weights.formats.small_file import is_plain_utf8, read_object
from vicuna_server.weights.tokenizers.chat_template import OwnTemplate, own_template, pinned_format
from vicuna_server.weights.tokenizers.field_forms import check_fields, plain_tokens, typed_tokens
from vicuna_server.weights.tokenizers.file_check import check_file
from vicuna_server.weights.tokenizers.repair import CONFIG, LLAMA_TOKENS, SPECIAL, repair_class, repair_tokens, text_of
from vicuna_server.weights.tokenizers.sentencepiece_format import SentencePieceModel, parse_model
from vicuna_server.weights.tokenizers.tokenizer_check import disagreement
from vicuna_server.weights.tokenizers.tokenizer_json import AddedToken, build_tokenizer_json, can_build

__all__ = ["Tokenizer", "has_vocabulary", "read_tokenizer"]

_PAIR = {"vocab.json", "merges.txt"}
_ADDED = "added_tokens.json"
_PROCESSORS = "chat_template.json"
_NOT_READ = (
    "is a processor's, which no tokenizer reads: write what it says to chat_template.jinja beside it where that is "
    "this model's format"
)


@dataclass(frozen=True)
class Tokenizer:
    """What of a tokenizer goes into the artifact.

    Attributes:
        files: by name: a path to copy or the content.
        template: its own template, if it has one.
        pinned: the built-in format that it comes with, out of an artifact.
        warnings: (reason, sentence)s.
    """

    files: dict[str, Path | bytes]
    template: OwnTemplate | None = None
    pinned: str | None = None
    warnings: tuple[tuple[str, str], ...] = ()

    @property
    def has_chat_template(self) -> bool:
        """Whether it brings a template of its own."""
        return self.template is not None

    def chat_template_for(self, asked: str, *, kind: str, source_id: str) -> str:
        """Return the name of the template of a model with this tokenizer; arguments as `resolve_template` has them.

        Raises:
            InputError: `ChatTemplateUnknown`, which also says what of a template there is.
        """
        try:
            return resolve_template(
                asked, tokenizer_has_one=self.has_chat_template, pinned=self.pinned, kind=kind, source_id=source_id
            )
        except ValueError as error:
            hint = f"; {_PROCESSORS} beside it {_NOT_READ}" if _PROCESSORS in self.files else ""
            raise InputError("ChatTemplateUnknown", f"{error}{hint}") from None


def read_tokenizer(folder: Path) -> Tokenizer:
    """Gather the tokenizer files of a folder, repair what old releases have wrong, make what they lack.

    Repaired: the class name `LLaMATokenizer` (loads without BOS); of LLaMA's tokenizers a missing `legacy` (text
    after `</s>` would be cut otherwise), missing `add_bos_token` and `add_eos_token`, blank bos, eos and unk tokens;
    LLaMA's class over a byte-level tokenizer.json, and LLaMA 3's tokens where nothing states them.
    Made: `tokenizer_config.json`, and `tokenizer.json` from LLaMA's `tokenizer.model`.

    Raises:
        InputError: `TokenizerBroken`, `ChatTemplateBroken`.
    """
    files = _found(folder)
    before = {name: _read_object(folder / name) for name in (CONFIG, SPECIAL)}
    for name, table in before.items():
        check_fields(folder / name, table)
    template, pinned = own_template(folder, files.keys(), before[CONFIG]), pinned_format(folder, files.keys())
    tables = {CONFIG: typed_tokens(before[CONFIG]), SPECIAL: plain_tokens(before[SPECIAL], before[CONFIG])}
    tables[CONFIG].pop("auto_map", None)  # program files are never run or copied
    is_llama = repair_class(tables[CONFIG], files)
    repair_tokens(folder, tables, is_llama=is_llama)
    for name, table in tables.items():
        if table != before[name] or (table and not is_plain_utf8(folder / name)):
            files[name] = dump_json(table)
    if is_llama and "tokenizer.model" in files and "tokenizer.json" not in files:
        files["tokenizer.json"] = _build(folder, tables)
    return Tokenizer(files, template, pinned, _compare(folder, files))


def has_vocabulary(folder: Path) -> bool:
    """Whether a folder holds what a tokenizer can be made from."""
    present = {name for name in ("tokenizer.json", "tokenizer.model", *_PAIR) if is_file(folder / name)}
    return bool(present - _PAIR) or present >= _PAIR


def _found(folder: Path) -> dict[str, Path | bytes]:
    """Return the tokenizer files that are there, by name; a vocabulary must be among them."""
    files: dict[str, Path | bytes] = {name: folder / name for name in TOKENIZER_FILES if is_file(folder / name)}
    if not has_vocabulary(folder):
        raise InputError(
            "TokenizerBroken", f"{folder} has no tokenizer.json or tokenizer.model; put the tokenizer's files there"
        )
    for name in files:
        check_file(folder / name)
    return files


def _build(folder: Path, tables: Mapping[str, Mapping[str, Any]]) -> bytes:
    """Make tokenizer.json from tokenizer.model, the configuration and the added tokens."""
    path = folder / "tokenizer.model"
    config = tables[CONFIG]
    tokens = {**config, **tables[SPECIAL]}
    special = {key: text_of(tokens[key]) for key in LLAMA_TOKENS if tokens.get(key) is not None}
    try:
        model = _require_llama(parse_model(read_file(path)))
        added = _added_tokens(folder, config, {text_of(tokens.get("pad_token") or ""), *special.values()})
        return build_tokenizer_json(
            model, special, added, add_bos=config["add_bos_token"], add_eos=config["add_eos_token"]
        )
    except (OSError, ValueError) as error:
        raise InputError(
            "TokenizerBroken", f"{path} cannot become a tokenizer.json ({error}); put one beside it"
        ) from error


def _require_llama(model: SentencePieceModel) -> SentencePieceModel:
    if not can_build(model):
        raise ValueError("it is a sentencepiece model of another kind than LLaMA's")
    return model


def _added_tokens(folder: Path, config: Mapping[str, Any], special: set[str]) -> list[AddedToken]:
    """Return the tokens that a release adds to its vocabulary."""
    found = {text: AddedToken(text, number, special=text in special) for text, number in _added_file(folder).items()}
    decoder = config.get("added_tokens_decoder") or {}
    if not isinstance(decoder, dict):
        raise ValueError("added_tokens_decoder is not an object")
    for number, entry in decoder.items():
        text = text_of(entry)
        if not (number.isdecimal() and text):
            raise ValueError(f"added_tokens_decoder has an entry {number!r} that is not a token")
        is_special = text in special or (isinstance(entry, dict) and entry.get("special") is True)
        found[text] = AddedToken(text, int(number), special=is_special)
    return list(found.values())


def _added_file(folder: Path) -> dict[str, int]:
    added = _read_object(folder / _ADDED)
    if not all(type(number) is int and number >= 0 and text for text, number in added.items()):
        raise ValueError(f"{_ADDED} is not a table of tokens and their ids")
    return added


def _compare(folder: Path, files: Mapping[str, Path | bytes]) -> tuple[tuple[str, str], ...]:
    """Warn where tokenizer.json, found or made, gives other ids than tokenizer.model."""
    if not {"tokenizer.json", "tokenizer.model"} <= files.keys():
        return ()
    item = files["tokenizer.json"]
    sample = disagreement(folder / "tokenizer.model", item if isinstance(item, bytes) else read_file(item))
    if sample is None:
        return ()
    return (
        (
            "TokenizerDisagrees",
            f"tokenizer.json and tokenizer.model in {folder} give different ids for {sample!r}; both are kept, and "
            "what serves the artifact uses tokenizer.json",
        ),
    )


def _read_object(path: Path) -> dict[str, Any]:
    try:
        return read_object(path, "TokenizerBroken", "a tokenizer's configuration")
    except FileNotFoundError:
        return {}
