"""The command line of `vllm serve`: what the operator says, and what users may add."""

import argparse
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vicuna_contract.vllm_arguments import (
    ALLOWED_FLAGS,
    FIELDS_OF_FLAGS,
    EngineArguments,
    RefusedArgumentError,
    engine_environment,
)

ALONE = EngineArguments(model="/m", served_name="vicuna")


def value(words: list[str], flag: str) -> str:
    return words[words.index(flag) + 1]


def test_it_listens_where_only_its_front_reaches_it_and_answers_what_is_asked() -> None:
    words = ALONE.to_argv()
    assert words[:2] == ["serve", "/m"]
    assert (value(words, "--host"), value(words, "--port")) == ("127.0.0.1", "8001")
    assert value(words, "--generation-config") == "vllm", "no sampling defaults of the artifact's"
    assert {"--disable-fastapi-docs", "--enable-prompt-tokens-details"} <= set(words)
    assert value(words, "--structured-outputs-config.backend") == "guidance", "what the front checks constraints with"
    assert int(value(words, "--shutdown-timeout")) < 15, "within what the pod's grace period leaves it"


@pytest.mark.parametrize(
    ("given_", "flag", "stated"),
    [
        ({"num_gpus": 2}, "--tensor-parallel-size", "2"),
        ({"num_gpus": 0}, "--tensor-parallel-size", "1"),
        ({}, "--max-model-len", "auto"),
        ({"context_length": 4096}, "--max-model-len", "4096"),
        ({"max_concurrency": 7}, "--max-num-seqs", "7"),
        ({"dtype": "bfloat16"}, "--dtype", "bfloat16"),
        ({"served_name": "lmsys/vicuna"}, "--served-model-name", "lmsys/vicuna"),
        ({"port": 8123}, "--port", "8123"),
    ],
)
def test_each_field_is_a_flag(given_: dict[str, Any], flag: str, stated: str) -> None:
    words = EngineArguments(**{"model": "/m", "served_name": "vicuna", **given_}).to_argv()
    assert value(words, flag) == stated
    assert words.count(flag) == 1


def test_prefixes_are_shared_unless_the_model_says_off() -> None:
    assert "--no-enable-prefix-caching" not in ALONE.to_argv()
    off = EngineArguments(model="/m", served_name="v", share_prefixes=False, added=["--enforce-eager"])
    assert off.to_argv()[-2:] == ["--no-enable-prefix-caching", "--enforce-eager"]


@pytest.mark.parametrize(
    "added",
    [
        ["--enforce-eager"],
        ["--gpu-memory-utilization=0.85", "--max-num-batched-tokens", "8k"],
        ["--kv-cache-dtype", "fp8", "--no-enable-chunked-prefill"],
        ["--quantization=fp8_per_block", "--optimization-level=0"],
    ],
)
def test_flags_that_tune_are_taken(added: list[str]) -> None:
    EngineArguments.check(added)


@pytest.mark.parametrize(
    ("added", "index", "words"),
    [
        (["--trust-remote-code"], 0, "'--trust-remote-code' is not allowed; allowed are --async-scheduling, --block"),
        (["--enforce-eager", "--middleware=x.Y"], 1, "'--middleware' is not allowed"),
        (["--enforce_eager"], 0, "not allowed"),
        (["--enforce"], 0, "not allowed"),
        (["--structured-outputs-config.backend=outlines"], 0, "not allowed"),
        (["-O3"], 0, "not allowed"),
        (["stray"], 0, "'stray' is not allowed"),
        (["--block-size", "16", "32"], 2, "'32' is not allowed"),
        (["--tensor-parallel-size=4"], 0, "set by spec.serving.numGpus; state that instead"),
        (["--max-model-len", "4096"], 0, "set by spec.serving.contextLength"),
        (["--no-enable-prefix-caching"], 0, "set by spec.serving.prefixCache"),
        (["--enforce-eager=true"], 0, "takes no value, and has 'true'"),
        (["--block-size"], 0, "needs a value of the form [0-9]{1,18}, as --block-size=VALUE or in the next"),
        (["--block-size", "--enforce-eager"], 0, "has '--enforce-eager'"),
        (["--gpu-memory-utilization=1.5"], 0, "has '1.5'"),
        (["--safetensors-load-strategy=torchao"], 0, "of the form lazy|eager|prefetch"),
        (["--kv-cache-dtype=/etc/passwd"], 0, "has '/etc/passwd'"),
        (["--cpu-offload-gb=10G"], 0, "has '10G'"),
        (["--quantization=fp8"], 0, "fp8_per_tensor|"),
        (["--block-size=16", "--block-size", "32"], 1, "--block-size is there twice"),
    ],
)
def test_others_are_refused_by_name_with_the_next_step(added: list[str], index: int, words: str) -> None:
    with pytest.raises(RefusedArgumentError) as refused:
        EngineArguments.check(added)
    assert refused.value.index == index
    assert words in str(refused.value)


def is_refused(added: list[str]) -> bool:
    try:
        EngineArguments.check(added)
    except RefusedArgumentError:
        return True
    return False


@pytest.mark.parametrize(
    "flag",
    [
        # These load code, read other files or open doors; spelled out, shortened as argparse allows, and with `_`.
        *("--trust-remote-code", "--trust-remote", "--trust_remote_code", "--tokenizer", "--model", "--config"),
        *("--chat-template", "--download-dir", "--load-format", "--hf-overrides", "--logits-processors"),
        *("--worker-cls", "--worker-extension-cls", "--middleware", "--tool-parser-plugin", "--lora-modules"),
        *("--reasoning-parser-plugin", "--kv-transfer-config", "--structured-outputs-config", "--compilation-config"),
        *("--host", "--port", "--uds", "--api-key", "--ssl-keyfile", "-cc", "-O", "-tp", "--", "-"),
        # Those that are allowed, spelled otherwise.
        *("--gpu-memory-util", "--gpu_memory_utilization", "--GPU-MEMORY-UTILIZATION", " --enforce-eager"),
    ],
)
def test_no_spelling_lets_another_flag_in(flag: str) -> None:
    for word in (flag + ending for ending in ("", "=x", "=/x", "=true", '={"a": "b"}', ".b=c")):
        for added in ([word], ["--enforce-eager", word], ["--block-size", word]):
            assert is_refused(added), added


@pytest.mark.parametrize("flag", sorted(ALLOWED_FLAGS))
def test_no_value_brings_more_than_itself(flag: str) -> None:
    for ending in (".b=1", ".b", "=1\n", "=1 --trust-remote-code", "=1,2", "+=1"):
        assert is_refused([flag + ending]), ending


@given(st.lists(st.text(max_size=20) | st.sampled_from([*ALLOWED_FLAGS, *FIELDS_OF_FLAGS, "1", "0.5"]), max_size=6))
def test_whatever_is_taken_is_read_as_those_flags_alone(added: list[str]) -> None:
    """An argparse with the allowed flags reads it: no entry turns into anything else."""
    try:
        EngineArguments.check(added)
    except RefusedArgumentError:
        return
    parser = argparse.ArgumentParser(allow_abbrev=False, exit_on_error=False)
    for flag, form in ALLOWED_FLAGS.items():
        parser.add_argument(flag, **({"action": "store_true"} if form is None else {}))  # type: ignore[arg-type]
    parser.parse_args(added)


def test_the_page_names_every_flag_that_is_allowed_and_no_other() -> None:
    text = (Path(__file__).parents[3] / "docs" / "using.md").read_text()
    section = text.partition("\n`engineArgs` adds flags")[2].partition("Any other is refused")[0]
    assert {word for word in re.findall(r"`(--[a-z-]+)`", section) if word != "--flag"} == ALLOWED_FLAGS.keys()


def test_the_lists_do_not_overlap() -> None:
    rendered = {word for word in ALONE.to_argv() if word.startswith("--")}
    assert not ALLOWED_FLAGS.keys() & (rendered | FIELDS_OF_FLAGS.keys())


def test_it_writes_below_one_folder_calls_nobody_and_knows_its_users_name() -> None:
    found = engine_environment("/tmp")
    folders = {name for name, text in found.items() if text.startswith("/")}
    assert {"HOME", "VLLM_CACHE_ROOT", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "XDG_CACHE_HOME"} <= folders
    assert all(found[name].startswith("/tmp") for name in folders)
    assert (found["VLLM_NO_USAGE_STATS"], found["HF_HUB_OFFLINE"], found["LOGNAME"]) == ("1", "1", "vicuna")


def deciding(*added: str, **given_: Any) -> list[str]:
    return EngineArguments("/m", "vicuna", added=added, **given_).deciding()


def test_what_decides_about_tokens_is_the_same_however_it_is_written() -> None:
    flags = ("--enforce-eager", "--kv-cache-dtype", "fp8", "--block-size=32")
    assert deciding(*flags) == deciding("--block-size", "32", "--kv-cache-dtype=fp8", "--enforce-eager")
    assert deciding(num_gpus=0) == deciding(num_gpus=1)


@pytest.mark.parametrize(
    ("added", "given_"),
    [
        (["--kv-cache-dtype=fp8"], {}),
        (["--kv-cache-dtype=fp8_e5m2"], {}),
        (["--quantization", "fp8_per_tensor"], {}),
        (["--enforce-eager"], {}),
        (["--optimization-level", "0"], {}),
        ([], {"dtype": "float16"}),
        ([], {"num_gpus": 2}),
    ],
)
def test_numbers_and_kernels_decide_about_tokens(added: list[str], given_: dict[str, Any]) -> None:
    EngineArguments.check(added)
    assert deciding(*added, **given_) not in ([], deciding(), deciding("--kv-cache-dtype=fp8_e4m3"))


@pytest.mark.parametrize(
    ("added", "given_"),
    [
        (["--gpu-memory-utilization", "0.8", "--kv-offloading-size=2"], {}),
        (["--no-enable-chunked-prefill", "--max-num-batched-tokens=8k"], {}),
        (["--safetensors-load-strategy", "eager", "--async-scheduling"], {}),
        ([], {"max_concurrency": 7, "share_prefixes": False, "port": 8123, "served_name": "x"}),
    ],
)
def test_batches_memory_and_names_do_not(added: list[str], given_: dict[str, Any]) -> None:
    EngineArguments.check(added)
    assert EngineArguments(**{"model": "/m", "served_name": "v", "added": added, **given_}).deciding() == deciding()
