"""The prompt format in the artifact: plain transformers gives the ids that our server gives, whatever is pinned."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from support.checkpoints import model_weights, write_checkpoint, write_tokenizer
from support.pieces import train
from vicuna_contract.names import MANIFEST_NAME
from vicuna_contract.templates import BUILT_IN_TEMPLATES
from vicuna_server.artifacts.manifest import Manifest
from vicuna_server.engine import ChatPrompt
from vicuna_server.engine.choosing import choose_template
from vicuna_server.engine.encoding import PromptEncoder
from vicuna_server.engine.settings import LoadSettings
from vicuna_server.errors import InputError
from vicuna_server.merge.job import run_merge
from vicuna_server.merge.request import Request
from vicuna_server.prompts import KEPT_TEMPLATE, Conversation, Message
from vicuna_server.prompts.tokenizer import open_tokenizer
from vicuna_server.run.control import Control
from vicuna_server.run.reporter import Silent

OWN = (
    "{{ bos_token }}{% for m in messages %}"
    "[{{ m['role'] }}]{{ m['content'] }}{% if not loop.last or m['role'] == 'user' %}"
    "{{ eos_token }}{% endif %}{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
)
TALKS = [
    (Message("user", "Hello"),),
    (Message("system", "Be brief."), Message("user", "a"), Message("assistant", "b"), Message("user", "and  c?\n")),
    (Message("user", "Count"), Message("assistant", "one, two,")),
    (Message("system", ""), Message("user", "x"), Message("user", "y")),
]


def base(folder: Path, **tokenizer: Any) -> Path:
    """A LLaMA whose tokenizer.model is of LLaMA's kind."""
    write_checkpoint(folder, model_weights(1, vocabulary=900), config={"vocab_size": 900}, tokenizer=False)
    (folder / "tokenizer.model").write_bytes(train())
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "LlamaTokenizer", **tokenizer}))
    return folder


def merge(source: Path, output: Path, template: str) -> tuple[Manifest, Path]:
    request = Request(base=str(source), delta=None, output=output, dtype="float16", chat_template=template)
    manifest = run_merge(request, Control(Silent(), threading.Event()))
    return manifest, output / manifest.artifact_id


def plain_ids(folder: Path, talk: tuple[Message, ...], **options: Any) -> list[int]:
    """What transformers makes of the folder alone."""
    continues = Conversation.of(talk).continues
    said = [{"role": one.role, "content": one.content} for one in talk]
    options |= {"add_generation_prompt": not continues, "continue_final_message": continues, "return_dict": False}
    return list(AutoTokenizer.from_pretrained(folder).apply_chat_template(said, **options))


def served_ids(folder: Path, talk: tuple[Message, ...], asked: str = "auto") -> list[int]:
    """What our server makes of the same conversation."""
    manifest = Manifest.load(folder)
    assert manifest is not None
    tokenizer = open_tokenizer(folder)
    template = choose_template(tokenizer, LoadSettings(folder, manifest.chat_template, chat_template=asked))
    return PromptEncoder(tokenizer, template).encode(ChatPrompt(talk)).ids


@pytest.mark.parametrize("legacy", [True, False])
@pytest.mark.parametrize("template", BUILT_IN_TEMPLATES)
def test_plain_transformers_gives_the_servers_ids(tmp_path: Path, template: str, legacy: bool) -> None:
    manifest, folder = merge(base(tmp_path / "base", legacy=legacy), tmp_path / "out", template)
    assert manifest.chat_template == template
    for talk in TALKS:
        assert plain_ids(folder, talk) == served_ids(folder, talk)


def put_in_config(folder: Path) -> None:
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "chat_template": OWN}))


def put_in_list(folder: Path) -> None:
    config = json.loads((folder / "tokenizer_config.json").read_text())
    named = [{"name": "tool_use", "template": "TOOLS"}, {"name": "default", "template": OWN}]
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "chat_template": named}))


def put_in_file(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text(OWN)


PLACES = [put_in_config, put_in_list, put_in_file]


@pytest.mark.parametrize("put", PLACES)
def test_a_format_that_is_pinned_over_the_tokenizers_own_is_the_only_one(tmp_path: Path, put: Any) -> None:
    put(base(tmp_path / "base"))
    _, folder = merge(tmp_path / "base", tmp_path / "out", "vicuna_v1.1")
    assert "chat_template" not in json.loads((folder / "tokenizer_config.json").read_text())
    for talk in TALKS:
        assert plain_ids(folder, talk) == served_ids(folder, talk) == served_ids(folder, talk, "vicuna_v1.1")
    for talk in TALKS[:-1]:  # neighbours of one role, which only our server joins
        assert plain_ids(folder, talk, chat_template=OWN) == served_ids(folder, talk, "from-tokenizer")


@pytest.mark.parametrize("put", PLACES)
def test_the_tokenizers_own_is_written_too_and_its_files_stay_as_they_are(tmp_path: Path, put: Any) -> None:
    tokens = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    put(base(tmp_path / "base", **tokens, legacy=True, add_bos_token=True, add_eos_token=False))
    before = json.loads((tmp_path / "base/tokenizer_config.json").read_text())
    manifest, folder = merge(tmp_path / "base", tmp_path / "out", "auto")
    assert manifest.chat_template == "from-tokenizer"
    assert (folder / "chat_template.jinja").read_text() == OWN
    assert json.loads((folder / "tokenizer_config.json").read_text()) == before
    for talk in TALKS[:-1]:
        assert plain_ids(folder, talk) == served_ids(folder, talk)
    if put is put_in_list:
        said = [{"role": "user", "content": "a"}]
        tokenizer = AutoTokenizer.from_pretrained(folder)
        assert tokenizer.apply_chat_template(said, chat_template="tool_use", tokenize=False) == "TOOLS"


@pytest.mark.parametrize("put", [None, put_in_config, put_in_file])
def test_nothing_is_pinned_where_nothing_is_asked_for(tmp_path: Path, put: Any) -> None:
    base(tmp_path / "base")
    if put:
        put(tmp_path / "base")
    manifest, folder = merge(tmp_path / "base", tmp_path / "out", "none")
    assert manifest.chat_template == "none"
    found = AutoTokenizer.from_pretrained(folder).chat_template
    assert found == (OWN if put else None)
    assert (folder / "chat_template.jinja").exists() == (put is put_in_file)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.mark.parametrize("put", [None, put_in_config])
def test_an_artifact_can_be_a_base_again(tmp_path: Path, put: Any) -> None:
    base(tmp_path / "base")
    if put:
        put(tmp_path / "base")
    _, first = merge(tmp_path / "base", tmp_path / "first", "vicuna_v0")
    manifest, second = merge(first, tmp_path / "second", "auto")
    assert manifest.chat_template == "vicuna_v0"
    assert content(second).keys() == content(first).keys()
    assert {**content(second), MANIFEST_NAME: b""} == {**content(first), MANIFEST_NAME: b""}
    _, third = merge(second, tmp_path / "third", "none")
    assert AutoTokenizer.from_pretrained(third).chat_template == (OWN if put else None)
    assert not (third / KEPT_TEMPLATE).exists()


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("alpaca", "vicuna_v1.1", "vicuna_v1.1"),
        ("none", "vicuna_v1.1", "vicuna_v1.1"),
        ("alpaca", "none", "none"),
        ("alpaca", "from-tokenizer", "from-tokenizer"),
        ("none", "auto", "from-tokenizer"),
        ("alpaca", "auto", "alpaca"),
    ],
)
def test_an_artifact_that_is_found_stays_as_it_is_whatever_it_pins(
    tmp_path: Path, first: str, second: str, expected: str
) -> None:
    put_in_config(base(tmp_path / "base"))
    made, folder = merge(tmp_path / "base", tmp_path / "out", first)
    before = content(folder)
    found, again = merge(tmp_path / "base", tmp_path / "out", second)
    assert (again, content(again)) == (folder, before)
    assert (made.chat_template, found.chat_template) == (first, expected)
    if expected != "none":
        for talk in TALKS:
            served_ids(folder, talk, expected)


def test_where_no_source_tells_the_format_the_artifact_that_is_there_does(tmp_path: Path) -> None:
    base(tmp_path / "base")
    with pytest.raises(InputError, match="nothing tells this model's prompt format") as caught:
        merge(tmp_path / "base", tmp_path / "out", "auto")
    assert caught.value.reason == "ChatTemplateUnknown"
    assert not list((tmp_path / "out").iterdir())
    made, folder = merge(tmp_path / "base", tmp_path / "out", "vicuna_v0")
    found, again = merge(tmp_path / "base", tmp_path / "out", "auto")
    assert (again, found) == (folder, made)
    merge(tmp_path / "base", tmp_path / "silent", "none")
    with pytest.raises(InputError, match="nothing tells this model's prompt format"):
        merge(tmp_path / "base", tmp_path / "silent", "auto")


def test_a_format_that_nothing_tells_is_listed_with_all_that_is_wrong(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "base", {**model_weights(1), "model.norm.weight": torch.ones(8)})
    with pytest.raises(InputError) as caught:
        merge(source, tmp_path / "out", "auto")
    assert caught.value.reason == "ShapeMismatch"
    assert "ChatTemplateUnknown: nothing tells" in caught.value.message


@pytest.mark.damaged
def test_an_artifact_of_an_earlier_version_has_no_template_file_and_is_found(tmp_path: Path) -> None:
    made, folder = merge(base(tmp_path / "base"), tmp_path / "out", "vicuna_v1.1")
    (folder / "chat_template.jinja").unlink()
    files = [entry for entry in made.files if entry.path != "chat_template.jinja"]
    old = made.model_copy(update={"files": files, "total_size": sum(entry.size for entry in files)})
    (folder / MANIFEST_NAME).write_text(old.to_json())
    before = content(folder)
    found, again = merge(tmp_path / "base", tmp_path / "out", "vicuna_v1.1")
    assert (found, content(again)) == (old, before)
    for talk in TALKS:
        served_ids(folder, talk)


def test_what_no_tokenizer_has_cannot_be_asked_of_an_artifact_that_is_found(tmp_path: Path) -> None:
    merge(base(tmp_path / "base"), tmp_path / "out", "vicuna_v1.1")
    with pytest.raises(InputError, match="has no chat_template") as caught:
        merge(tmp_path / "base", tmp_path / "out", "from-tokenizer")
    assert caught.value.reason == "ChatTemplateUnknown"


@pytest.mark.parametrize("scheme", ["first", "always"])
def test_a_tokenizer_of_another_class_tells_by_its_own_file_where_it_puts_spaces(tmp_path: Path, scheme: str) -> None:
    source = write_checkpoint(tmp_path / "base", model_weights(1), tokenizer=False)
    write_tokenizer(source)
    raw = json.loads((source / "tokenizer.json").read_text())
    raw["pre_tokenizer"] = {
        "type": "Sequence",
        "pretokenizers": [{"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": False}],
    }
    raw["model"] = {
        "type": "BPE",
        "unk_token": "<unk>",
        "fuse_unk": False,
        "merges": [],
        "vocab": {
            letter: number for number, letter in enumerate(["<unk>", "<s>", "</s>", "▁", *"abcUSERNITA:.HB\n#x"])
        },
    }
    (source / "tokenizer.json").write_text(json.dumps(raw))
    _, folder = merge(source, tmp_path / "out", "vicuna_v1.1")
    assert ("set lead = ' '" in (folder / "chat_template.jinja").read_text()) == (scheme == "first")
    for talk in TALKS:
        assert plain_ids(folder, talk) == served_ids(folder, talk)
