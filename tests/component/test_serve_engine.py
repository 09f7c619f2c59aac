"""The real engine on a tiny random model: equal to transformers' own generation, alone and in company."""

import asyncio
import functools
import json
import shutil
import string
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import openai
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from support.serving import MODEL, Running, eventually, running, tiny_engine, write_tiny_model
from vicuna_server.engine import ChatPrompt, GenerationRequest, OutputChunk
from vicuna_server.engine.builtin.engine import BuiltinEngine
from vicuna_server.engine.builtin.kv import KeyValueStore
from vicuna_server.engine.builtin.loading import LoadSettings, load_model
from vicuna_server.engine.builtin.ragged import Chunk, Pass
from vicuna_server.engine.builtin.step_division import CHUNK_IN_COMPANY
from vicuna_server.errors import EngineError, InputError, RequestError, VicunaError
from vicuna_server.prompts import Message

PROMPTS = ["a", "Hello there, how are you?", "x" * 300, "Grüße 😀", "1 2 3", "y" * 40, "zz", "What?"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture
async def engine(folder: Path) -> AsyncIterator[BuiltinEngine]:
    async with tiny_engine(folder) as subject:
        yield subject


def request(text: str, max_tokens: int = 24, **options: Any) -> GenerationRequest:
    return GenerationRequest(text, **{"max_tokens": max_tokens, "temperature": 0.0, **options})


async def test_no_answer_grows_beyond_its_ceiling(engine: BuiltinEngine) -> None:
    for max_tokens, ceiling, tokens in ((None, 3, 3), (2, 3, 2)):
        asked = GenerationRequest("Hello", max_tokens, temperature=0.0, ceiling=ceiling, logit_bias=((65, 100.0),))
        _, last = await answer(engine, asked)
        assert (last.tokens, last.finish_reason) == (tokens, "length")


async def answer(engine: BuiltinEngine, asked: GenerationRequest) -> tuple[str, OutputChunk]:
    text, last = "", OutputChunk("", 0)
    async for last in await engine.submit(asked):
        text += last.text
    return whole(text), last


def whole(text: str) -> str:
    """Return a text without what may be half a character at its end: ours leaves it out, transformers does not."""
    return text.rstrip("\ufffd")


def expected(engine: BuiltinEngine, prompt: str, max_tokens: int = 24) -> str:
    """What `generate` of transformers answers."""
    encoder = engine.loaded.encoder
    ids = encoder.encode(prompt).ids
    reference = reference_model(engine._settings.folder)
    with torch.inference_mode():
        out = reference.generate(torch.tensor([ids]), max_new_tokens=max_tokens, do_sample=False, pad_token_id=0)
    return whole(encoder.decode(out[0, len(ids) :].tolist()))


@functools.cache
def reference_model(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype="float32").eval()


async def test_equals_generate_alone_and_in_company(engine: BuiltinEngine) -> None:
    wanted = [expected(engine, prompt) for prompt in PROMPTS]
    assert len(set(wanted)) > 4  # a model that says the same to everyone would prove nothing
    alone = [(await answer(engine, request(prompt)))[0] for prompt in PROMPTS]
    assert alone == wanted
    together = await asyncio.gather(*(answer(engine, request(prompt)) for prompt in PROMPTS))
    assert [text for text, _ in together] == wanted
    assert engine.stats.finished == 2 * len(PROMPTS)


async def test_ends_are_as_the_request_has_them(engine: BuiltinEngine) -> None:
    tokens: list[int] = []
    async for piece in await engine.submit(request("a", 12, logprobs=0)):
        tokens += [one.token_id for one in piece.token_logprobs]
    assert len(tokens) == 12
    # a letter of its own: half a character would not be shown
    first = next(place for place in range(1, 12) if tokens[place] < 128 and tokens[place] not in tokens[:place])
    third = tokens[first]
    before = engine.loaded.encoder.decode(tokens[:first])
    stopped, last = await answer(engine, request("a", 12, stop_token_ids=(third,)))
    assert (stopped, last.finish_reason, last.tokens) == (before, "stop", first + 1)
    shown, _ = await answer(engine, request("a", 12, stop_token_ids=(third,), include_stop=True))
    assert shown == engine.loaded.encoder.decode(tokens[: first + 1])
    _, last = await answer(engine, request("a", 12, stop_token_ids=(third,), min_tokens=12))
    assert last.tokens == 12


async def test_a_model_that_says_its_end_goes_on_where_it_is_told_to(engine: BuiltinEngine) -> None:
    (eos,) = engine.loaded.eos
    only = {"logit_bias": ((eos, 100.0),)}
    _, last = await answer(engine, request("a", 5, **only))
    assert (last.tokens, last.finish_reason) == (1, "stop")
    hidden, last = await answer(engine, request("a", 5, ignore_eos=True, **only))
    assert (hidden, last.tokens, last.finish_reason) == ("", 5, "length")
    told, _ = await answer(engine, request("a", 5, ignore_eos=True, skip_special_tokens=False, **only))
    assert told == engine.loaded.encoder.detokenize([eos] * 5)
    _, last = await answer(engine, request("a", 5, min_tokens=4, **only))
    assert (last.tokens, last.finish_reason) == (5, "stop")


async def test_only_what_is_allowed_comes_and_unwanted_words_do_not(engine: BuiltinEngine) -> None:
    encoder = engine.loaded.encoder
    allowed = encoder.encode("xyz", add_special_tokens=False).ids
    text, _ = await answer(engine, request("a", 20, allowed_token_ids=tuple(allowed)))
    assert text
    assert set(text) <= set(encoder.decode(allowed))
    word = text[2:5]
    without, _ = await answer(engine, request("a", 20, allowed_token_ids=tuple(allowed), bad_words=(word,)))
    assert word in text
    assert word not in without
    with pytest.raises(RequestError, match="allowed_token_ids"):
        await engine.submit(request("a", 5, allowed_token_ids=(10**6,)))


@pytest.mark.parametrize(
    "options", [{}, {"temperature": 0.9, "seed": 11}, {"temperature": 1.2, "seed": -3, "top_p": 0.8, "typical_p": 0.9}]
)
async def test_in_float32_the_same_request_says_the_same_alone_and_among_fifteen_others(
    folder: Path, options: dict[str, Any]
) -> None:
    async with tiny_engine(folder, max_concurrency=16) as subject:
        asked = request("Hello there, how are you?", 40, **options)
        alone, _ = await answer(subject, asked)
        others = [answer(subject, request(f"{n} {PROMPTS[n % 8]}", 8 + 3 * n)) for n in range(15)]
        (among, _), *_ = await asyncio.gather(answer(subject, asked), *others)
        assert among == alone
        assert len(alone) > 10


async def test_sequences_that_leave_early_do_not_disturb_the_others(engine: BuiltinEngine) -> None:
    lengths = [3, 60, 9, 40, 1, 25, 17, 50]
    wanted = [expected(engine, prompt, length) for prompt, length in zip(PROMPTS, lengths, strict=True)]
    asked = [request(prompt, length) for prompt, length in zip(PROMPTS, lengths, strict=True)]
    together = await asyncio.gather(*(answer(engine, one) for one in asked))
    assert [text for text, _ in together] == wanted


async def test_a_prompt_taken_in_by_chunks_while_others_generate(engine: BuiltinEngine) -> None:
    long = "abcdefghij" * (CHUNK_IN_COMPANY // 4)
    wanted = expected(engine, long)
    async with await engine.submit(request("a", 3000)) as company:
        await anext(aiter(company))
        text, _ = await answer(engine, request(long))
        assert engine.stats.running == 1  # the company was there all the time
    assert text == wanted


async def test_a_short_request_overtakes_a_long_one(engine: BuiltinEngine) -> None:
    async with await engine.submit(request("a", 4000)) as long:
        await anext(aiter(long))
        _, last = await answer(engine, request("b", 5))
        assert last.tokens == 5
        assert engine.stats.running == 1


async def test_cancelling_frees_the_row_within_two_tokens(engine: BuiltinEngine) -> None:
    long = await engine.submit(request("a", 4000))
    await anext(aiter(long))
    long.cancel()
    before = engine.stats.generated_tokens
    await eventually(lambda: engine.stats.cancelled == 1 and engine.stats.running == 0)
    assert engine.stats.generated_tokens <= before + 2


async def test_seeds_repeat_alone_and_in_company(engine: BuiltinEngine) -> None:
    asked = request("Hello", temperature=1.0, seed=5)
    first, _ = await answer(engine, asked)
    others = [request(prompt, temperature=1.0) for prompt in PROMPTS[:3]]
    again, *_ = await asyncio.gather(*(answer(engine, one) for one in [asked, *others]))
    assert again[0] == first
    assert (await answer(engine, request("Hello", temperature=1.0, seed=6)))[0] != first


async def test_stop_strings_and_counts(engine: BuiltinEngine) -> None:
    whole = expected(engine, "Hello there, how are you?")
    stop = whole[4:7]
    text, last = await answer(engine, request("Hello there, how are you?", stop=(stop,)))
    assert text == whole[: whole.index(stop)]
    assert last.finish_reason == "stop"
    assert last.tokens < 24


async def test_what_does_not_fit_is_refused_and_the_rest_may_be_filled(engine: BuiltinEngine) -> None:
    with pytest.raises(RequestError, match="context length is 4096 tokens"):
        await engine.submit(request("a" * 4090, 10))
    _, last = await answer(engine, GenerationRequest("a" * 4060, temperature=0.0))
    assert last.finish_reason == "length"
    assert last.tokens == 36


Breakage = Callable[[Pass, Callable[[Pass], torch.Tensor]], torch.Tensor]


@pytest.fixture
def poison(engine: BuiltinEngine, monkeypatch: pytest.MonkeyPatch) -> Callable[[Breakage], str]:
    """Wraps the model: passes with a certain letter in a prompt go another way; returns the letter."""

    def install(breakage: Breakage) -> str:
        logits = engine.loaded.decoder.logits
        said = expected(engine, "a", 40)
        letter = next(one for one in string.ascii_letters if one not in f"a{said}")
        token = engine.loaded.encoder.encode(letter).ids[0]

        def poisoned(batch: Pass) -> torch.Tensor:
            return breakage(batch, logits) if token in batch.ids.tolist() else logits(batch)

        monkeypatch.setattr(engine.loaded.decoder, "logits", poisoned)
        return letter

    return install


def breaks(error: Exception) -> Breakage:
    def breakage(batch: Pass, logits: Callable[[Pass], torch.Tensor]) -> torch.Tensor:
        raise error

    return breakage


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError("out of something"), "GenerationFailed"),
        (torch.OutOfMemoryError("CUDA out of memory"), "OutOfMemory"),
        (MemoryError(), "OutOfMemory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"), "OutOfMemory"),
    ],
)
async def test_a_pass_that_fails_fails_only_the_request_to_blame(
    engine: BuiltinEngine, poison: Callable[[Breakage], str], error: Exception, reason: str
) -> None:
    wanted = expected(engine, "a", 40)
    letter = poison(breaks(error))
    healthy, broken, other = await asyncio.gather(
        answer(engine, request("a", 40)),
        answer(engine, request(f"x{letter}")),
        answer(engine, request("a", 40)),
        return_exceptions=True,
    )
    assert isinstance(broken, EngineError)
    assert broken.reason == reason
    assert not isinstance(healthy, BaseException)
    assert not isinstance(other, BaseException)
    assert (healthy[0], other[0]) == (wanted, wanted)
    assert engine.stats.failed == 1
    assert (await answer(engine, request("a", 40)))[0] == wanted


async def test_logits_that_are_not_finite_fail_only_their_request(
    engine: BuiltinEngine, poison: Callable[[Breakage], str]
) -> None:
    wanted = expected(engine, "a", 40)

    def breakage(batch: Pass, logits: Callable[[Pass], torch.Tensor]) -> torch.Tensor:
        out = logits(batch)
        row = next(row for row, end in enumerate(batch.last.tolist()) if end >= batch.ids.tolist().index(token))
        out[row] = float("nan")
        return out

    letter = poison(breakage)
    token = engine.loaded.encoder.encode(letter).ids[0]
    healthy, broken = await asyncio.gather(
        answer(engine, request("a", 40)), answer(engine, request(f"x{letter}")), return_exceptions=True
    )
    assert isinstance(broken, EngineError)
    assert broken.reason == "NonFiniteLogits"
    assert not isinstance(healthy, BaseException)
    assert healthy[0] == wanted


async def test_a_tokenizer_that_breaks_on_one_answer_breaks_only_that(
    engine: BuiltinEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = await answer(engine, request("Hello"))
    monkeypatch.setattr(engine.loaded.encoder, "decoder", lambda **_: lambda ids: str(len(ids) // 0))
    with pytest.raises(EngineError, match="failed while generating"):
        await answer(engine, request("poison"))
    monkeypatch.undo()
    assert await answer(engine, request("Hello")) == wanted
    assert (engine.stats.failed, engine.stats.running) == (1, 0)


async def test_closing_ends_what_runs(folder: Path) -> None:
    engine = BuiltinEngine(LoadSettings(folder, dtype="float32"))
    await engine.load()
    generation = await engine.submit(request("a", 4000))
    await anext(aiter(generation))
    await engine.close()
    with pytest.raises(VicunaError) as caught:
        async for _ in generation:
            pass
    assert caught.value.reason == "EngineStopped"


@pytest.fixture
async def server(folder: Path) -> AsyncIterator[Running]:
    async with running(BuiltinEngine(LoadSettings(folder, dtype="float32"))) as live:
        yield live


async def test_over_http_streamed_and_whole_are_equal(server: Running) -> None:
    ask = server.client.chat.completions.create
    messages: list[Any] = [{"role": "user", "content": "Hello"}]
    whole = await ask(model=MODEL, messages=messages, temperature=0, max_tokens=30)
    stream = await ask(model=MODEL, messages=messages, temperature=0, max_tokens=30, stream=True)
    pieces = [chunk.choices[0].delta.content or "" async for chunk in stream]
    assert "".join(pieces) == whole.choices[0].message.content
    assert len(pieces) > 5
    assert whole.usage is not None
    assert whole.usage.prompt_tokens == len("<user>Hello\n<assistant>")
    assert whole.usage.completion_tokens == 30


async def test_choices_are_drawn_as_single_requests_with_the_next_seeds_are(server: Running) -> None:
    ask = server.client.completions.create
    together = await ask(model=MODEL, prompt=["Hello", "Hi"], n=2, seed=5, max_tokens=12)
    for index, prompt in enumerate(["Hello", "Hi"]):
        for choice in range(2):
            alone = await ask(model=MODEL, prompt=prompt, seed=5 + choice, max_tokens=12)
            assert alone.choices[0].text == together.choices[2 * index + choice].text
    assert together.choices[0].text != together.choices[1].text


async def test_usage_tells_what_was_not_computed_again(server: Running) -> None:
    messages: list[Any] = [{"role": "user", "content": "Tell me of the sea. " * 20}]
    cached, size = [], 0
    for _ in range(2):
        whole = await server.client.chat.completions.create(model=MODEL, messages=messages, max_tokens=2)
        assert whole.usage is not None
        assert whole.usage.prompt_tokens_details is not None
        cached.append(whole.usage.prompt_tokens_details.cached_tokens)
        size = whole.usage.prompt_tokens
    assert cached[0] == 0
    assert 0 < (cached[1] or 0) < size


async def test_a_conversation_the_template_refuses_is_a_400(server: Running) -> None:
    messages: list[Any] = [{"role": "user", "content": "refuse me"}]
    with pytest.raises(openai.BadRequestError, match="I refuse") as caught:
        await server.client.chat.completions.create(model=MODEL, messages=messages)
    assert caught.value.param == "messages"


@pytest.fixture
def broken(folder: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "broken"
    copy.mkdir()
    for path in folder.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    return copy


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("config.json", b"{", "ModelBroken"),
        ("tokenizer.json", b"{", "TokenizerBroken"),
        ("model.safetensors", b"\x00" * 64, "ModelBroken"),
        ("model.safetensors", None, "ModelBroken"),
    ],
)
def test_broken_files_are_one_sentence(name: str, content: bytes | None, reason: str, broken: Path) -> None:
    (broken / name).unlink()
    if content is not None:
        (broken / name).write_bytes(content)
    with pytest.raises(InputError) as caught:
        load_model(LoadSettings(broken))
    assert caught.value.reason == reason
    assert "\n" not in caught.value.message


def test_a_missing_tensor_is_not_made_up(broken: Path) -> None:
    weights = load_file(broken / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"layers\.1\.mlp\.up_proj") as caught:
        load_model(LoadSettings(broken))
    assert caught.value.reason == "TensorMissing"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("shard", ["5GB", "20KB"])
def test_a_llama_is_loaded_layer_by_layer_with_the_same_result(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, tied: bool, shard: str
) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / "model.safetensors").unlink()
    torch.manual_seed(3)
    config = AutoConfig.from_pretrained(folder, tie_word_embeddings=tied, rms_norm_eps=1e-5)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).to(dtype)
    model.save_pretrained(tmp_path, max_shard_size=shard)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    ids = [65, 66, 67, 68]
    with torch.inference_mode():
        wanted = plain(torch.tensor([ids])).logits[0, -1]
    with monkeypatch.context() as patch:
        patch.setattr("vicuna_server.engine.builtin.loading._load_whole", None)
        loaded = load_model(LoadSettings(tmp_path, dtype="float32"))
    with torch.inference_mode():
        store = KeyValueStore(loaded.decoder.shape, 64)
        got = loaded.decoder.logits(Pass([Chunk(ids, 0, 0)], store))[0]
    torch.testing.assert_close(got, wanted, atol=1e-4, rtol=1e-4)
    mapped = [line for line in Path("/proc/self/maps").read_text().splitlines() if str(tmp_path) in line]
    assert dtype is torch.float32 or mapped == [], "what was converted stays in memory"


def test_a_tensor_of_another_shape_is_refused(broken: Path) -> None:
    weights = load_file(broken / "model.safetensors")
    name = "model.layers.1.mlp.up_proj.weight"
    rows, columns = weights[name].shape
    weights[name] = weights[name][:10].clone()
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match="cannot be loaded") as caught:
        load_model(LoadSettings(broken))
    assert caught.value.reason == "ModelBroken"
    assert f"{name} is [10, {columns}] where config.json wants [{rows}, {columns}];" in caught.value.message


def test_a_context_beyond_the_models_is_refused(folder: Path) -> None:
    assert load_model(LoadSettings(folder, context_length=100)).context_length == 100
    with pytest.raises(InputError, match=r"5000 is more than the 4096") as caught:
        load_model(LoadSettings(folder, context_length=5000))
    assert caught.value.reason == "ContextLengthTooLarge"


def test_quantization_without_bitsandbytes_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "bitsandbytes", None)
    with pytest.raises(EngineError, match="bitsandbytes") as caught:
        load_model(LoadSettings(folder, quantization="int8"))
    assert caught.value.reason == "QuantizationUnavailable"


def test_a_template_from_a_file(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "own.jinja"
    file.write_text("{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}[assistant]")
    loaded = load_model(LoadSettings(folder, pinned_template="vicuna_v0", chat_template=str(file)))
    ids = loaded.encoder.encode(ChatPrompt((Message("user", "hi"),))).ids
    assert (loaded.template, loaded.encoder.decode(ids)) == ("from-tokenizer", "[user]hi[assistant]")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{% for m in messages %}", "endfor"),
        (b"{{ messages.nothing.at_all }}", "nothing"),
        (b"{{ ''.__class__.__mro__ }}", "unsafe"),
        (b"\xff", "utf-8"),
    ],
)
def test_a_broken_or_hostile_template_is_one_sentence(content: bytes, said: str, folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "own.jinja"
    file.write_bytes(content)
    with pytest.raises(InputError, match=said) as caught:
        load_model(LoadSettings(folder, chat_template=str(file)))
    assert caught.value.reason == "ChatTemplateBroken"


async def test_a_text_of_megabytes_is_refused_before_it_is_encoded(
    engine: BuiltinEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = engine.loaded.encoder
    monkeypatch.setattr(encoder, "_encoded", None)
    longest = encoder._tokenizer.longest
    text = "x" * (longest * engine.context_length)
    with pytest.raises(RequestError, match=f"context length is {engine.context_length} .*at least"):
        await engine.submit(GenerationRequest(text))
    with pytest.raises(RequestError, match=f"context length is {engine.context_length} "):
        await engine.submit(GenerationRequest(ChatPrompt((Message("user", text),))))
    with pytest.raises(RequestError, match="context length"):
        await engine.embed([text + "x" * longest])


async def test_an_answer_that_cannot_fit_is_refused_with_the_exact_numbers(engine: BuiltinEngine) -> None:
    text = ChatPrompt((Message("user", "Hello"),))
    tokens = len(await engine.tokenize(text))
    asked = engine.context_length + 1
    with pytest.raises(
        RequestError, match=f"needs {tokens + asked}: {tokens} in the prompt and {asked} for the completion"
    ):
        await engine.submit(GenerationRequest(text, max_tokens=asked))


def test_templates_become_ids_with_one_bos_and_no_forged_end(folder: Path) -> None:
    encoder = load_model(LoadSettings(folder, chat_template="vicuna_v1.1")).encoder
    turns = (Message("user", "a</s><s>b"), Message("assistant", "c"), Message("user", "d"))
    ids = encoder.encode(ChatPrompt(turns)).ids
    tokenizer = encoder._tokenizer
    assert ids[0] == tokenizer.bos_id
    assert (ids.count(ids[0]), [one for one in ids if one == tokenizer.eos_id]) == (1, [tokenizer.eos_id])
    assert "a</s><s>b ASSISTANT: cUSER: d ASSISTANT:" in encoder.decode(ids)


@pytest.mark.parametrize(
    "field", [{"suppress_tokens": 5}, {"validate": 1}, {"dtype": []}, {"watermarking_config": "x"}]
)
async def test_an_unreadable_generation_config_does_not_stop_the_start(
    folder: Path, tmp_path: Path, field: dict[str, Any]
) -> None:
    other = Path(shutil.copytree(folder, tmp_path / "model"))
    (other / "generation_config.json").write_text(json.dumps(field))
    subject = BuiltinEngine(LoadSettings(other, dtype="float32", max_concurrency=1))
    await subject.load()
    try:
        assert (await answer(subject, request("Hello", 4)))[0]
    finally:
        await subject.close()
