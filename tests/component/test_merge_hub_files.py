"""Weights of a hub come file by file: a little ahead, within bounded room, and not twice after a kill."""

import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from support import meta
from support.checkpoints import write_checkpoint
from support.digests import digest_of
from support.hub import Asked, Fault, Hub, running_hub
from support.sparse import LLAMA_13B, write_sparse_checkpoint
from support.wide import wide_weights, write_in_files
from vicuna_server.artifacts.digests import digest_files
from vicuna_server.artifacts.manifest import Manifest
from vicuna_server.cli import main
from vicuna_server.errors import InputError, OutOfSpaceError, UnreachableError
from vicuna_server.files.data_file import LocalFile
from vicuna_server.merge.job import run_merge
from vicuna_server.merge.request import Request
from vicuna_server.run.control import Control
from vicuna_server.run.reporter import Silent

BASE, DELTA = "hf://me/base@main", "hf://me/delta@main"
SHARD_BYTES = 1_500_000
SCRIPT = f"""
import sys, threading
from pathlib import Path
from vicuna_server.merge.job import run_merge
from vicuna_server.run.control import Control
from vicuna_server.run.reporter import Silent
from vicuna_server.merge.request import Request
request = Request("{BASE}", "{DELTA}", Path(sys.argv[1]), chat_template="vicuna_v1.1", least_shard_bytes={SHARD_BYTES})
run_merge(request, Control(Silent(), threading.Event()))
"""


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """base in 5 files of 3 MB, delta in 3 of 5 MB."""
    place = tmp_path_factory.mktemp("pair")
    write_in_files(place / "base", wide_weights(1, 1.0), 5)
    write_in_files(place / "delta", wide_weights(2, 0.0), 3)
    return place


@pytest.fixture
def hub(pair: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with running_hub(monkeypatch) as server:
        server.repositories = {"me/base": pair / "base", "me/delta": pair / "delta"}
        yield server


def merge(root: Path, base: str = BASE, delta: str = DELTA, rate: int | None = None, **digests: str) -> Manifest:
    request = Request(
        base,
        delta,
        root,
        chat_template="vicuna_v1.1",
        least_shard_bytes=SHARD_BYTES,
        max_bytes_per_second=rate,
        **digests,  # type: ignore[arg-type]
    )
    return run_merge(request, Control(Silent(), threading.Event(), rate))


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for path in folder.glob("*.safetensors") for name, tensor in load_file(path).items()}


def require_sum(folder: Path, pair: Path) -> None:
    base, delta, found = (weights_of(each) for each in (pair / "base", pair / "delta", folder))
    assert found.keys() == base.keys()
    assert all(torch.equal(tensor, base[name] + delta[name]) for name, tensor in found.items())


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


def test_each_file_is_fetched_once_into_less_room_than_all_take(hub: Hub, pair: Path, tmp_path: Path) -> None:
    held = [0]

    def measure() -> None:
        scratch = (tmp_path / "out").glob(".staging-src*/*.safetensors")
        held.append(sum(_size_if_there(path) for path in scratch))

    hub.on_block = measure
    manifest = merge(tmp_path / "out")
    require_sum(tmp_path / "out" / manifest.artifact_id, pair)
    fetched = [(asked.path, asked.start, asked.served) for asked in hub.asked if asked.is_fetch]
    assert len(fetched) == len(set(fetched)) == 8
    inputs = size_of(pair / "base") + size_of(pair / "delta")
    assert 0.2 * inputs < max(held) < 0.75 * inputs
    assert [path.name for path in (tmp_path / "out").iterdir()] == [manifest.artifact_id]


def _size_if_there(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def test_after_a_kill_only_the_rest_is_fetched(hub: Hub, pair: Path, tmp_path: Path) -> None:
    half, released = 2_000_000, threading.Event()
    last = "model-00003-of-00003.safetensors"
    hub.fault = lambda asked: Fault(cut=half, until=released) if asked.is_fetch and asked.name == last else None
    with subprocess.Popen([sys.executable, "-c", SCRIPT, str(tmp_path / "out")]) as process:
        _wait_for(lambda: any(path.stat().st_size == half for path in _fetched(tmp_path / "out", last)))
        # the second delta file is done with when the first output file of the third has begun
        _wait_for(lambda: not _fetched(tmp_path / "out", "model-00001-of-00003.safetensors"))
        process.kill()
    released.set()
    hub.asked.clear()
    hub.fault = lambda _: None
    manifest = merge(tmp_path / "out")
    require_sum(tmp_path / "out" / manifest.artifact_id, pair)
    [again] = [asked for asked in hub.asked if asked.is_fetch and asked.name == last]
    assert again.start == half
    inputs = size_of(pair / "base") + size_of(pair / "delta")
    assert sum(asked.served for asked in hub.asked if asked.is_fetch) < 0.5 * inputs
    assert [path.name for path in (tmp_path / "out").iterdir()] == [manifest.artifact_id]


def _fetched(root: Path, name: str) -> list[Path]:
    return list(root.glob(f".staging-src*/*-{name}"))


def _wait_for(condition: object, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.01)


def test_a_wrong_pair_is_refused_with_all_its_faults_before_a_weight_is_fetched(hub: Hub, tmp_path: Path) -> None:
    hub.repositories["me/base"] = write_sparse_checkpoint(tmp_path / "base", LLAMA_13B, norm=1.0)
    hub.repositories["me/delta"] = write_sparse_checkpoint(tmp_path / "delta", LLAMA_13B, norm=1.1)
    (tmp_path / "delta" / "tokenizer.json").unlink()
    with pytest.raises(InputError) as caught:
        merge(tmp_path / "out")
    assert caught.value.reason == "NotADelta"
    assert caught.value.message.startswith(f"{DELTA} looks like a whole model")
    assert f"TokenizerBroken: {DELTA} has no tokenizer.json" in caught.value.message
    assert hub.weights_served < 32 * 2**20
    assert len(hub.asked) < 200
    assert not list((tmp_path / "out").iterdir())


def test_all_sources_that_cannot_be_read_are_named_at_once(hub: Hub, tmp_path: Path) -> None:
    hub.repositories.clear()
    with pytest.raises(InputError, match=f"has no {BASE};.*has no {DELTA};") as caught:
        merge(tmp_path)
    assert caught.value.reason == "SourceNotFound"


def test_a_volume_without_the_room_is_told_before_a_weight_is_fetched(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage._replace(free=20_000_000))  # of which the output takes 17
    with pytest.raises(OutOfSpaceError, match=r"has 0\.02 GB free and needs 0\.03 GB"):
        merge(tmp_path)
    assert not [asked for asked in hub.asked if asked.is_fetch]
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage._replace(free=30_000_000))
    merge(tmp_path)


def test_wrong_bytes_are_never_merged(hub: Hub, tmp_path: Path) -> None:
    name = "model-00002-of-00003.safetensors"
    hub.fault = lambda asked: Fault(wrong=True) if asked.is_fetch and asked.name == name else None
    with pytest.raises(InputError, match=f"{DELTA}/{name} came twice with another sha256") as caught:
        merge(tmp_path)
    assert caught.value.reason == "DigestMismatch"
    assert not list(tmp_path.iterdir())


def test_a_hub_that_goes_away_leaves_what_has_come(
    hub: Hub, pair: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VICUNA_HUB_PATIENCE_SECONDS", "0")
    name = "model-00005-of-00005.safetensors"
    hub.fault = lambda asked: Fault(cut=1_000_000, status=206) if asked.is_fetch and asked.name == name else None
    with pytest.raises(UnreachableError, match=f"{BASE}/{name} cannot be fetched"):
        merge(tmp_path)
    [half] = tmp_path.glob(f".staging-src*/*-{name}")
    assert half.stat().st_size == 1_000_000
    hub.fault = lambda _: None
    hub.asked.clear()
    require_sum(tmp_path / merge(tmp_path).artifact_id, pair)
    [again] = [asked for asked in hub.asked if asked.is_fetch and asked.name == name]
    assert again.start == 1_000_000


def test_weights_may_come_from_another_host_which_gets_no_token(hub: Hub, pair: Path, tmp_path: Path) -> None:
    hub.redirects = True
    require_sum(tmp_path / merge(tmp_path).artifact_id, pair)
    assert {(asked.host, asked.token) for asked in hub.asked} == {
        ("127.0.0.1", "Bearer hf_secret"),
        ("localhost", None),
    }


def test_a_local_base_and_a_delta_on_a_hub(hub: Hub, pair: Path, tmp_path: Path) -> None:
    require_sum(tmp_path / merge(tmp_path, base=str(pair / "base")).artifact_id, pair)
    assert {asked.path.split("/")[2] for asked in hub.asked if asked.is_fetch} == {"delta"}


def test_a_digest_is_that_of_a_copy_and_is_judged_before_a_weight_is_fetched(
    hub: Hub, pair: Path, tmp_path: Path
) -> None:
    files = [LocalFile(path) for path in (pair / "delta").iterdir()]
    digest = digest_files(files, Control(Silent(), threading.Event()).advance)
    with pytest.raises(InputError, match=f"the digest of {BASE} is sha256:[0-9a-f]*, not {digest}") as caught:
        merge(tmp_path, base_digest=digest)
    assert caught.value.reason == "DigestMismatch"
    assert not [asked for asked in hub.asked if asked.is_fetch]
    manifest = merge(tmp_path, delta_digest=digest)
    assert manifest.inputs.delta is not None
    assert manifest.inputs.delta.fingerprint == digest


def test_a_digest_of_a_local_base_is_judged_beside_a_delta_on_a_hub(hub: Hub, pair: Path, tmp_path: Path) -> None:
    base, out = str(pair / "base"), tmp_path / "out"
    with pytest.raises(InputError, match="the digest of") as caught:
        merge(out, base=base, base_digest=f"sha256:{'0' * 64}")
    assert caught.value.reason == "DigestMismatch"
    assert not list(out.glob("[0-9a-f]*"))
    require_sum(out / merge(out, base=base, base_digest=digest_of(pair / "base")).artifact_id, pair)


def test_the_rate_holds_what_comes(hub: Hub, pair: Path, tmp_path: Path) -> None:
    inputs = size_of(pair / "base") + size_of(pair / "delta")
    begun = time.monotonic()
    merge(tmp_path, rate=inputs // 2)
    assert time.monotonic() - begun > 1 - 0.1  # two seconds, of which one's worth comes at once


def test_metas_parts_come_together(hub: Hub, tmp_path: Path) -> None:
    whole = meta.whole_weights()
    base = meta.converted(whole)
    hub.repositories["me/base"] = meta.write_meta(tmp_path / "base", whole, 4)
    sizes = {"hidden_size": meta.DIM, "intermediate_size": meta.WIDE, "num_attention_heads": meta.HEADS}
    delta = {name: torch.full_like(tensor, 0.001) for name, tensor in base.items()}
    hub.repositories["me/delta"] = write_checkpoint(
        tmp_path / "delta", delta, "bin-sharded", config=sizes | {"vocab_size": meta.VOCABULARY}
    )
    request = Request(BASE, DELTA, tmp_path / "out", chat_template="vicuna_v1.1", least_shard_bytes=4000)
    manifest = run_merge(request, Control(Silent(), threading.Event()))
    found = weights_of(tmp_path / "out" / manifest.artifact_id)
    assert found.keys() == base.keys()
    assert all(torch.equal(tensor, base[name] + delta[name]) for name, tensor in found.items())
    assert len([entry for entry in manifest.files if entry.path.endswith(".safetensors")]) > 3


def test_a_signal_ends_the_program_whatever_is_under_way_and_the_next_goes_on(
    hub: Hub, pair: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VICUNA_TERMINATION_LOG", str(tmp_path / "log"))
    name, released, hangs = "model-00002-of-00005.safetensors", threading.Event(), threading.Event()

    def hang(asked: Asked) -> Fault | None:
        if not (asked.is_fetch and asked.name == name):
            return None
        hangs.set()
        return Fault(cut=1_000_000, until=released)

    hub.fault = hang
    words = ["--base", BASE, "--delta", DELTA, "--output", str(tmp_path / "out"), "--chat-template", "vicuna_v1.1"]
    with subprocess.Popen([sys.executable, "-m", "vicuna_server", "merge", *words]) as process:
        assert hangs.wait(60)
        _wait_for(lambda: any(path.stat().st_size == 1_000_000 for path in _fetched(tmp_path / "out", name)))
        process.terminate()
        assert process.wait(20) == 75
    released.set()
    assert json.loads((tmp_path / "log").read_text())["reason"] == "Interrupted"
    hub.fault = lambda _: None
    hub.asked.clear()
    assert main(["merge", *words]) == 0
    [again] = [asked for asked in hub.asked if asked.is_fetch and asked.name == name]
    assert again.start == 1_000_000
    [artifact] = (tmp_path / "out").iterdir()
    require_sum(artifact, pair)
