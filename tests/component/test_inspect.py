"""`vicuna-server inspect`: what sources are, alone and together, on small checkpoints."""

import errno
import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.checkpoints import CONFIG, VOCABULARY, delta_weights, model_weights, write_checkpoint, write_tokenizer
from support.meta import whole_weights, write_meta
from vicuna_server.artifacts.identity import folder_digest
from vicuna_server.cli import main
from vicuna_server.inspect import inspection

COMMAND = [sys.executable, "-m", "vicuna_server", "inspect"]


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    base = write_checkpoint(tmp_path / "base", model_weights(1), "safetensors-sharded")
    return base, write_checkpoint(tmp_path / "delta", delta_weights(2))


Inspect = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def inspect(capsys: pytest.CaptureFixture[str]) -> Inspect:
    def run(*words: object) -> tuple[int, dict[str, Any]]:
        code = main(["inspect", "--json", *map(str, words)])
        return code, json.loads(capsys.readouterr().out)

    return run


def test_one_source_says_what_it_is(inspect: Inspect, pair: tuple[Path, Path]) -> None:
    code, report = inspect(pair[0])
    assert code == 0
    (source,) = report["sources"]
    weights = model_weights(1)
    parameters = sum(tensor.numel() for tensor in weights.values())
    assert source["uri"] == pair[0].as_uri()
    assert (source["type"], source["layout"]) == ("model", "safetensors")
    assert {file["name"]: file["size"] for file in source["files"]} == {
        path.name: path.stat().st_size for path in pair[0].iterdir()
    }
    assert (source["tensors"], source["parameters"], source["dtypes"]) == (
        len(weights),
        parameters,
        {"F16": parameters},
    )
    assert source["vocabulary"] == VOCABULARY
    assert source["architecture"]["hidden_size"] == CONFIG["hidden_size"]
    assert source["tokenizer"] == {"files": ["tokenizer.json", "tokenizer_config.json"], "repaired": []}
    assert source["fingerprint"].startswith("sampled:")
    assert source["digest"] is source["memory"] is source["artifact"] is source["chatTemplate"] is None
    assert report["plan"] is None


def test_a_delta_is_recognised_and_what_would_be_repaired_is_named(inspect: Inspect, pair: tuple[Path, Path]) -> None:
    write_tokenizer(pair[1], tokenizer_class="LLaMATokenizer")
    (source,) = inspect(pair[1])[1]["sources"]
    assert source["type"] == "delta"
    assert source["tokenizer"]["repaired"] == ["tokenizer_config.json"]


@pytest.mark.parametrize("layout", ["bin", "meta"])
def test_other_layouts_are_named(inspect: Inspect, tmp_path: Path, layout: str) -> None:
    if layout == "meta":
        folder = write_meta(tmp_path / "base", whole_weights(), 2)
    else:
        folder = write_checkpoint(tmp_path / "base", model_weights(1), layout)
    code, report = inspect(folder)
    assert (code, report["sources"][0]["type"]) == (0, "model")
    assert report["sources"][0]["layout"] == {"bin": "pickle", "meta": "meta"}[layout]


def test_base_and_delta_together_are_the_merges_own_preflight(
    inspect: Inspect, pair: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, report = inspect(*pair, "--chat-template", "vicuna_v1.1", "--dtype", "bfloat16")
    assert code == 0
    plan = report["plan"]
    assert (plan["kind"], plan["dtype"], plan["chatTemplate"]) == ("additive-v1.1", "bfloat16", "vicuna_v1.1")
    merge = ["merge", "--base", str(pair[0]), "--delta", str(pair[1]), "--chat-template", "vicuna_v1.1"]
    assert main([*merge, "--dtype", "bfloat16", "--output", str(tmp_path / "out"), "--quiet"]) == 0
    done = json.loads(capsys.readouterr().out.splitlines()[-1])  # after what bfloat16 costs
    assert plan["artifactID"] == done["artifactID"]
    written = {file.name: file.stat().st_size for file in Path(done["path"]).glob("*.safetensors")}
    assert {shard["name"]: shard["size"] for shard in plan["shards"]} == written
    code, report = inspect(done["path"])
    (source,) = report["sources"]
    assert (code, source["type"], source["chatTemplate"]) == (0, "artifact", "vicuna_v1.1")
    assert source["artifact"]["artifactID"] == done["artifactID"]


def test_all_that_keeps_a_pair_from_merging_is_listed_and_the_exit_code_is_65(
    inspect: Inspect, pair: tuple[Path, Path]
) -> None:
    (pair[1] / "config.json").write_text(json.dumps(CONFIG | {"rms_norm_eps": 1e-5, "max_position_embeddings": 128}))
    (pair[1] / "tokenizer.json").unlink()
    code, report = inspect(*pair)
    assert code == 65
    assert report["plan"] is None
    assert [one["reason"] for one in report["problems"]] == ["ConfigMismatch", "TokenizerBroken"]
    assert [one["reason"] for one in report["warnings"]] == ["ConfigDiffers"]
    assert "rms_norm_eps is 1e-06 against 1e-05" in report["problems"][0]["message"]


def test_a_source_that_is_not_there_is_a_problem_of_its_own(inspect: Inspect, pair: tuple[Path, Path]) -> None:
    code, report = inspect(pair[0], pair[1] / "nowhere")
    assert code == 65
    assert [source["type"] for source in report["sources"]] == ["model", "unknown"]
    assert report["sources"][1]["problems"][0]["reason"] == "SourceNotFound"


def test_the_digest_is_the_one_a_merge_verifies(inspect: Inspect, pair: tuple[Path, Path]) -> None:
    code, report = inspect(*pair, "--digest", "--chat-template", "vicuna_v1.1")
    assert code == 0
    for folder, source in zip(pair, report["sources"], strict=True):
        assert source["digest"] == folder_digest(
            {path.name: sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
        )


def test_memory_is_told_by_type_and_quantisation(inspect: Inspect, pair: tuple[Path, Path]) -> None:
    (source,) = inspect(pair[0], "--memory")[1]["sources"]
    rows = {(row["dtype"], row["quantization"]): row for row in source["memory"]}
    linear = sum(t.numel() for name, t in model_weights(1).items() if t.dim() == 2 and "layers" in name)
    others = source["parameters"] - linear
    assert rows["float16", "none"]["weights"] == 2 * source["parameters"]
    assert rows["float32", "none"]["weights"] == 4 * source["parameters"]
    scales = 2 * (16 * 4 + 32 * 2 + 16) * 4  # int8 has one of 4 bytes per output of every linear layer
    assert rows["float16", "int8"]["weights"] == linear + scales + 2 * others
    assert rows["float16", "nf4"]["weights"] == linear * 9 // 16 + 2 * others
    token = 2 * 2 * 16 * 2  # keys and values, layers, width, bytes
    assert rows["float16", "fp8"]["weights"] == linear + 2 * 7 * 4 + 2 * others  # a scale of 4 bytes per matrix
    assert rows["float16", "none"]["cachePerToken"] == token
    assert rows["float16", "none"]["cachePerContext"] == token * 64


def test_what_has_room_on_gpus_is_told_and_over_how_many_vllm_can_split(
    inspect: Inspect, pair: tuple[Path, Path]
) -> None:
    (source,) = inspect(pair[0], "--memory")[1]["sources"]
    assert {row["tokens"] for row in source["memory"]} == {None}
    assert source["tensorParallel"] == [1, 2]
    (source,) = inspect(pair[0], "--memory", "--gpus", "2x2Gi")[1]["sources"]
    row = source["memory"][1]
    room = 2 * (int(2 * 2**30 * 0.9) - 2**30) - row["weights"]
    assert row["tokens"] == room // row["cachePerToken"]
    (source,) = inspect(pair[0], "--memory", "--gpus", "1Gi")[1]["sources"]
    assert {row["tokens"] for row in source["memory"]} == {0}


def test_room_on_gpus_as_text(pair: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(pair[0]), "--memory", "--gpus", "1Gi"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("memory ") and line.endswith("tokens that fit") for line in lines)
    assert sum(line.endswith("  none") for line in lines) == 6
    assert "tensor split  over 1, 2 GPUs (engine vllm)" in lines


@pytest.mark.parametrize("size", ["24", "0x24Gi", "2x", "x24Gi", "17x24Gi", "-1x24Gi", "2x0", "many"])
def test_what_is_no_size_of_gpus_is_a_usage_error(size: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["inspect", "/m", "--memory", f"--gpus={size}"])
    assert ended.value.code == 64
    assert "such as 24Gi, or 2x24Gi" in capsys.readouterr().err


def test_memory_is_unknown_where_the_config_does_not_tell(inspect: Inspect, tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", model_weights(1), config={"num_attention_heads": "two"})
    code, report = inspect(base, "--memory")
    assert (code, report["sources"][0]["memory"]) == (65, None)
    assert [one["reason"] for one in report["sources"][0]["problems"]] == ["ConfigBroken"]
    assert [one["reason"] for one in report["sources"][0]["warnings"]] == ["ConfigIncomplete"]


def test_the_text_is_plain_aligned_and_whole_where_it_is_piped(pair: tuple[Path, Path]) -> None:
    done = subprocess.run([*COMMAND, *map(str, pair)], capture_output=True, text=True, check=False)
    assert done.returncode == 65  # nothing tells the prompt format
    assert "\x1b" not in done.stdout
    lines = done.stdout.splitlines()
    assert f"model         {pair[0].as_uri()}" in lines
    assert f"delta         {pair[1].as_uri()}" in lines
    assert any(line.startswith("problem       ChatTemplateUnknown: ") for line in lines)
    assert not done.stderr


def test_a_terminal_gets_colour(pair: tuple[Path, Path]) -> None:
    main_end, terminal = pty.openpty()
    environment = os.environ | {"TERM": "xterm-256color"}
    environment.pop("NO_COLOR", None)
    with subprocess.Popen([*COMMAND, str(pair[0]), "--digest"], stdout=terminal, env=environment) as process:
        os.close(terminal)
        shown = b""
        try:
            while block := os.read(main_end, 65536):
                shown += block
        except OSError:  # the terminal's other end is closed
            pass
    os.close(main_end)
    assert process.returncode == 0
    assert b"\x1b[" in shown
    assert b"sha256:" in shown


def _exits_without_torch(*runs: list[str]) -> list[int]:
    """Run commands one after the other in one process; 99 where one has imported torch."""
    code = (
        "import json, sys; from vicuna_server.cli import main; "
        "codes = [99 if {'torch', 'transformers'} & sys.modules.keys() else code "
        "for words in json.loads(sys.argv[1]) for code in [main(words)]]; "
        "print(json.dumps(codes), file=sys.stderr)"
    )
    words = [sys.executable, "-c", code, json.dumps(runs)]
    done = subprocess.run(words, capture_output=True, check=False, text=True)
    return list(json.loads(done.stderr.splitlines()[-1]))


def test_what_needs_no_arithmetic_starts_without_torch(pair: tuple[Path, Path], tmp_path: Path) -> None:
    base, delta, out = str(pair[0]), str(pair[1]), str(tmp_path / "out")
    merge = ["merge", "--base", base, "--output", out, "--chat-template", "vicuna_v1.1"]
    assert main([*merge, "--delta", delta]) == 0  # which needs it, so that the next finds what it made
    runs = [["inspect", base, delta, "--chat-template", "vicuna_v1.1"], [*merge, "--delta", delta], merge, merge]
    runs += [["artifacts", "list", out], ["artifacts", "verify", out], ["artifacts", "prune", out, "--dry-run"]]
    assert _exits_without_torch(*runs) == [0] * len(runs)


def test_a_folder_of_any_name_is_found_by_path_and_by_uri(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "\u6a21\u578b 7B (v1) #2 100%", model_weights(1))
    assert main(["inspect", str(folder)]) == 0
    assert main(["inspect", folder.as_uri()]) == 0


@pytest.mark.parametrize("words", [["a", "b", "c"], ["s3://bucket/x"], ["hf://no-revision"], ["a", "--gpus=24Gi"]])
def test_what_is_not_understood_is_a_usage_error(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", *words]) == 64
    assert capsys.readouterr().err.startswith("vicuna-server inspect: UsageError: ")


_SCALARS = st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.floats()
_ANY = st.recursive(_SCALARS, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2))


@given(config=st.dictionaries(st.sampled_from([*CONFIG, "quantization_config", "rope_scaling"]), _ANY), manifest=_ANY)
@settings(max_examples=60, deadline=None)
def test_hostile_small_files_are_problems_never_tracebacks(
    tmp_path_factory: pytest.TempPathFactory, config: dict[str, Any], manifest: Any
) -> None:
    folder = write_checkpoint(tmp_path_factory.mktemp("hostile") / "base", model_weights(1), config=config)
    (folder / "vicuna-manifest.json").write_text(json.dumps(manifest))
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    assert main(["inspect", str(folder), "--memory"]) in (0, 65)
    assert main(["inspect", str(folder), str(folder), "--json"]) == 65


def test_what_a_file_says_cannot_steer_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = write_checkpoint(tmp_path / "base", model_weights(1), config={"model_type": "\x1b]0;owned\x07"})
    assert main(["inspect", str(base)]) == 0
    assert "model_type \\x1b]0;owned\\x07" in capsys.readouterr().out
    assert main(["inspect", str(base), "--json"]) == 0
    out = capsys.readouterr().out
    assert out.isascii()
    assert json.loads(out)["sources"][0]["architecture"]["model_type"] == "\x1b]0;owned\x07"


def test_half_a_surrogate_pair_in_a_config_is_a_problem_and_breaks_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = write_checkpoint(tmp_path / "base", model_weights(1), config={"model_type": "\ud800"})
    assert main(["inspect", str(base)]) == 65
    assert "config.json holds half a surrogate pair" in capsys.readouterr().out


_POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "ab" * 32 + "\nsize 17\n"


@pytest.mark.parametrize("name", ["tokenizer.json", "chat_template.jinja", "generation_config.json"])
def test_a_file_that_is_something_else_counts_where_it_would_go_into_the_artifact(
    inspect: Inspect, pair: tuple[Path, Path], name: str
) -> None:
    template = ("--chat-template", "vicuna_v1.1")
    (pair[0] / name).write_text(_POINTER)
    code, report = inspect(pair[0])
    assert code == 65
    assert "is a git-lfs pointer" in report["sources"][0]["problems"][0]["message"]
    code, report = inspect(*pair, *template)  # the delta's are used
    assert code == 0
    assert "is a git-lfs pointer" in report["sources"][0]["warnings"][0]["message"]
    (pair[1] / name).write_text(_POINTER)
    assert inspect(*pair, *template)[0] == 65


def test_a_repositorys_plain_name_is_told_how_a_hub_is_named(
    inspect: Inspect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, report = inspect("huggyllama/llama-7b")
    [problem] = report["sources"][0]["problems"]
    assert (code, problem["reason"]) == (65, "SourceNotFound")
    assert "say hf://huggyllama/llama-7b@main" in problem["message"]
    write_checkpoint(tmp_path / "huggyllama" / "llama-7b", model_weights(1))
    assert inspect("huggyllama/llama-7b")[0] == 0


def test_a_file_that_may_not_be_read_is_named(
    pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    refused = PermissionError(errno.EACCES, "Permission denied", str(pair[0] / "model.safetensors"))
    monkeypatch.setattr(inspection, "describe", Mock(side_effect=refused))
    assert main(["inspect", str(pair[0])]) == 65
    assert f"SourceForbidden: {pair[0] / 'model.safetensors'}: Permission denied" in capsys.readouterr().err


def test_a_closed_pipe_changes_no_exit_code(pair: tuple[Path, Path]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [*COMMAND, str(pair[0])],
        stdout=writing,
        stderr=subprocess.PIPE,
        check=False,
        env=os.environ | {"COLUMNS": "20"},
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")
