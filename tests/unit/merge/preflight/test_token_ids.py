"""Which ids a tokenizer has, as transformers sees it, and configurations made to agree with them."""

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from support.checkpoints import write_tokenizer
from support.pieces import train
from vicuna_server.merge.preflight.token_ids import check_rows, true_ids
from vicuna_server.problems import Problems
from vicuna_server.weights.tokenizers.token_table import TokenTable, read_token_table
from vicuna_server.weights.tokenizers.tokenizer import read_tokenizer

PLAIN = "PreTrainedTokenizerFast"
BEGIN, END, TURN = "<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"


def _byte_level(folder: Path, *special: str, first: tuple[str, ...] = (), **config: Any) -> Path:
    """A byte-level tokenizer.json; without `config` nothing else."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({text: token for token, text in enumerate([*first, *letters])}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens([*first, *special])
    tokenizer.save(str(folder / "tokenizer.json"))
    if config:
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def _table(folder: Path) -> TokenTable:
    table = read_token_table(read_tokenizer(folder).files)
    assert table is not None
    return table


@pytest.mark.transformers
@pytest.mark.parametrize(
    ("special", "config"),
    [
        ({}, {"tokenizer_class": PLAIN, "bos_token": BEGIN, "eos_token": {"content": END, "__type": "AddedToken"}}),
        ({"pad_token": "[PAD]", "bos_token": END}, {"tokenizer_class": PLAIN, "bos_token": BEGIN, "eos_token": END}),
        ({"bos_token": END}, {"tokenizer_class": PLAIN, "bos_token": BEGIN, "added_tokens_decoder": {}}),
        ({}, {"tokenizer_class": PLAIN, "eos_token": END, "extra_special_tokens": ["<|new|>", TURN]}),
        ({}, {"tokenizer_class": "LlamaTokenizerFast", "bos_token": BEGIN, "eos_token": END}),
        ({}, {"tokenizer_class": PLAIN, "pad_token": "<pad>", "added_tokens_decoder": {"300": {"content": "<pad>"}}}),
    ],
)
def test_the_table_is_what_transformers_sees(tmp_path: Path, special: dict[str, str], config: dict[str, Any]) -> None:
    from transformers import AutoTokenizer

    folder = _byte_level(tmp_path, BEGIN, END, TURN, **config)
    if special:
        (folder / "special_tokens_map.json").write_text(json.dumps(special))
    found = read_tokenizer(folder)
    table = read_token_table(found.files)
    assert table is not None
    for name, item in found.files.items():
        (tmp_path / name).write_bytes(item if isinstance(item, bytes) else item.read_bytes())
    loaded: Any = AutoTokenizer.from_pretrained(folder)
    assert {text: token for token, text in table.texts.items()} == loaded.get_vocab()
    roles = {role: getattr(loaded, f"{role}_token_id") for role in ("bos", "eos", "pad")}
    assert {role: table.roles.get(role) for role in roles} == roles


def test_other_layouts_have_tables_too(tmp_path: Path) -> None:
    for name in ("model", "gpt2", "words"):
        (tmp_path / name).mkdir()
    (tmp_path / "model" / "tokenizer.model").write_bytes(train())
    assert _table(tmp_path / "model").roles == {"bos": 1, "eos": 2, "unk": 0}
    (tmp_path / "gpt2" / "vocab.json").write_text(json.dumps({"a": 0, "<|endoftext|>": 1}))
    (tmp_path / "gpt2" / "merges.txt").write_text("#version: 0.2\n")
    (tmp_path / "gpt2" / "tokenizer_config.json").write_text('{"tokenizer_class": "GPT2Tokenizer"}')
    assert _table(tmp_path / "gpt2").roles == {"bos": 1, "eos": 1, "unk": 1}
    write_tokenizer(tmp_path / "words")
    assert _table(tmp_path / "words").roles == {"bos": 1, "eos": 2, "unk": 0}


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{}", b'{"model": {"vocab": 3}}', b'{"model": {"vocab": {"a": "b"}}}', b'{"model": {"vocab": [1]}}'],
)
def test_what_is_not_a_vocabulary_has_no_table(content: bytes) -> None:
    assert read_token_table({"tokenizer.json": content}) is None


def test_llama_3s_tokens_are_stated_where_nothing_states_them(tmp_path: Path) -> None:
    folder = _byte_level(tmp_path, BEGIN, END, TURN)
    (folder / "tokenizer.model").write_text("IQ== 0\n")  # tiktoken's form
    config = read_tokenizer(folder).files["tokenizer_config.json"]
    assert isinstance(config, bytes)
    assert json.loads(config) == {"tokenizer_class": PLAIN, "bos_token": BEGIN, "eos_token": END}
    assert _table(folder).roles == {"bos": 256, "eos": 257}


TEXTS = {0: "<unk>", 1: "<s>", 2: "#", 3: "word", 4: END, 5: TURN, 6: "<s2>", 7: "<pad>"}


def _with(**roles: int) -> TokenTable:
    return TokenTable(TEXTS, roles, frozenset({0, 4, 5, *roles.values()}))


OWN = _with(bos=1, eos=4, unk=0)


@pytest.mark.parametrize(
    ("stated", "table", "right", "warned"),
    [
        ({"bos_token_id": 1, "eos_token_id": 4}, OWN, {}, False),
        ({"eos_token_id": [5, 4]}, OWN, {}, False),
        ({"eos_token_id": 2}, OWN, {"eos_token_id": 4}, True),  # plain text
        ({"eos_token_id": 1}, OWN, {"eos_token_id": 4}, True),  # the beginning, as in LLaMA's first conversions
        ({"bos_token_id": 0}, OWN, {"bos_token_id": 1}, True),
        ({"eos_token_id": 5}, OWN, {"eos_token_id": [5, 4]}, True),
        ({"eos_token_id": [2, 5]}, OWN, {"eos_token_id": [5, 4]}, True),
        ({"eos_token_id": [2]}, OWN, {"eos_token_id": [4]}, True),
        ({"eos_token_id": "</s>"}, OWN, {"eos_token_id": 4}, True),
        ({"eos_token_id": {"a": 1}, "bos_token_id": [1]}, OWN, {"eos_token_id": 4, "bos_token_id": 1}, True),
        ({"pad_token_id": -1}, OWN, {"pad_token_id": None}, True),
        ({"pad_token_id": 8}, OWN, {"pad_token_id": None}, True),
        ({"pad_token_id": 0}, OWN, {}, False),
        ({"pad_token_id": 0}, _with(pad=7), {"pad_token_id": 7}, True),
        ({"eos_token_id": None}, OWN, {"eos_token_id": 4}, False),
        ({"pad_token_id": None}, _with(pad=7), {}, False),
        ({"eos_token_id": 4, "bos_token_id": 9}, _with(), {"bos_token_id": None}, True),
        ({"eos_token_id": 2}, _with(), {}, True),  # nothing better is known
        ({"eos_token_id": 3}, _with(bos=3, eos=3), {}, False),
    ],
)
def test_ids_are_made_the_tokenizers(
    stated: dict[str, Any], table: TokenTable, right: dict[str, Any], *, warned: bool
) -> None:
    problems = Problems()
    assert true_ids(stated, table, 8, "config.json", problems, fill=False) == {**stated, **right}
    assert (not problems, bool(problems.warnings)) == (True, warned)
    assert all(message.startswith("config.json says ") for _, message in problems.warnings)


def test_what_is_left_out_is_filled_in_where_asked() -> None:
    problems = Problems()
    assert true_ids({}, OWN, 8, "config.json", problems, fill=True) == {"bos_token_id": 1, "eos_token_id": 4}
    assert true_ids({}, OWN, 8, "generation_config.json", problems, fill=False) == {}
    assert problems.warnings == []


@pytest.mark.parametrize(
    ("rows", "roles", "reason"),
    [
        (8, {"bos": 1, "eos": 4}, None),
        (6, {"bos": 1, "eos": 4}, "TokensWithoutRow"),
        (6, {"bos": 1, "eos": 4, "pad": 7}, "TokensWithoutRow"),
        (4, {"bos": 1, "eos": 4}, "VocabularyMismatch"),
        (1, {"bos": 1}, "VocabularyMismatch"),
    ],
)
def test_ids_without_a_row_are_told(rows: int, roles: dict[str, int], reason: str | None) -> None:
    problems = Problems()
    check_rows(_with(**roles), rows, "folder", problems)
    told = [*problems.found, *problems.warnings]
    assert [one[0] for one in told] == ([reason] if reason else [])
    assert bool(problems) is (reason == "VocabularyMismatch")
    assert all(f"'{TEXTS[rows]}' ({rows})" in message and f"{rows} rows" in message for _, message in told)


@pytest.mark.parametrize("decoder", [[1], ["a"], [[]], 5, "text", {"a": 1}, {"1": None}, {"1": {"content": 5}}])
def test_added_tokens_of_any_kind_break_nothing(tmp_path: Path, decoder: object) -> None:
    write_tokenizer(tmp_path, added_tokens_decoder=decoder)
    files: dict[str, Path | bytes] = {path.name: path for path in tmp_path.iterdir()}
    table = read_token_table(files)
    assert table is None or table.texts
