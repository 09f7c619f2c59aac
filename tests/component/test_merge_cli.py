"""`vicuna-server merge` from the command line to the artifact, on small checkpoints of every kind."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from support.checkpoints import VOCABULARY, Weights, delta_weights, model_weights, write_checkpoint, write_tokenizer
from vicuna_server.artifacts.identity import folder_digest
from vicuna_server.artifacts.manifest import Manifest
from vicuna_server.cli import main
from vicuna_server.weights.checkpoint import open_checkpoint

LAYOUTS = ["safetensors", "bin", "safetensors-sharded", "bin-sharded"]


class Outcome:
    """Exit code, standard error, the JSON lines and the termination message of one run."""

    def __init__(self, code: int, out: str, err: str, log: Path) -> None:
        self.code = code
        self.err = err
        self.events: list[dict[str, Any]] = [json.loads(line) for line in out.splitlines()]
        self.message: dict[str, Any] = json.loads(log.read_text()) if log.exists() else {}

    @property
    def folder(self) -> Path:
        return Path(self.events[-1]["path"])


Run = Callable[..., Outcome]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "artifacts"


@pytest.fixture
def run(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    log = tmp_path / "termination-log"
    monkeypatch.setenv("VICUNA_TERMINATION_LOG", str(log))

    def merge(*words: object, template: str | None = "vicuna_v1.1") -> Outcome:
        log.unlink(missing_ok=True)
        flags = ["--chat-template", template] if template else []
        code = main(["merge", "--output", str(root), *flags, *map(str, words)])
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err, log)

    return merge


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    base = write_checkpoint(tmp_path / "base", model_weights(1))
    return base, write_checkpoint(tmp_path / "delta", delta_weights(2))


def _weights(folder: Path) -> Weights:
    merged: Weights = {}
    for path in folder.glob("*.safetensors"):
        merged |= load_file(path)
    return merged


def _same(left: Weights, right: Weights) -> bool:
    return left.keys() == right.keys() and all(
        left[name].dtype == right[name].dtype and torch.equal(left[name], right[name]) for name in left
    )


def _nothing_visible(root: Path) -> bool:
    return not root.exists() or not list(root.iterdir())


def _snapshot(folder: Path) -> dict[str, tuple[int, str]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, sha256(path.read_bytes()).hexdigest())
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize(("base_layout", "delta_layout"), [*zip(LAYOUTS, reversed(LAYOUTS), strict=True)])
def test_base_and_delta_in_mixed_layouts_give_fastchats_sum(
    tmp_path: Path, run: Run, base_layout: str, delta_layout: str
) -> None:
    base, delta = model_weights(1), delta_weights(2)
    write_checkpoint(tmp_path / "base", base, base_layout)
    write_checkpoint(tmp_path / "delta", delta, delta_layout)
    inputs = _snapshot(tmp_path)
    done = run("--base", tmp_path / "base", "--delta", (tmp_path / "delta").as_uri())
    assert done.code == 0, done.err
    want = {name: tensor.clone() for name, tensor in base.items()}
    for name, tensor in want.items():
        tensor += delta[name]
    assert _same(_weights(done.folder), want)
    assert inputs.items() <= _snapshot(tmp_path).items()  # inputs are never touched


def test_the_artifact_says_what_it_is_made_of(run: Run, root: Path, pair: tuple[Path, Path]) -> None:
    done = run("--base", pair[0], "--delta", pair[1])
    manifest = Manifest.load(done.folder)
    assert manifest is not None
    assert done.folder == root / manifest.artifact_id
    assert [path.name for path in root.iterdir()] == [manifest.artifact_id]
    for entry in manifest.files:
        content = (done.folder / entry.path).read_bytes()
        assert (len(content), sha256(content).hexdigest()) == (entry.size, entry.sha256)
    present = {path.name for path in done.folder.iterdir()} - {"vicuna-manifest.json"}
    assert [entry.path for entry in manifest.files] == sorted(present)
    assert manifest.total_size == sum(entry.size for entry in manifest.files)
    assert manifest.tensor_count == len(model_weights(1))
    assert (manifest.recipe.kind, manifest.recipe.dtype) == ("additive-v1.1", "float16")
    assert manifest.inputs.base.source == pair[0].as_uri()
    assert done.message == {
        "reason": "Merged",
        "artifactID": manifest.artifact_id,
        "kind": "additive-v1.1",
        "chatTemplate": "vicuna_v1.1",
        "bytes": manifest.total_size,
        "digest": manifest.digest,
        "attentionHeads": 2,
        "keyValueHeads": 2,
    }
    assert done.events[0]["bytesDone"] == 0
    assert done.events[-2]["bytesDone"] == done.events[-2]["bytesTotal"] > 0
    assert done.events[-1] == {"event": "done", "artifactID": manifest.artifact_id, "path": str(done.folder)}


def test_a_second_run_writes_nothing_and_says_the_same(run: Run, root: Path, pair: tuple[Path, Path]) -> None:
    first = run("--base", pair[0], "--delta", pair[1])
    before = _snapshot(root)
    second = run("--base", pair[0], "--delta", pair[1])
    assert second.code == 0
    assert second.events == first.events[-1:]
    assert second.message == first.message
    assert _snapshot(root) == before


@pytest.mark.parametrize("damage", ["truncated", "lost", "manifest", "file"])
def test_a_broken_artifact_is_replaced(run: Run, root: Path, pair: tuple[Path, Path], damage: str) -> None:
    first = run("--base", pair[0], "--delta", pair[1])
    whole = {name: entry[1] for name, entry in _snapshot(root).items()}
    weights = first.folder / "model.safetensors"
    if damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:-1])
    elif damage == "lost":
        weights.unlink()
    elif damage == "manifest":
        (first.folder / "vicuna-manifest.json").write_text("{")
    else:
        first.folder.rename(root.parent / "elsewhere")
        first.folder.write_text("no folder")
    second = run("--base", pair[0], "--delta", pair[1])
    assert second.code == 0, second.err
    assert {name: entry[1] for name, entry in _snapshot(root).items()} == whole


@pytest.mark.parametrize(("dtype", "want"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_the_output_type_is_the_one_asked_for(run: Run, pair: tuple[Path, Path], dtype: str, want: torch.dtype) -> None:
    done = run("--base", pair[0], "--delta", pair[1], "--dtype", dtype)
    delta = delta_weights(2)
    assert _same(_weights(done.folder), {name: (t + delta[name]).to(want) for name, t in model_weights(1).items()})
    assert json.loads((done.folder / "config.json").read_text())["torch_dtype"] == dtype


def test_the_artifact_loads_in_plain_transformers(run: Run, pair: tuple[Path, Path]) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    done = run("--base", pair[0], "--delta", pair[1])
    loaded: Any = AutoModelForCausalLM.from_pretrained(done.folder, output_loading_info=True)
    model, info = loaded
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert model.dtype == torch.float16
    delta = delta_weights(2)
    assert _same(dict(model.state_dict()), {name: t + delta[name] for name, t in model_weights(1).items()})
    assert AutoTokenizer.from_pretrained(done.folder)("w1 w2")["input_ids"] == [4, 5]


def test_the_deltas_config_and_tokenizer_win_and_are_made_true(tmp_path: Path, run: Run) -> None:
    base = write_checkpoint(tmp_path / "base", model_weights(1), config={"max_position_embeddings": 32})
    delta = write_checkpoint(tmp_path / "delta", delta_weights(2), config={"vocab_size": 99, "dtype": "float32"})
    write_tokenizer(delta, tokenizer_class="LLaMATokenizer", eos_token="")
    (delta / "generation_config.json").write_text('{"max_length": 7}')
    done = run("--base", base, "--delta", delta)
    config = json.loads((done.folder / "config.json").read_text())
    assert (config["max_position_embeddings"], config["vocab_size"]) == (64, VOCABULARY)
    assert (config["dtype"], config["torch_dtype"]) == ("float16", "float16")
    assert (done.folder / "tokenizer.json").read_bytes() == (delta / "tokenizer.json").read_bytes()
    tokenizer = json.loads((done.folder / "tokenizer_config.json").read_text())
    assert (tokenizer["tokenizer_class"], tokenizer["legacy"]) == ("LlamaTokenizer", True)
    assert tokenizer["eos_token"] == "</s>"
    assert (done.folder / "generation_config.json").read_text() == '{"max_length": 7}'


def test_without_a_delta_the_base_is_the_artifact(run: Run, pair: tuple[Path, Path]) -> None:
    done = run("--base", pair[0])
    size = sum(path.stat().st_size for path in done.folder.iterdir() if path.name != "vicuna-manifest.json")
    assert done.message == {
        "reason": "Merged",
        "artifactID": done.folder.name,
        "kind": "none",
        "chatTemplate": "vicuna_v1.1",
        "bytes": size,
        "digest": Manifest.model_validate_json((done.folder / "vicuna-manifest.json").read_bytes()).digest,
        "attentionHeads": 2,
        "keyValueHeads": 2,
    }
    assert _same(_weights(done.folder), model_weights(1))


def test_v0_rows_are_added_to_zero(tmp_path: Path, run: Run) -> None:
    """As FastChat at d245e373: `resize_token_embeddings`, the new rows zeroed, then `base += delta`; to the bit."""
    base, delta = model_weights(1), delta_weights(2, vocabulary=VOCABULARY + 1)
    delta["lm_head.weight"][VOCABULARY, :3] = -0.0  # 0 + -0 is 0
    write_checkpoint(tmp_path / "base", base, "bin")
    write_checkpoint(tmp_path / "delta", delta, "bin-sharded")
    done = run("--base", tmp_path / "base", "--delta", tmp_path / "delta", template=None)
    assert done.code == 0, done.err
    assert (done.message["kind"], done.message["chatTemplate"]) == ("additive-v0", "vicuna_v0")
    for name, got in _weights(done.folder).items():
        want = torch.zeros_like(delta[name])
        want[: len(base[name])] = base[name]
        want += delta[name]
        assert got.numpy().tobytes() == want.numpy().tobytes(), name
    assert json.loads((done.folder / "config.json").read_text())["vocab_size"] == VOCABULARY + 1


def test_added_rows_in_float32_are_never_taken_for_v0(tmp_path: Path, run: Run) -> None:
    write_checkpoint(tmp_path / "base", model_weights(1), "bin")
    write_checkpoint(tmp_path / "delta", delta_weights(2, torch.float32, vocabulary=VOCABULARY + 1), "bin")
    done = run("--base", tmp_path / "base", "--delta", tmp_path / "delta")
    assert (done.code, done.message["reason"]) == (65, "AmbiguousDelta")
    stated = run("--base", tmp_path / "base", "--delta", tmp_path / "delta", "--kind", "additive-v0")
    assert (stated.code, stated.message["kind"]) == (0, "additive-v0")


@pytest.mark.parametrize("layout", ["bin", "bin-sharded", "safetensors"])
def test_a_tied_embedding_is_merged_once(tmp_path: Path, run: Run, layout: str) -> None:
    base, delta = model_weights(1), delta_weights(2)
    want = {name: base[name] + delta[name] for name in base if name != "lm_head.weight"}
    for folder, weights in (("base", base), ("delta", delta)):
        if layout == "safetensors":
            del weights["lm_head.weight"]
        else:
            weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
        write_checkpoint(tmp_path / folder, weights, layout, config={"tie_word_embeddings": True})
    done = run("--base", tmp_path / "base", "--delta", tmp_path / "delta")
    assert done.code == 0, done.err
    assert _same(_weights(done.folder), want)


def test_a_stated_digest_is_verified_and_stands_in_the_manifest(run: Run, root: Path, pair: tuple[Path, Path]) -> None:
    files = open_checkpoint(pair[1]).files
    digest = folder_digest({file.name: sha256((pair[1] / file.name).read_bytes()).hexdigest() for file in files})
    done = run("--base", pair[0], "--delta", pair[1], "--delta-digest", digest)
    manifest = Manifest.load(done.folder)
    assert manifest is not None
    assert manifest.inputs.delta is not None
    assert manifest.inputs.delta.fingerprint == digest
    wrong = run("--base", pair[0], "--delta", pair[1], "--base-digest", "0" * 64)
    assert (wrong.code, wrong.message["reason"]) == (65, "DigestMismatch")
    assert [path.name for path in root.iterdir()] == [done.folder.name]


def _fail_missing(base: Path, delta: Path) -> None:
    delta.rename(delta.with_name("elsewhere"))


def _fail_no_checkpoint(base: Path, delta: Path) -> None:
    (base / "model.safetensors").unlink()


def _fail_no_config(base: Path, delta: Path) -> None:
    (base / "config.json").unlink()


def _rewrite(folder: Path, weights: Weights, config: dict[str, Any] | None = None) -> None:
    folder.rename(folder.with_name(f"old-{folder.name}"))
    write_checkpoint(folder, weights, config=config)


def _fail_shape(base: Path, delta: Path) -> None:
    _rewrite(delta, delta_weights(2) | {"model.layers.0.self_attn.q_proj.weight": torch.zeros(8, 16).half()})


def _fail_tensor(base: Path, delta: Path) -> None:
    _rewrite(delta, {name: t for name, t in delta_weights(2).items() if "layers.1.mlp.down" not in name})


def _fail_extra_tensor(base: Path, delta: Path) -> None:
    _rewrite(base, {name: t for name, t in model_weights(1).items() if "layers.1.mlp.down" not in name})


def _fail_layer(base: Path, delta: Path) -> None:
    for folder, weights in ((base, model_weights(1)), (delta, delta_weights(2))):
        _rewrite(folder, {name: t for name, t in weights.items() if "layers.1." not in name})


def _fail_vocabulary(base: Path, delta: Path) -> None:
    _rewrite(delta, delta_weights(2, vocabulary=VOCABULARY - 1))


def _fail_config(base: Path, delta: Path) -> None:
    _rewrite(delta, delta_weights(2), config={"num_attention_heads": 4})


def _fail_not_a_delta(base: Path, delta: Path) -> None:
    _rewrite(delta, model_weights(2))


def _fail_not_a_base(base: Path, delta: Path) -> None:
    _rewrite(base, delta_weights(1, dtype=torch.bfloat16))


def _fail_tokenizer(base: Path, delta: Path) -> None:
    (delta / "tokenizer.json").unlink()


def _fail_truncated(base: Path, delta: Path) -> None:
    path = delta / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])


def _fail_dtype(base: Path, delta: Path) -> None:
    _rewrite(base, model_weights(1) | {"model.layers.0.self_attn.q_proj.weight": torch.ones(16, 16).to(torch.int8)})


@pytest.mark.parametrize(
    ("damage", "reason", "names"),
    [
        (_fail_missing, "SourceNotFound", "/delta does not exist"),
        (_fail_no_checkpoint, "NotACheckpoint", "/base holds no model.safetensors"),
        (_fail_no_config, "NotACheckpoint", "/base has no config.json"),
        (_fail_shape, "ShapeMismatch", "model.layers.0.self_attn.q_proj.weight"),
        (_fail_tensor, "TensorMissing", "/delta lacks model.layers.1.mlp.down_proj.weight"),
        (_fail_extra_tensor, "TensorMissing", "/base lacks model.layers.1.mlp.down_proj.weight"),
        (_fail_layer, "TensorMissing", "lacks layer 1 of the 2"),
        (_fail_vocabulary, "VocabularyMismatch", "64 rows in the base and 63 in the delta"),
        (_fail_config, "ConfigMismatch", "num_attention_heads is 2"),
        (_fail_not_a_delta, "NotADelta", "/delta looks like a whole model"),
        (_fail_not_a_base, "NotABase", "/base looks like a delta"),
        (_fail_tokenizer, "TokenizerBroken", "/delta has no tokenizer.json"),
        (_fail_truncated, "TruncatedShard", "/delta/model.safetensors"),
        (_fail_dtype, "UnsupportedDtype", "model.layers.0.self_attn.q_proj.weight"),
    ],
)
def test_wrong_input_is_one_sentence_and_nothing_visible(
    run: Run, root: Path, pair: tuple[Path, Path], damage: Callable[[Path, Path], None], reason: str, names: str
) -> None:
    damage(*pair)
    done = run("--base", pair[0], "--delta", pair[1])
    assert done.code == 65
    assert done.message["reason"] == reason
    assert done.message["retryable"] is False
    assert names in done.message["message"]
    assert done.err == f"vicuna-server merge: {reason}: {done.message['message']}\n"
    assert not done.events
    assert _nothing_visible(root)


def test_all_that_is_wrong_is_said_at_once(run: Run, pair: tuple[Path, Path]) -> None:
    _fail_shape(*pair)
    _fail_tokenizer(*pair)
    (pair[0] / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    done = run("--base", pair[0], "--delta", pair[1])
    assert done.message["reason"] == "ConfigMismatch"
    assert "ShapeMismatch: " in done.message["message"]
    assert "TokenizerBroken: " in done.message["message"]


def test_both_sources_missing_are_both_named(run: Run, tmp_path: Path) -> None:
    done = run("--base", tmp_path / "x", "--delta", tmp_path / "y")
    assert done.message["reason"] == "SourceNotFound"
    assert f"{tmp_path}/x does not exist" in done.message["message"]
    assert f"{tmp_path}/y does not exist" in done.message["message"]


def test_an_unknown_prompt_format_asks_for_it_although_the_path_says_vicuna(tmp_path: Path, run: Run) -> None:
    base = write_checkpoint(tmp_path / "lmsys" / "vicuna-7b-v1.1", model_weights(1))
    done = run("--base", base, template=None)
    assert (done.code, done.message["reason"]) == (65, "ChatTemplateUnknown")


@pytest.mark.parametrize(
    ("words", "code", "reason"),
    [
        (["--delta-digest", "12"], 64, "UsageError"),
        (["--adapter", "s3://bucket/x"], 64, "UsageError"),
    ],
)
def test_what_is_not_understood_is_refused(
    run: Run, pair: tuple[Path, Path], words: list[str], code: int, reason: str
) -> None:
    done = run("--base", pair[0], "--delta", pair[1], *words)
    assert (done.code, done.message["reason"]) == (code, reason)


def test_an_unknown_flag_is_a_usage_error() -> None:
    with pytest.raises(SystemExit) as caught:
        main(["merge", "--base", "x", "--output", "y", "--dtype", "int4"])
    assert caught.value.code == 64


def test_an_output_that_is_a_file_is_named(run: Run, root: Path, pair: tuple[Path, Path]) -> None:
    root.write_text("in the way")
    done = run("--base", pair[0], "--delta", pair[1])
    assert (done.code, done.message["reason"]) == (65, "OutputNotWritable")
    assert str(root) in done.err


def test_a_volume_too_small_is_seen_before_the_first_byte(
    run: Run, root: Path, pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    done = run("--base", pair[0], "--delta", pair[1])
    assert (done.code, done.message["reason"], done.message["retryable"]) == (73, "OutOfSpace", True)
    assert "has 0.00 MB free and needs 1." in done.message["message"]
    assert _nothing_visible(root)


def test_a_volume_too_small_is_listed_beside_what_else_is_wrong(
    run: Run, pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    _fail_shape(*pair)
    done = run("--base", pair[0], "--delta", pair[1])
    assert (done.code, done.message["reason"]) == (65, "ShapeMismatch")
    size = sum(2 * tensor.numel() for tensor in model_weights(1).values())
    assert "has 0.00 MB free and needs" in done.message["message"]
    assert f"({size} bytes)" in done.message["message"]


@pytest.mark.parametrize("call", ["write", "fsync", "mkdir"])
def test_a_volume_that_fills_up_leaves_nothing(
    run: Run, root: Path, pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    root.mkdir()

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        done = run("--base", pair[0], "--delta", pair[1])
    assert (done.code, done.message["reason"]) == (73, "OutOfSpace")
    assert _nothing_visible(root)


def test_everything_is_durable_before_it_is_visible(
    run: Run, root: Path, pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a power cut could leave an artifact whose name is on the disk and whose bytes are not."""
    calls: list[tuple[str, str]] = []

    def noting(call: str, name: Callable[..., str]) -> None:
        real = getattr(os, call)

        def noted(*args: Any) -> Any:
            calls.append((call, name(*args)))
            return real(*args)

        monkeypatch.setattr(os, call, noted)

    for call in ("write", "fsync"):
        noting(call, lambda descriptor, *_: os.readlink(f"/proc/self/fd/{descriptor}"))
    noting("rename", lambda old, *_: str(old))
    done = run("--base", pair[0], "--delta", pair[1])
    shown = max(place for place, (call, _) in enumerate(calls) if call == "rename")
    staging = calls[shown][1]
    for path in done.folder.iterdir():
        ours = [place for place, (_, name) in enumerate(calls) if name == f"{staging}/{path.name}"]
        assert [calls[place][0] for place in ours][-2:] == ["write", "fsync"], path.name
        assert ours[-1] < calls.index(("fsync", staging)) < shown
    assert ("fsync", str(root)) in calls[shown:]


def test_a_volume_that_is_full_once_the_artifact_is_visible_is_said_to_be_full(
    run: Run, root: Path, pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if os.path.samestat(os.fstat(descriptor), root.stat()):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        done = run("--base", pair[0], "--delta", pair[1])
    assert (done.code, done.message["reason"]) == (73, "OutOfSpace")
    assert run("--base", pair[0], "--delta", pair[1]).code == 0


def test_a_signal_ends_the_merge_and_leaves_nothing(run: Run, root: Path, pair: tuple[Path, Path]) -> None:
    """The rate makes the merge last for hours; the signal comes once its staging folder is there."""

    def interrupt() -> None:
        for _ in range(3000):
            if list(root.glob(".staging-*/*.safetensors")):
                break
            threading.Event().wait(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=interrupt)
    thread.start()
    done = run("--base", pair[0], "--delta", pair[1], "--max-bytes-per-second", "1")
    thread.join()
    assert (done.code, done.message["reason"], done.message["retryable"]) == (75, "Interrupted", True)
    assert _nothing_visible(root)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_two_mergers_at_once_make_one_artifact(run: Run, root: Path, pair: tuple[Path, Path]) -> None:
    """The second finds the claim of the first, waits, and uses its artifact without writing."""
    from io import StringIO

    from vicuna_server.merge.job import run_merge
    from vicuna_server.merge.request import Request
    from vicuna_server.run.control import Control
    from vicuna_server.run.reporter import JsonLines

    streams = [StringIO(), StringIO()]
    found: list[Manifest] = []

    def merge(stream: StringIO) -> None:
        request = Request(str(pair[0]), str(pair[1]), root, chat_template="vicuna_v1.1")
        found.append(run_merge(request, Control(JsonLines(stream), threading.Event(), 50_000)))

    threads = [threading.Thread(target=merge, args=(stream,)) for stream in streams]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 2
    assert found[0] == found[1]
    assert [path.name for path in root.iterdir()] == [found[0].artifact_id]
    assert sorted(bool(stream.getvalue()) for stream in streams) == [False, True]


def test_a_reader_who_leaves_does_not_stop_the_merge(pair: tuple[Path, Path], root: Path) -> None:
    command = [sys.executable, "-m", "vicuna_server", "merge", "--base", str(pair[0]), "--delta", str(pair[1])]
    command += ["--output", str(root), "--chat-template", "vicuna_v1.1"]
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as gone:
        done = subprocess.run(command, stdout=gone, stderr=subprocess.PIPE, text=True, timeout=100, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert len([path for path in root.iterdir() if not path.name.startswith(".")]) == 1
