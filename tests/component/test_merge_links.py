"""Links of a source that lead out of it end a merge, whichever file they stand for; those inside are followed."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from support.adapters import adapter_config, low_rank_weights, write_adapter
from support.checkpoints import delta_weights, model_weights, write_checkpoint
from vicuna_contract.names import SOURCE_ROOTS_VARIABLE
from vicuna_server.cli import main

Merge = Callable[..., tuple[int, str]]


@pytest.fixture
def merge(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Merge:
    monkeypatch.setenv("VICUNA_TERMINATION_LOG", str(tmp_path / "log"))

    def run(*words: object) -> tuple[int, str]:
        flags = ["--output", str(tmp_path / "out"), "--chat-template", "vicuna_v1.1"]
        code = main(["merge", *flags, *map(str, words)])
        return code, capsys.readouterr().err

    return run


def artifacts(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "out").glob("[0-9a-f]*") if path.is_dir()]


NAMES = (
    *("chat_template.jinja", "chat_template.json", "merges.txt", "vocab.json", "added_tokens.json", "tokenizer.model"),
    *("generation_config.json", "config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"),
    *("model.safetensors", "model.safetensors.index.json"),
)
TARGETS = ("/etc/hostname", "../other/config.json", "/dev/zero")


@pytest.mark.parametrize(
    ("name", "target"),
    [*((name, "/proc/self/environ") for name in NAMES), *(("generation_config.json", target) for target in TARGETS)],
)
def test_no_file_of_a_source_is_read_elsewhere(tmp_path: Path, merge: Merge, name: str, target: str) -> None:
    write_checkpoint(tmp_path / "other", model_weights(2))
    base = write_checkpoint(tmp_path / "base", model_weights(1))
    (base / name).unlink(missing_ok=True)
    (base / name).symlink_to(target)
    code, said = merge("--base", base)
    assert code == 65
    assert f"LinkLeavesSource: {base / name} leads out of {base}" in said
    assert target in said
    assert not artifacts(tmp_path)


def test_deltas_and_adapters_are_held_to_it_too(tmp_path: Path, merge: Merge) -> None:
    base = write_checkpoint(tmp_path / "base", model_weights(1))
    delta = write_checkpoint(tmp_path / "delta", delta_weights(2))
    adapter = write_adapter(tmp_path / "adapter", low_rank_weights(3), adapter_config())
    for folder, name in ((delta, "model.safetensors"), (adapter, "adapter_config.json")):
        (folder / name).rename(tmp_path / name)
        (folder / name).symlink_to(tmp_path / name)
    code, said = merge("--base", base, "--delta", delta, "--adapter", adapter)
    assert code == 65
    assert said.count("leads out of") == 2


def test_who_asks_for_it_has_links_followed(tmp_path: Path, merge: Merge) -> None:
    base = write_checkpoint(tmp_path / "base", model_weights(1))
    (base / "model.safetensors").rename(tmp_path / "elsewhere")
    (base / "model.safetensors").symlink_to(tmp_path / "elsewhere")
    assert merge("--base", base)[0] == 65
    assert merge("--base", base, "--allow-links")[0] == 0
    assert merge("--base", base)[0] == 65, "asked for once is not asked for always"


def test_a_claims_links_reach_as_far_as_its_mount(
    tmp_path: Path, merge: Merge, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = tmp_path / "claim"
    base = write_checkpoint(claim / "models" / "base", model_weights(1))
    (claim / "blobs").mkdir()
    for number, path in enumerate(sorted(base.iterdir())):
        path.rename(claim / "blobs" / str(number))
        path.symlink_to(f"../../blobs/{number}")
    assert merge("--base", base)[0] == 65
    monkeypatch.setenv(SOURCE_ROOTS_VARIABLE, f"{claim}{os.pathsep}/elsewhere")
    assert merge("--base", base)[0] == 0
