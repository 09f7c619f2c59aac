"""tokenizer.json made from tokenizer.model gives sentencepiece's own ids."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.amount import examples, first
from support.pieces import corpus, expected_ids, train
from vicuna_server.errors import InputError
from vicuna_server.weights.tokenizers.sentencepiece_format import PieceType, parse_model
from vicuna_server.weights.tokenizers.tokenizer import Tokenizer, read_tokenizer

_VICUNA = (
    "A chat between a curious user and an artificial intelligence assistant. USER: Hello ASSISTANT: Hi there.</s>"
    "USER: And  now?\n\nTell me: 1234 \u4f60\u597d ASSISTANT: Yes \U0001f642</s>USER: bye ASSISTANT:"
)
_TEXTS = (
    *(
        _VICUNA,
        "",
        "x",
        "</s>",
        "</s></s>",
        "a</s>b",
        "a </s> b",
        "a\n</s>\nb",
        "two  spaces   three",
        "\n",
        "\t\tx\n\n",
    ),
    *(
        "\U0001f642",
        "\U0001f469\u200d\U0001f52c",
        "\u4e16\u754c\u548c\u5e73",
        "caf\u00e9 \u00df \u0645",
        "\x00",
        "0123456789",
    ),
    *("\u2581", "a\u2581b", "\u00a0x", "\ufb01", "e\u0301", "<s", "</s", "< /s>", "[PAD]"),
)
_LEADING = (" x", "  x", "   ", "a</s> b", " </s>  ")


def _write(folder: Path, *, model: bytes | None = None, **files: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "tokenizer.model").write_bytes(model or train())
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def _publish(found: Tokenizer, folder: Path) -> Path:
    """Write what an artifact would hold."""
    folder.mkdir()
    for name, item in found.files.items():
        (folder / name).write_bytes(item if isinstance(item, bytes) else item.read_bytes())
    (folder / "config.json").write_text('{"model_type": "llama"}')
    return folder


def _made(found: Tokenizer) -> tokenizers.Tokenizer:
    content = found.files["tokenizer.json"]
    assert isinstance(content, bytes)
    return tokenizers.Tokenizer.from_str(content.decode())


def test_a_tokenizer_model_alone_becomes_a_whole_tokenizer(tmp_path: Path) -> None:
    folder = _write(tmp_path / "in")
    found = read_tokenizer(folder)
    assert found.warnings == ()
    assert found.files["tokenizer.model"] == folder / "tokenizer.model"
    config = found.files["tokenizer_config.json"]
    assert isinstance(config, bytes)
    assert json.loads(config) == {
        "tokenizer_class": "LlamaTokenizer",
        "legacy": True,
        "add_bos_token": True,
        "add_eos_token": False,
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
    }


@pytest.mark.parametrize("text", first([*_LEADING, *_TEXTS], 10))
def test_the_ids_are_sentencepieces(tmp_path: Path, text: str) -> None:
    made = _made(read_tokenizer(_write(tmp_path / "in")))
    assert made.encode(text).ids == expected_ids(train(), text)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tokenizers.Tokenizer:
    return _made(read_tokenizer(_write(tmp_path_factory.mktemp("sp") / "in")))


@pytest.mark.long
@settings(
    max_examples=examples(300),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    st.one_of(
        st.text(max_size=40),
        st.text(alphabet="ab  \n\t.019=-\u4e16\u754c\u2581", max_size=40),
        st.integers(0, 11_000).map(lambda start: corpus()[start : start + 60]),
    ).filter(lambda text: "<s>" not in text and "<unk>" not in text)
)
def test_any_text_has_sentencepieces_ids(made: tokenizers.Tokenizer, text: str) -> None:
    assert made.encode(text).ids == expected_ids(train(), text)


@pytest.mark.transformers
def test_transformers_loads_the_artifacts_tokenizer_with_these_ids(tmp_path: Path) -> None:
    """AutoTokenizer's LLaMA class adds no space before a text that has one; the other class takes the file's word."""
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    folder = _publish(read_tokenizer(_write(tmp_path / "in")), tmp_path / "out")
    loaded = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    exact = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
    assert (loaded.bos_token_id, loaded.eos_token_id, loaded.unk_token_id) == (1, 2, 0)
    for text in _TEXTS:
        starts_with_space = any(part.startswith((" ", "\u2581")) for part in text.split("</s>"))
        if not starts_with_space:
            assert loaded(text)["input_ids"] == expected_ids(train(), text), text
    for text in (*_TEXTS, *_LEADING):
        assert exact(text)["input_ids"] == expected_ids(train(), text), text
        plain = text.partition("</s>")[0].replace("\u2581", " ")
        assert exact.decode(exact(text)["input_ids"][1:]).startswith(plain), text


def test_vicuna_v0s_one_token_for_all_is_not_an_error(tmp_path: Path) -> None:
    special = {"bos_token": "</s>", "eos_token": "</s>", "unk_token": "</s>", "pad_token": "[PAD]"}
    blank = {"tokenizer_class": "LLaMATokenizer", "bos_token": "", "eos_token": "", "unk_token": ""}
    folder = _write(
        tmp_path / "in", tokenizer_config=blank, special_tokens_map=special, added_tokens={"[PAD]": len(_pieces())}
    )
    found = read_tokenizer(folder)
    made = _made(found)
    assert made.encode("a</s>b").ids == expected_ids(train(), "a</s>b", bos=2)
    assert made.encode("x[PAD]").ids[-1] == len(_pieces())
    assert made.get_vocab_size() == len(_pieces()) + 1
    config = found.files["tokenizer_config.json"]
    assert isinstance(config, bytes)
    assert json.loads(config)["bos_token"] == "</s>"
    assert found.files["added_tokens.json"] == folder / "added_tokens.json"


def _pieces() -> tuple[Any, ...]:
    return parse_model(train()).pieces


def test_a_larger_vocabulary_keeps_its_ids(tmp_path: Path) -> None:
    """As of Chinese-LLaMA: pieces put behind those of a trained model, all with the score 0."""
    text = "\u5929\u6c14"
    piece = b"\x0a" + bytes([len(text.encode())]) + text.encode() + b"\x15" + struct.pack("<f", 0.0)
    characters = [b"\x0a\x03" + one.encode() + b"\x15" + struct.pack("<f", -1000.0) for one in text]
    model = train() + b"".join(b"\x0a" + bytes([len(one)]) + one for one in (*characters, piece))
    made = _made(read_tokenizer(_write(tmp_path / "in", model=model)))
    assert made.encode(f"x{text}").ids == expected_ids(model, f"x{text}")
    assert made.encode(f"x{text}").ids[-1] == len(_pieces()) + 2


def test_tokens_of_the_configs_table_are_added(tmp_path: Path) -> None:
    number = len(_pieces())
    decoder = {str(number): {"content": "<|extra|>", "special": False}, "2": {"content": "</s>", "special": True}}
    made = _made(read_tokenizer(_write(tmp_path / "in", tokenizer_config={"added_tokens_decoder": decoder})))
    assert made.encode("a<|extra|>").ids[-1] == number
    assert made.decode([number]) == "<|extra|>"
    assert made.decode([2]) == ""


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"added_tokens": {"[PAD]": 5}}, "has the id of '<0x02>'"),
        ({"added_tokens": {"[PAD]": 5000}}, "have the ids [5000]"),
        ({"added_tokens": {"[PAD]": "x"}}, "added_tokens.json is not a table"),
        ({"added_tokens": {"[PAD]": True}}, "added_tokens.json is not a table"),
        ({"tokenizer_config": {"added_tokens_decoder": {"x": "y"}}}, "added_tokens_decoder is {'x': 'y'}"),
        ({"tokenizer_config": {"added_tokens_decoder": [1]}}, "added_tokens_decoder is [1]"),
        ({"tokenizer_config": {"bos_token": "<nobody>"}}, "bos_token is '<nobody>'"),
    ],
)
def test_tokens_without_a_place_are_refused(tmp_path: Path, files: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError) as caught:
        read_tokenizer(_write(tmp_path / "in", **files))
    assert caught.value.reason == "TokenizerBroken"
    assert words in caught.value.message


def test_a_model_of_another_kind_is_refused_where_nothing_else_is_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="another kind than LLaMA's"):
        read_tokenizer(_write(tmp_path / "in", model=train(kind="unigram", size=600)))


@pytest.mark.parametrize(
    "content", [b"text", b"\n\x05<unk>", b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"\x0a\x03\x18\xff\x01"]
)
def test_a_file_that_is_not_a_model_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(InputError, match=r"cannot become a tokenizer\.json"):
        read_tokenizer(_write(tmp_path / "in", model=content))


def _piece(text: str, score: float) -> bytes:
    content = text.encode()
    head = b"\x0a" + bytes([len(content) & 127 | 128, len(content) >> 7]) + content + b"\x15" + struct.pack("<f", score)
    return b"\x0a" + bytes([len(head) & 127 | 128, len(head) >> 7]) + head


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (lambda: b"\x0a\x00" * 2000, "more than 2000 pieces"),
        (lambda: bytes(8 * 2**20), "bytes, more than 8388608"),
        (lambda: _piece("x" * 1025, 0.0), "a piece of 1025 bytes, more than 1024"),
        # every part of these is a piece as well: a few megabytes become gigabytes of merges
        (lambda: b"".join(_piece("x" * n, -n) for n in range(2, 130)), "in more than 5000 ways"),
    ],
)
def test_a_model_that_takes_more_memory_than_a_merge_may_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: Callable[[], bytes], words: str
) -> None:
    monkeypatch.setattr("vicuna_server.weights.tokenizers.tokenizer_json._MOST_MERGES", 5000)
    monkeypatch.setattr("vicuna_server.weights.tokenizers.sentencepiece_format._MOST_PIECES", 2000)
    with pytest.raises(InputError, match=words) as caught:
        read_tokenizer(_write(tmp_path / "in", model=train() + more()))
    assert caught.value.reason == "TokenizerBroken"


@settings(max_examples=examples(200))
@given(position=st.integers(0, 100_000), removed=st.integers(0, 4), added=st.binary(max_size=4))
def test_a_damaged_model_is_read_or_refused(position: int, removed: int, added: bytes) -> None:
    content = train()
    position %= len(content)
    damaged = content[:position] + added + content[position + removed :]
    try:
        assert parse_model(damaged).pieces
    except ValueError:
        return


def test_every_kind_of_piece_is_read() -> None:
    pieces = _pieces()
    assert [piece.text for piece in pieces[:4]] == ["<unk>", "<s>", "</s>", "<0x00>"]
    assert [piece.type for piece in pieces[:3]] == [PieceType.UNKNOWN, PieceType.CONTROL, PieceType.CONTROL]
    assert {piece.type for piece in pieces[3:259]} == {PieceType.BYTE}
    assert {piece.type for piece in pieces[259:]} == {PieceType.NORMAL}
    scores = [piece.score for piece in pieces[259:]]
    assert scores == sorted(scores, reverse=True)


def test_a_tokenizer_json_that_disagrees_is_kept_with_a_warning(tmp_path: Path) -> None:
    other = read_tokenizer(_write(tmp_path / "other", model=train(size=700))).files["tokenizer.json"]
    assert isinstance(other, bytes)
    folder = _write(tmp_path / "in")
    (folder / "tokenizer.json").write_bytes(other)
    found = read_tokenizer(folder)
    assert [reason for reason, _ in found.warnings] == ["TokenizerDisagrees"]
    assert found.files["tokenizer.json"] == folder / "tokenizer.json"


def test_a_tokenizer_json_that_agrees_is_kept_without_a_word(tmp_path: Path) -> None:
    folder = _write(tmp_path / "in")
    made = read_tokenizer(folder).files["tokenizer.json"]
    assert isinstance(made, bytes)
    (folder / "tokenizer.json").write_bytes(made)
    found = read_tokenizer(folder)
    assert found.warnings == ()
    assert found.files["tokenizer.json"] == folder / "tokenizer.json"
