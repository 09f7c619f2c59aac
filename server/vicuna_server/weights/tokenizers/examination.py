"""What only trying out tells of a tokenizer and the template that goes with it, before a byte is merged."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from vicuna_contract.templates import BUILT_IN_TEMPLATES, FROM_TOKENIZER
from vicuna_server.files.beneath import open_file, read_file
from vicuna_server.files.data_file import LocalFile
from vicuna_server.problems import Problems
from vicuna_server.prompts import Conversation, Message, get_template
from vicuna_server.weights.formats.small_file import read_small
from vicuna_server.weights.tokenizers.sentencepiece_format import is_sentencepiece
from vicuna_server.weights.tokenizers.tokenizer import Tokenizer
from vicuna_server.weights.tokenizers.trial import MOST_BYTES, MOST_SECONDS, MOST_TEMPLATE_SECONDS, Wanted
from vicuna_server.weights.tokenizers.trial import check_tokenizer as load

__all__ = ["context_length", "examine"]

_JSON, _MODEL, _CONFIG, _SPECIAL = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
)
_TRUSTED_BYTES = 1024 * 1024  # a smaller tokenizer is loaded in this process: it takes 50 MiB at most
_PASSED_ON = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TMPDIR", "HOME", "SYSTEMROOT")
_MOST_LETTERS = 200
_LENGTHS = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "n_ctx")
_MOST_FACTOR = 1e6


@dataclass(frozen=True)
class _Outcome:
    """What a trial found: faults of tokenizer and template, the first prompt's tokens (None: not counted)."""

    tokenizer: str | None = None
    template: str | None = None
    tokens: int | None = None


def examine(tokenizer: Tokenizer, folder: Path, template: str, config: Mapping[str, Any], problems: Problems) -> bool:
    """Try out a tokenizer and, where it is the one that is pinned, its own template, as serving will.

    Args:
        tokenizer: what goes into the artifact.
        folder: what messages call its place.
        template: the resolved template's name; empty: none is known.
        config: the model's, which states how long a prompt may be.
        problems: gets `TokenizerBroken`, `ChatTemplateBroken`; the warning `ContextTooSmall`.

    Returns:
        Whether the tokenizer can be loaded.
    """
    _check_model(tokenizer, folder, problems)
    own = tokenizer.template if template == FROM_TOKENIZER else None
    if own is not None and own.fault:
        problems.add("ChatTemplateBroken", f"{own.place} {own.fault}")
        own = None
    jinja = own.text if own is not None else None
    outcome = _try(tokenizer, jinja, _plain_prompt(template))
    if outcome.tokenizer is not None:
        problems.add(
            "TokenizerBroken", f"{folder / _JSON} cannot be loaded: {_short(outcome.tokenizer)}; fetch it again"
        )
    if own is not None and outcome.template is not None:
        problems.add(
            "ChatTemplateBroken",
            f"{own.place}: the chat template cannot be used: {_short(outcome.template)}; correct it, or set "
            "chatTemplate (--chat-template) to vicuna_v1.1 or another",
        )
    _check_context(outcome.tokens, template, config, problems)
    return outcome.tokenizer is None


def _check_context(tokens: int | None, template: str, config: Mapping[str, Any], problems: Problems) -> None:
    positions = context_length(config)
    if tokens is not None and positions is not None and positions < tokens + 1:
        problems.warn(
            "ContextTooSmall",
            f"chat template {template} makes {tokens} tokens of the one word 'Hello', and the model has "
            f"{positions} positions: no chat fits, and serving it ends with ContextTooSmall",
        )


def context_length(config: Mapping[str, Any]) -> int | None:
    """Return the tokens that a model is made for, as serving it has them; None where its config does not say."""
    stated = next((config[key] for key in _LENGTHS if type(config.get(key)) is int), None)
    if stated is None or stated <= 0:
        return None
    rope = config.get("rope_parameters") or config.get("rope_scaling")
    if not isinstance(rope, dict) or rope.get("rope_type", rope.get("type")) != "linear":
        return int(stated)
    factor = rope.get("factor", 1)
    return int(stated * factor) if type(factor) in (int, float) and 0 < factor < _MOST_FACTOR else None


def _check_model(tokenizer: Tokenizer, folder: Path, problems: Problems) -> None:
    """Note a tokenizer.model beside a tokenizer.json that no program could read: it is copied too."""
    if not {_JSON, _MODEL} <= tokenizer.files.keys():
        return
    content = read_small(folder / _MODEL, "TokenizerBroken", "a tokenizer")
    if not is_sentencepiece(content):
        problems.add(
            "TokenizerBroken",
            f"{folder / _MODEL} is a model of neither sentencepiece nor tiktoken, or was cut; fetch it again, or take "
            f"it away: {_JSON} is beside it",
        )


def _plain_prompt(template: str) -> str | None:
    """Return what a built-in format makes of the server's first prompt; None for any other."""
    if template not in BUILT_IN_TEMPLATES:
        return None
    return get_template(template).render(Conversation.of([Message("user", "Hello")])).text()


def _try(tokenizer: Tokenizer, jinja: str | None, text: str | None) -> _Outcome:
    item = tokenizer.files.get(_JSON)
    size = 0 if item is None else len(item) if isinstance(item, bytes) else LocalFile(item).size
    if jinja is None and size <= _TRUSTED_BYTES:
        return _try_here(item, text)
    tokens = _special_tokens(tokenizer)
    with _opened(item) as descriptor:
        path = None if descriptor is None else f"/proc/self/fd/{descriptor}"
        return _try_apart({"tokenizer": path, "template": jinja, "tokens": tokens, "text": text}, descriptor)


@contextmanager
def _opened(item: Path | bytes | None) -> Iterator[int | None]:
    """Give a descriptor of a file or content, None where there is none: another process reads what is opened here."""
    if item is None:
        yield None
    elif isinstance(item, bytes):
        with TemporaryFile(prefix="vicuna-tokenizer-") as file:
            file.write(item)
            file.flush()
            yield file.fileno()
    else:
        with open(open_file(item), "rb") as file:
            yield file.fileno()


def _try_here(item: Path | bytes | None, text: str | None) -> _Outcome:
    if item is None:
        return _Outcome()
    content = item if isinstance(item, bytes) else read_file(item)
    try:
        loaded = load(content.decode())
    except ValueError as error:
        return _Outcome(tokenizer=str(error))
    return _Outcome(tokens=len(loaded.encode(text, add_special_tokens=False).ids) if text else None)


def _try_apart(wanted: Wanted, descriptor: int | None) -> _Outcome:
    """Run the trial in a process with limits, which gets the descriptor; what it did not come to was stopped by one."""
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    environment |= {"TOKENIZERS_PARALLELISM": "false", "RAYON_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    environment |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "vicuna_server.weights.tokenizers.trial"],
            input=json.dumps(wanted).encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            timeout=3 * MOST_SECONDS,
            pass_fds=[] if descriptor is None else [descriptor],
            check=False,
            start_new_session=True,  # a Ctrl-C in a terminal is for the merge, which would blame the tokenizer
        ).stdout
    except subprocess.TimeoutExpired as error:
        done = error.stdout or b""
    return _outcome({answer["step"]: answer for answer in map(json.loads, done.splitlines())}, wanted)


def _outcome(answers: Mapping[str, Mapping[str, Any]], wanted: Wanted) -> _Outcome:
    """Return what the answers of a trial say; a step that is not there was stopped by a limit."""
    limits = f"more than {MOST_BYTES // 2**20} MiB of memory or"
    if "tokenizer" not in answers:
        return _Outcome(tokenizer=f"loading it takes {limits} {MOST_SECONDS} s")
    fault = answers["tokenizer"].get("fault")
    if fault is not None or wanted["template"] is None:
        return _Outcome(fault, None, answers.get("count", {}).get("tokens"))
    if "template" not in answers:
        return _Outcome(template=f"rendering it takes {limits} {MOST_TEMPLATE_SECONDS} s")
    empty = "it makes no text" if answers["template"].get("empty") else None
    return _Outcome(None, answers["template"].get("fault", empty), answers.get("count", {}).get("tokens"))


def _special_tokens(tokenizer: Tokenizer) -> dict[str, str]:
    """Return the special tokens as templates know them (bos_token and so on)."""
    found: dict[str, str] = {}
    for name in (_SPECIAL, _CONFIG):
        item = tokenizer.files.get(name)
        table = json.loads(item if isinstance(item, bytes) else read_file(item)) if item is not None else {}
        for key, token in table.items():
            text = token.get("content") if isinstance(token, dict) else token
            if key.endswith("_token") and isinstance(text, str):
                found[key] = text
    return found


def _short(text: str) -> str:
    return text if len(text) <= _MOST_LETTERS else text[:_MOST_LETTERS] + "…"
