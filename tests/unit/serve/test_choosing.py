"""Which prompt format a folder is served with."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from vicuna_server.artifacts.manifest import Inputs, Manifest, Recipe, Source, Tool
from vicuna_server.engine.choosing import choose_template
from vicuna_server.engine.settings import LoadSettings
from vicuna_server.errors import InputError
from vicuna_server.prompts import KEPT_TEMPLATE, jinja_source

OWN = "{{ messages }}"


def tokenizer(template: str | None) -> Any:
    return SimpleNamespace(chat_template=template)


@pytest.mark.parametrize(
    ("found", "kept", "asked", "pinned", "want", "own"),
    [
        (None, None, "vicuna_v0", "alpaca", "vicuna_v0", None),
        (OWN, None, "auto", None, "from-tokenizer", OWN),
        (OWN, None, "auto", "alpaca", "alpaca", OWN),  # an artifact of a version that wrote no template
        (jinja_source("alpaca"), None, "auto", "alpaca", "alpaca", None),
        (jinja_source("alpaca"), OWN, "auto", "alpaca", "alpaca", OWN),
        (jinja_source("alpaca"), OWN, "from-tokenizer", "alpaca", "from-tokenizer", OWN),
        (jinja_source("vicuna_v0"), None, "auto", None, "vicuna_v0", None),  # a copy without its manifest
        (None, None, "none", "alpaca", "none", None),
        (None, None, "auto", "none", "none", None),
        (OWN, None, "auto", "none", "from-tokenizer", OWN),
        (None, None, "alpaca", "none", "alpaca", None),
    ],
)
def test_what_is_asked_wins_then_what_is_pinned_then_the_tokenizers_own(
    tmp_path: Path, found: str | None, kept: str | None, asked: str, pinned: str | None, want: str, own: str | None
) -> None:
    if kept is not None:
        (tmp_path / KEPT_TEMPLATE).write_text(kept)
    loaded = tokenizer(found)
    assert choose_template(loaded, LoadSettings(tmp_path, pinned, chat_template=asked)) == want
    assert loaded.chat_template == own


def test_a_built_in_format_in_the_folder_is_not_the_tokenizers_own(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the tokenizer has no chat_template"):
        choose_template(
            tokenizer(jinja_source("alpaca")), LoadSettings(tmp_path, "alpaca", chat_template="from-tokenizer")
        )


def test_a_file_takes_the_place_of_the_tokenizers_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.jinja"
    path.write_text("{{ 1 }}")
    loaded = tokenizer(OWN)
    assert choose_template(loaded, LoadSettings(tmp_path, "alpaca", chat_template=str(path))) == "from-tokenizer"
    assert loaded.chat_template == "{{ 1 }}"


@pytest.mark.parametrize(
    ("source_id", "kind", "want"),
    [("lmsys/vicuna-7b-v1.5", "none", "vicuna_v1.1"), ("", "alpaca", "alpaca"), ("", "none", "none")],
)
def test_what_pins_nothing_is_asked_where_it_comes_from(tmp_path: Path, source_id: str, kind: str, want: str) -> None:
    settings = LoadSettings(tmp_path, "none", kind=kind, source_id=source_id)
    assert choose_template(tokenizer(None), settings) == want


@pytest.mark.parametrize(
    ("base", "delta", "want"),
    [
        ("hf://a/b@main", None, "a/b"),
        ("hf://a/b@main", "hf://lmsys/vicuna-7b-delta-v1.1@main", "lmsys/vicuna-7b-delta-v1.1"),
        ("hf://a/b@main", "file:///models/x", ""),
        ("hf://broken", None, ""),
    ],
)
def test_a_manifest_tells_which_repository_gave_the_tokenizer(base: str, delta: str | None, want: str) -> None:
    inputs = Inputs(base=Source(source=base, fingerprint="f"), delta=delta and Source(source=delta, fingerprint="f"))
    recipe = Recipe(kind="none", dtype="float16", version=1)
    rest: dict[str, Any] = {"tensor_count": 1, "total_size": 1, "files": [], "tool": Tool(name="t", version="1")}
    manifest = Manifest(artifact_id="0" * 16, inputs=inputs, recipe=recipe, chat_template="none", **rest)
    assert manifest.hub_id == want
