"""Command lines: what the operator writes is what the containers read."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.cluster import model_body
from support.crd_schema import schema
from vicuna_contract.merge_arguments import MergeArguments
from vicuna_contract.prune_arguments import PruneArguments
from vicuna_contract.recipe import DELTA_KINDS, DTYPES
from vicuna_contract.serve_arguments import DEVICES, QUANTIZATIONS, SERVING_DTYPES, ServeArguments
from vicuna_contract.signing import joined
from vicuna_contract.sources import FileSource, parse_argument
from vicuna_contract.templates import CHAT_TEMPLATES
from vicuna_operator.api.model import Model, parse_model
from vicuna_operator.resources.deployment import revision_deployment
from vicuna_operator.resources.merge_job import merge_job
from vicuna_operator.resources.prune_job import prune_job
from vicuna_server.flags import memory

QUANTITY = st.from_regex(
    schema()["properties"]["spec"]["properties"]["serving"]["properties"]["maxGpuMemory"]["pattern"], fullmatch=True
).filter(lambda text: len(text) < 20)
WORD = st.from_regex(r"[A-Za-z0-9/][A-Za-z0-9/._ #?%-]{0,20}", fullmatch=True)
URI = WORD.map(lambda text: FileSource(f"/{text}").uri)
HEX = st.from_regex(r"[0-9a-f]{16}", fullmatch=True)
DIGEST = st.none() | st.from_regex(r"[0-9a-f]{64}", fullmatch=True)
COUNT = st.integers(1, 10**12)


@st.composite
def merges(draw: st.DrawFn) -> MergeArguments:
    delta = draw(st.none() | URI)
    return MergeArguments(
        base=draw(URI),
        delta=delta,
        output=Path(draw(WORD)),
        dtype=draw(st.sampled_from(DTYPES)),
        kind=draw(st.sampled_from(DELTA_KINDS)) if delta else "auto",
        chat_template=draw(st.sampled_from(CHAT_TEMPLATES)),
        base_digest=draw(DIGEST),
        delta_digest=draw(DIGEST) if delta else None,
        adapters=tuple(draw(st.lists(st.tuples(URI, DIGEST), max_size=3))),
        max_bytes_per_second=draw(st.none() | COUNT),
        alpaca_checksum=draw(st.booleans()),
        allow_links=draw(st.booleans()),
        quiet=draw(st.booleans()),
    )


SERVES = st.builds(
    ServeArguments,
    model=WORD,
    served_name=st.none() | WORD,
    revision=WORD.map(str.strip),
    artifact_id=st.none() | HEX,
    artifact_digest=DIGEST,
    engine_digest=st.none() | HEX,
    device=st.sampled_from(DEVICES),
    num_gpus=st.integers(0, 16),
    dtype=st.sampled_from(SERVING_DTYPES),
    quantization=st.sampled_from(QUANTIZATIONS),
    max_gpu_memory=st.none() | QUANTITY,
    chat_template=st.sampled_from([*CHAT_TEMPLATES, "a folder/x.jinja"]),
    context_length=st.none() | COUNT,
    max_concurrency=COUNT,
    max_stream_seconds=COUNT,
    port=st.integers(0, 65535),
    kv_cache_memory=st.none() | QUANTITY,
    drain_seconds=st.integers(0, 100),
    access_log=st.sampled_from(["on", "off"]),
    host=WORD,
    gateway_keys=st.none() | st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=8).map(joined),
    audience=st.none() | WORD,
)
PRUNES = st.builds(
    PruneArguments,
    root=WORD.map(Path),
    keep=st.lists(HEX | st.just("none"), max_size=4).map(tuple),
    dry_run=st.booleans(),
    min_age=st.integers(0, 10**8),
    json=st.booleans(),
    quiet=st.booleans(),
)


@pytest.mark.long
@given(merges())
def test_a_merge_reads_what_was_written(arguments: MergeArguments) -> None:
    assert MergeArguments.from_argv(arguments.to_argv()) == arguments


@pytest.mark.long
@given(SERVES)
def test_a_server_reads_what_was_written(arguments: ServeArguments) -> None:
    assert ServeArguments.from_argv(arguments.to_argv()) == arguments


@given(PRUNES)
def test_a_clean_up_reads_what_was_written(arguments: PruneArguments) -> None:
    assert PruneArguments.from_argv(arguments.to_argv()) == arguments


@pytest.mark.parametrize("words", [["merge"], ["merge", "--base", "x", "--output", "y", "--max-bytes-per-second", "0"]])
def test_wrong_usage_ends_with_64(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        MergeArguments.from_argv(words)
    assert ended.value.code == 64
    assert "usage: vicuna-server merge" in capsys.readouterr().err


def test_a_servers_environment_stands_in_for_flags(capsys: pytest.CaptureFixture[str]) -> None:
    read = ServeArguments.from_argv(["serve", "--num-gpus", "2"], {"VICUNA_MODEL": "/m", "VICUNA_NUM_GPUS": "1"})
    assert (read.model, read.num_gpus) == ("/m", 2)
    with pytest.raises(SystemExit):
        ServeArguments.from_argv(["serve", "--model", "m"], {"VICUNA_DTYPE": "int3"})
    assert "VICUNA_DTYPE" in capsys.readouterr().err


def model(**spec: Any) -> Model:
    read = parse_model(model_body(**spec))
    assert read.spec_error is None, read.spec_error
    return read


def words_of(body: dict[str, Any]) -> list[str]:
    (container,) = body["spec"]["template"]["spec"]["containers"]
    return list(container["args"])


def serving_words(declared: Model) -> list[str]:
    return words_of(
        revision_deployment(
            declared,
            revision="01234567",
            artifact_id="0" * 16,
            image="i:1",
            pull_policy="Never",
            replicas=1,
            shared_volume=True,
            annotations={},
        )
    )


def merge_words(declared: Model) -> list[str]:
    return words_of(
        merge_job(declared, attempt=0, series="s", image="i:1", pull_policy="Never", shared_volume=True, capacity="")
    )


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(quantity=QUANTITY.filter(lambda text: any(digit in text.split("e")[0] for digit in "123456789")))
def test_every_quantity_that_the_crd_takes_serves(quantity: str) -> None:
    declared = parse_model(model_body(serving={"maxGpuMemory": quantity}))
    if declared.spec_error is not None:
        assert "exponent" in str(declared.spec_error)
        return
    read = ServeArguments.from_argv(serving_words(declared))
    assert memory("--max-gpu-memory", read.max_gpu_memory)


@pytest.mark.parametrize(("quantity", "size"), [("16e9", 16 * 10**9), ("1Pi", 2**50), (17179869184, 2**34)])
def test_quantities_that_once_ended_the_server(quantity: str | int, size: int) -> None:
    read = ServeArguments.from_argv(serving_words(model(serving={"maxGpuMemory": quantity})))
    assert memory("--max-gpu-memory", read.max_gpu_memory) == size


@given(name=st.from_regex(r"[A-Za-z0-9#? %+&=:@!'()*,;~-]{1,12}", fullmatch=True), adapters=st.integers(0, 3))
def test_a_merge_reads_the_folders_that_a_model_declares(name: str, adapters: int) -> None:
    weights = {
        "base": {"source": f"pvc://inputs/{name}", "digest": "a" * 64},
        "delta": {"source": "hf://lmsys/delta", "revision": "b" * 40, "kind": "alpaca"},
        "adapters": [{"source": f"pvc://lora/{name}/{number}"} for number in range(adapters)],
    }
    read = MergeArguments.from_argv(merge_words(model(weights=weights, merge={"dtype": "bfloat16"})))
    assert parse_argument(read.base) == FileSource(f"/sources/base/{name}")
    assert (read.base_digest, read.delta, read.kind, read.dtype) == (
        "a" * 64,
        f"hf://lmsys/delta@{'b' * 40}",
        "alpaca",
        "bfloat16",
    )
    places = [FileSource(f"/sources/adapter-{number}/{name}/{number}") for number in range(adapters)]
    assert [parse_argument(uri) for uri, _ in read.adapters] == places


def test_a_clean_up_keeps_what_it_is_told_to() -> None:
    body = prune_job(model(), keep={"b" * 16, "a" * 16}, image="i:1", pull_policy="Never", shared_volume=True)
    read = PruneArguments.from_argv(words_of(body))
    assert (read.root, read.keep) == (Path("/models/artifacts"), ("a" * 16, "b" * 16))
    assert read.min_age <= 15 * 60, "planning waits so long before it makes the Job"
    assert body["metadata"]["annotations"]["vicuna.dev/kept-artifacts"] == f'["{"a" * 16}", "{"b" * 16}"]'


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--base", "a", "--output", ""], "argument --output: '' is not a folder on this machine; give its path"),
        (["--base", "a", "--output", "hf://org/name"], "argument --output: 'hf://org/name' is not a folder"),
        (["--base", "a", "--output", "file:///models"], "argument --output: 'file:///models' is not a folder"),
        (["--base", "a", "--output", "o", "--delta", "b", "--delta", "b"], "argument --delta: is given twice"),
        (["--base", "a", "--base", "b", "--output", "o"], "argument --base: is given twice"),
        (["--base", "a", "--output", "o", "--output", "p"], "argument --output: is given twice"),
    ],
)
def test_a_merge_goes_only_where_it_was_meant_to(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        MergeArguments.from_argv(["merge", *words])
    assert caught.value.code == 64
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("text", ["a\nb: c", "→", "ü", " a", "a ", "\x7f"])
def test_a_revision_can_be_sent_in_a_header(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Otherwise every response fails, the probes' too."""
    with pytest.raises(SystemExit):
        ServeArguments.from_argv(["serve", "--model", "m", "--revision", text])
    assert "cannot be sent in a header" in capsys.readouterr().err


def test_a_wrong_variable_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        ServeArguments.from_argv(["serve", "--model", "m"], {"VICUNA_PORT": "tcp://10.0.0.1:8000"})
    assert "'tcp://10.0.0.1:8000' is not a whole number of 0 or more (VICUNA_PORT)" in capsys.readouterr().err


def test_a_wrong_variable_is_not_blamed_for_a_flag(capsys: pytest.CaptureFixture[str]) -> None:
    wrong = {"VICUNA_PORT": "tcp://10.0.0.1:8000"}
    assert ServeArguments.from_argv(["serve", "--model", "m", "--port", "80"], wrong).port == 80
    with pytest.raises(SystemExit):
        ServeArguments.from_argv(["serve", "--model", "m", "--port", "x"], {"VICUNA_PORT": "80"})
    assert "VICUNA_PORT" not in capsys.readouterr().err
