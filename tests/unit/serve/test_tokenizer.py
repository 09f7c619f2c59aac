"""A folder's tokenizer without transformers: token by token what AutoTokenizer gives."""

import json
import random
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from support.amount import examples
from support.checkpoints import CONFIG
from support.pieces import corpus, train
from vicuna_contract.templates import BUILT_IN_TEMPLATES
from vicuna_server.engine import ChatPrompt
from vicuna_server.engine.detokenizer import Detokenizer
from vicuna_server.engine.encoding import PromptEncoder
from vicuna_server.engine.vocabulary import Vocabulary
from vicuna_server.errors import InputError
from vicuna_server.prompts import Message
from vicuna_server.prompts.tokenizer import JsonTokenizer, open_tokenizer
from vicuna_server.weights.tokenizers.tokenizer import read_tokenizer

SPECIAL = ["<s>", "</s>", "<unk>", "<|im_start|>", "<|im_end|>", "<|begin_of_text|>", "<pad>", "<tool>"]
WORDS = [
    "Hello",
    " world",
    "a",
    "  ",
    "\n",
    "\t",
    "é",
    "e\u0301",
    "😀",
    "中国",
    "▁",
    "<0x41>",
    "Ł",
    "ﬁ",
    "\x00",
    "don't",
]
TEXTS = st.lists(
    st.one_of(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=6), st.sampled_from(SPECIAL + WORDS)),
    max_size=10,
).map("".join)


def write(folder: Path, raw: Tokenizer, config: dict[str, Any], special: dict[str, Any] | None = None) -> None:
    raw.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "config.json").write_text(json.dumps(CONFIG))
    if special is not None:
        (folder / "special_tokens_map.json").write_text(json.dumps(special))


def byte_level(size: int = 700, *, prefix: bool = False) -> Tokenizer:
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    raw.decoder = decoders.ByteLevel()
    raw.train_from_iterator(
        corpus().splitlines(),
        trainers.BpeTrainer(vocab_size=size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False),
    )
    return raw


def gpt2(folder: Path) -> None:
    raw = byte_level()
    raw.add_special_tokens(["<|endoftext|>"])
    end = "<|endoftext|>"
    write(folder, raw, {"tokenizer_class": "GPT2Tokenizer", "bos_token": end, "eos_token": end, "unk_token": end})
    (folder / "config.json").write_text(json.dumps({**CONFIG, "model_type": "gpt2"}))


def llama3(folder: Path) -> None:
    raw = byte_level()
    split = pre_tokenizers.Split(Regex(r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+|\s+|[^\r\n\p{L}\p{N}]?\p{L}+"), "isolated")
    raw.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])
    raw.add_special_tokens(["<|begin_of_text|>", "<|end_of_text|>", "<|im_start|>", "<|im_end|>"])
    bos = ("<|begin_of_text|>", raw.token_to_id("<|begin_of_text|>"))
    raw.post_processor = processors.TemplateProcessing(single="<|begin_of_text|> $A", special_tokens=[bos])
    named = {"bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>"}
    write(folder, raw, {"tokenizer_class": "PreTrainedTokenizerFast", **named, "clean_up_tokenization_spaces": True})


def llama(folder: Path, **config: Any) -> None:
    """As a merge makes it of a tokenizer.model."""
    (folder / "tokenizer.model").write_bytes(train())
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    for name, item in read_tokenizer(folder).files.items():
        (folder / name).write_bytes(item if isinstance(item, bytes) else item.read_bytes())
    (folder / "config.json").write_text(json.dumps(CONFIG))


def llama_with_tokens(folder: Path) -> None:
    """With tokens that the configuration adds, one of them not special, and one in another form than in the file."""
    llama(folder)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    plain = {"lstrip": False, "rstrip": False, "single_word": False, "normalized": False}
    config["added_tokens_decoder"] = {
        **{str(number): {"content": text, **plain, "special": True} for number, text in enumerate(("<unk>", "<s>"))},
        "2": {"content": "</s>", **plain, "rstrip": True, "special": True},
        "900": {"content": "<tool>", **plain, "special": False},
        "901": {"content": "<pad>", **plain, "special": True},
    }
    config |= {"pad_token": "<pad>", "additional_special_tokens": ["<|im_start|>", "<|im_end|>"]}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def mistral(folder: Path) -> None:
    """LLaMA's class over another model: tokenizer.json as it is."""
    llama(folder, legacy=False)
    (folder / "config.json").write_text(json.dumps({**CONFIG, "model_type": "mistral"}))


def unigram(folder: Path) -> None:
    raw = Tokenizer(models.Unigram())
    raw.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    raw.pre_tokenizer = pre_tokenizers.Metaspace()
    raw.decoder = decoders.Metaspace()
    special = ["<unk>", "<s>", "</s>"]
    raw.train_from_iterator(
        corpus().splitlines(),
        trainers.UnigramTrainer(vocab_size=300, special_tokens=special, unk_token="<unk>", show_progress=False),
    )
    marks = [("<s>", raw.token_to_id("<s>")), ("</s>", raw.token_to_id("</s>"))]
    raw.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=marks)
    raw.enable_truncation(4)
    raw.enable_padding(length=8, pad_token="<s>", pad_id=1)
    named = {"bos_token": "<s>", "unk_token": {"__type": "AddedToken", "content": "<unk>"}}
    write(folder, raw, {"tokenizer_class": "PreTrainedTokenizerFast", **named}, {"eos_token": {"content": "</s>"}})


def words(folder: Path) -> None:
    """With special tokens that only the configuration knows, of each form, and one that strips spaces."""
    raw = Tokenizer(models.WordLevel({"<unk>": 0, "Hello": 1, "world": 2, "a": 3, "</s>": 4}, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    raw.add_tokens([AddedToken("<tool>", lstrip=True, rstrip=True)])
    named = {"bos_token": "<s>", "eos_token": "</s>", "image_token": "<|im_start|>", "add_bos_token": True}
    config = {"tokenizer_class": "PreTrainedTokenizerFast", **named, "extra_special_tokens": {"x_token": "<|im_end|>"}}
    write(folder, raw, config, {"pad_token": {"content": "<pad>", "lstrip": True, "special": True}})
    (folder / "added_tokens.json").write_text(json.dumps({"<tool>": 5, "<more>": 6}))


def split(folder: Path) -> None:
    llama3(folder)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "split_special_tokens": True}))


def of_transformers(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def by_its_class(folder: Path, make: Callable[[Path], None], named: str, model_type: str) -> None:
    """Rewritten by a class of transformers that puts a form of its own over tokenizer.json: here its own file."""
    make(folder)
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "tokenizer_class": named}))
    (folder / "config.json").write_text(json.dumps({**CONFIG, "model_type": model_type}))
    of_transformers(folder).save_pretrained(folder)


FOLDERS: dict[str, Callable[[Path], None]] = {
    "gpt2": gpt2,
    "llama3": llama3,
    "llama3, special tokens split": split,
    "llama": llama,
    "llama, not legacy": lambda folder: llama(folder, legacy=False),
    "llama, no space in front": lambda folder: llama(folder, legacy=False, add_prefix_space=False),
    "llama, with tokens": llama_with_tokens,
    "llama's class, mistral": mistral,
    "unigram": unigram,
    "words": words,
    "qwen's class": lambda folder: by_its_class(folder, gpt2, "Qwen2Tokenizer", "qwen3"),
    "gemma's class": lambda folder: by_its_class(folder, llama, "GemmaTokenizer", "gemma"),
    "codellama's class": lambda folder: by_its_class(folder, llama, "CodeLlamaTokenizer", "llama"),
}


@cache
def folder_of(kind: str) -> Path:
    folder = Path(mkdtemp(prefix="tokenizer-"))
    FOLDERS[kind](folder)
    return folder


@cache
def ours_of(kind: str) -> JsonTokenizer:
    return open_tokenizer(folder_of(kind))


@cache
def both(kind: str) -> tuple[JsonTokenizer, Any]:
    return ours_of(kind), of_transformers(folder_of(kind))


@pytest.mark.transformers
@pytest.mark.parametrize("kind", FOLDERS)
def test_what_is_known_of_tokens_is_what_transformers_knows(kind: str) -> None:
    ours, theirs = both(kind)
    assert len(ours) == len(theirs)
    assert [ours.token(token) for token in range(len(ours) + 2)] == theirs.convert_ids_to_tokens(range(len(ours) + 2))
    assert (ours.bos_id, ours.eos_id) == (theirs.bos_token_id, theirs.eos_token_id)
    assert dict(ours.special_tokens) == theirs.special_tokens_map
    assert ours.special_ids == set(theirs.all_special_ids)
    assert {number: repr(token) for number, token in ours.added_tokens.items()} == {
        number: repr(token) for number, token in theirs.added_tokens_decoder.items()
    }


@pytest.mark.transformers
@pytest.mark.parametrize("kind", FOLDERS)
@settings(max_examples=examples(80))
@given(text=TEXTS)
def test_ids_are_those_of_transformers(kind: str, text: str) -> None:
    ours, theirs = both(kind)
    for around in (False, True):
        assert ours.encode(text, add_special_tokens=around) == theirs(text, add_special_tokens=around)["input_ids"]
    apart = theirs(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    assert ours.encode(text, special_as_text=True) == apart
    assert ours.encode(text) == theirs(text, add_special_tokens=False)["input_ids"], "a call keeps nothing for the next"


@pytest.mark.transformers
@pytest.mark.parametrize("kind", FOLDERS)
@settings(max_examples=examples(40))
@given(text=TEXTS, seed=st.integers(0, 1000))
def test_text_is_that_of_transformers(kind: str, text: str, seed: int) -> None:
    ours, theirs = both(kind)
    dice = random.Random(seed)
    for ids in (ours.encode(text), [dice.randrange(len(ours)) for _ in range(12)]):
        for skip in (False, True):
            plain = theirs.decode(ids, skip_special_tokens=skip, clean_up_tokenization_spaces=False)
            assert ours.decode(ids, skip_special_tokens=skip) == plain


@pytest.mark.parametrize("kind", ["gpt2", "llama3", "llama", "llama, not legacy"])
@settings(max_examples=examples(40))
@given(text=TEXTS)
def test_special_letters_stay_text_and_text_comes_back_token_by_token(kind: str, text: str) -> None:
    ours = ours_of(kind)
    ids = ours.encode(text, special_as_text=True)
    assert not {token for token in ids if ours.added_tokens.get(token) and ours.added_tokens[token].special}
    stream = Detokenizer(lambda some: ours.decode(some, skip_special_tokens=True))
    shown = "".join([*map(stream.push, ids), stream.flush()])
    assert shown == ours.decode(ids, skip_special_tokens=True)


@pytest.mark.transformers
@pytest.mark.parametrize("name", BUILT_IN_TEMPLATES)
@pytest.mark.parametrize("kind", ["llama3", "llama", "llama, not legacy", "unigram"])
def test_built_in_formats_give_the_ids_of_the_fallback(kind: str, name: str) -> None:
    from vicuna_server.engine.builtin.hub_tokenizer import HubTokenizer

    ours, theirs = both(kind)
    said = [("system", "Be </s> brief."), ("user", "Hi  😀 <s>"), ("assistant", "yes"), ("user", "and\nnow?")]
    prompt = ChatPrompt(tuple(Message(role, text) for role, text in said))  # type: ignore[arg-type]
    one, other = PromptEncoder(ours, name), PromptEncoder(HubTokenizer(theirs), name)
    assert one.encode(prompt).ids == other.encode(prompt).ids
    assert one.encode("a </s> b").ids == other.encode("a </s> b").ids
    assert one.spellings(["x", " y"]) == other.spellings(["x", " y"])
    ids = one.encode(prompt).ids
    assert one.decode(ids) == other.decode(ids)
    assert one.detokenize(ids) == other.detokenize(ids)
    pieces = [Vocabulary(tokenizer, len(ours)) for tokenizer in (ours, HubTokenizer(theirs))]
    assert [pieces[0].token_bytes(token) for token in ids] == [pieces[1].token_bytes(token) for token in ids]
    assert one.least_tokens("x" * 1000) == other.least_tokens("x" * 1000)


@pytest.mark.transformers
def test_transformers_opens_a_folder_without_tokenizer_json(tmp_path: Path) -> None:
    from vicuna_server.engine.builtin.hub_tokenizer import HubTokenizer
    from vicuna_server.engine.builtin.loading import _load_tokenizer

    gpt2(tmp_path)
    ours = _load_tokenizer(tmp_path)
    assert isinstance(ours, JsonTokenizer)
    Tokenizer.from_file(str(tmp_path / "tokenizer.json")).model.save(str(tmp_path))
    (tmp_path / "tokenizer.json").unlink()
    theirs = _load_tokenizer(tmp_path)
    assert isinstance(theirs, HubTokenizer)
    text, end = "Hello <|endoftext|> 😀", "<|endoftext|>"
    assert theirs.encode(text, special_as_text=True) == ours.encode(text, special_as_text=True)
    assert (theirs.token_id(end), theirs.token_id("nothing")) == (ours.token_id(end), None)
    assert ours.token_id("nothing") is None
    (tmp_path / "vocab.json").write_text("{")
    with pytest.raises(InputError, match="cannot be loaded"):
        _load_tokenizer(tmp_path)


@pytest.mark.transformers
@pytest.mark.parametrize(
    ("stated", "file", "further", "want"),
    [
        (None, None, None, None),
        ("A", None, None, "A"),
        ("A", "F", None, "F"),
        (
            [{"name": "default", "template": "A"}, {"name": "tool_use", "template": "T"}],
            None,
            None,
            {"default", "tool_use"},
        ),
        ([{"name": "default", "template": "A"}], "F", None, "F"),
        ("A", "F", "T", {"default", "tool_use"}),
        ("A", None, "T", {"tool_use"}),
    ],
)
def test_templates_are_found_where_transformers_finds_them(
    tmp_path: Path, stated: Any, file: str | None, further: str | None, want: Any
) -> None:
    words(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({**config, "chat_template": stated}))
    if file is not None:
        (tmp_path / "chat_template.jinja").write_text(file)
    if further is not None:
        (tmp_path / "additional_chat_templates").mkdir()
        (tmp_path / "additional_chat_templates/tool_use.jinja").write_text(further)
    found = open_tokenizer(tmp_path).chat_template
    assert found == of_transformers(tmp_path).chat_template
    assert found == want or set(found or ()) == want


@pytest.mark.parametrize(
    ("file", "content", "what"),
    [
        ("tokenizer.json", "{", "tokenizer.json"),
        ("tokenizer.json", '{"model": {}}', "tokenizer.json"),
        ("tokenizer_config.json", "[1]", "tokenizer_config.json is not a JSON object"),
        ("tokenizer_config.json", '{"added_tokens_decoder": {"x": 1}}', "cannot be loaded"),
        ("special_tokens_map.json", "{", "special_tokens_map.json is not JSON"),
        ("added_tokens.json", '{"a": "b"}', "cannot be loaded"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, file: str, content: str, what: str) -> None:
    words(tmp_path)
    (tmp_path / file).write_text(content)
    with pytest.raises(InputError, match=what) as caught:
        open_tokenizer(tmp_path)
    assert caught.value.reason == "TokenizerBroken"


@pytest.mark.long
def test_prompts_are_encoded_without_torch_and_transformers(tmp_path: Path) -> None:
    """In a process of its own, since this one has imported them."""
    llama3(tmp_path)
    program = (
        "import pkgutil, sys, vicuna_server.prompts as prompts\n"
        "[__import__(f'{prompts.__name__}.{found.name}') for found in pkgutil.iter_modules(prompts.__path__)]\n"
        "from pathlib import Path\n"
        "from vicuna_server.engine import ChatPrompt\n"
        "from vicuna_server.engine.choosing import choose_template\n"
        "from vicuna_server.engine.encoding import make_encoder\n"
        "from vicuna_server.engine.ends import end_ids_of_folder\n"
        "from vicuna_server.engine.settings import LoadSettings\n"
        "from vicuna_server.prompts import Message\n"
        "from vicuna_server.prompts.tokenizer import open_tokenizer\n"
        "folder = Path(sys.argv[1])\n"
        "tokenizer = open_tokenizer(folder)\n"
        "tokenizer.chat_template = '{{ bos_token }}{{ messages[0].content }}'\n"
        "template = choose_template(tokenizer, LoadSettings(folder))\n"
        "encoder = make_encoder(tokenizer, template, len(tokenizer))\n"
        "ids = encoder.encode(ChatPrompt((Message('user', 'Hi <|im_end|>'),))).ids\n"
        "print(encoder.decode(ids), len(end_ids_of_folder(tokenizer, folder)))\n"
        "print(sorted({'torch', 'transformers', 'safetensors', 'numpy'} & sys.modules.keys()))\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout == "Hi <|im_end|> 1\n[]\n"
