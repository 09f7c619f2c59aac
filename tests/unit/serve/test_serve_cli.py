"""`vicuna-server serve` refusing to start: reason, one sentence, exit code, termination message."""

import hashlib
import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from vicuna_contract.names import ARTIFACT_DIGEST_VARIABLE
from vicuna_contract.serve_arguments import ServeArguments
from vicuna_server.api.cli import _vllm_settings
from vicuna_server.artifacts.manifest import FileEntry, Inputs, Manifest, Recipe, Source, Tool
from vicuna_server.asgi.listening import bind
from vicuna_server.cli import main


def write_artifact(folder: Path, artifact_id: str = "0123456789abcdef") -> Path:
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    manifest = Manifest(
        artifact_id=artifact_id,
        inputs=Inputs(base=Source(source="file:///base", fingerprint="x")),
        recipe=Recipe(kind="none", dtype="float16", version=1),
        chat_template="vicuna_v1.1",
        tensor_count=0,
        total_size=0,
        files=[FileEntry(path="config.json", size=2, sha256=hashlib.sha256(b"{}").hexdigest())],
        tool=Tool(name="test", version="0"),
    )
    (folder / "vicuna-manifest.json").write_text(manifest.to_json())
    return folder


@pytest.fixture
def termination_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "termination-log"
    monkeypatch.setenv("VICUNA_TERMINATION_LOG", str(path))
    return path


def serve(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    code = main(["serve", "--host", "127.0.0.1", "--port", "0", *words])
    return code, capsys.readouterr().err.strip().splitlines()[-1]


def test_a_missing_folder(tmp_path: Path, termination_log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = serve(capsys, "--model", str(tmp_path / "none"))
    assert code == 65
    assert said.startswith("vicuna-server serve: ModelNotFound: ")
    assert str(tmp_path / "none") in said
    written = json.loads(termination_log.read_text())
    assert written["reason"] == "ModelNotFound"
    assert written["retryable"] is False
    assert written["message"] in said


def test_a_folder_that_is_not_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = serve(capsys, "--model", str(tmp_path))
    assert (code, "ModelNotFound" in said, "config.json" in said) == (65, True, True)


@pytest.mark.parametrize("scripted", [True, False])
def test_another_artifact_than_expected(
    scripted: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VICUNA_ENGINE", "scripted" if scripted else "transformers")
    folder = write_artifact(tmp_path / "a")
    code, said = serve(capsys, "--model", str(folder), "--artifact-id", "ffffffffffffffff")
    assert code == 65
    assert "ArtifactMismatch" in said
    assert "0123456789abcdef" in said
    assert "ffffffffffffffff" in said


def test_an_artifact_id_needs_a_manifest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.json").write_text("{}")
    code, said = serve(capsys, "--model", str(tmp_path), "--artifact-id", "ffffffffffffffff")
    assert (code, "ArtifactMismatch" in said) == (65, True)


def test_a_file_of_another_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_artifact(tmp_path / "a")
    (folder / "config.json").write_text("{  }")
    code, said = serve(capsys, "--model", str(folder))
    assert (code, "ArtifactDamaged" in said, "config.json" in said) == (65, True, True)


def test_other_bytes_of_the_same_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_artifact(tmp_path / "a")
    (folder / "config.json").write_text("[]")
    code, said = serve(capsys, "--model", str(folder))
    assert code == 65
    assert f"ArtifactDamaged: {folder / 'config.json'} has other bytes than its manifest says" in said


@pytest.mark.parametrize("scripted", [True, False])
@pytest.mark.parametrize("stated", ["flag", "environment"])
def test_other_files_than_the_merge_reported(
    scripted: bool, stated: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Config and manifest were changed together: only who merged knows what they were."""
    monkeypatch.setenv("VICUNA_ENGINE", "scripted" if scripted else "transformers")
    folder = write_artifact(tmp_path / "a")
    manifest = Manifest.load(folder)
    assert manifest is not None
    words = []
    if stated == "flag":
        words = ["--artifact-digest", "f" * 64]
    else:
        monkeypatch.setenv(ARTIFACT_DIGEST_VARIABLE, "f" * 64)
    code, said = serve(capsys, "--model", str(folder), *words)
    assert code == 65
    assert "ArtifactMismatch" in said
    assert manifest.digest in said
    assert "f" * 64 in said


def test_a_file_that_no_manifest_lists(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_artifact(tmp_path / "a")
    manifest = Manifest.load(folder)
    assert manifest is not None
    (folder / "README.md").touch()
    (folder / "chat_template.jinja").write_text("{{ 'another prompt' }}")
    code, said = serve(capsys, "--model", str(folder), "--artifact-digest", manifest.digest)
    assert (code, "ArtifactDamaged" in said, "chat_template.jinja is not in its manifest" in said) == (65, True, True)


@pytest.mark.parametrize("flag", ["--max-gpu-memory", "--kv-cache-memory"])
def test_what_is_not_a_quantity(
    flag: str, tmp_path: Path, termination_log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_artifact(tmp_path / "model")
    code, said = serve(capsys, "--model", str(folder), flag, "much")
    assert (code, flag in said, "'much' is not a quantity" in said) == (64, True, True)
    assert json.loads(termination_log.read_text())["reason"] == "UsageError"


def test_a_port_in_use(
    tmp_path: Path, termination_log: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VICUNA_ENGINE", "scripted")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, said = serve(capsys, "--model", str(tmp_path), "--port", str(port))
    assert code == 64
    assert said.startswith("vicuna-server serve: PortInUse: ")
    assert str(port) in said
    assert json.loads(termination_log.read_text())["reason"] == "PortInUse"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("VICUNA_PORT", "http"),
        ("VICUNA_PORT", "70000"),
        ("VICUNA_DEVICE", "tpu"),
        ("VICUNA_MAX_CONCURRENCY", "0"),
        ("VICUNA_NUM_GPUS", "-1"),
    ],
)
def test_a_wrong_variable_is_wrong_usage(
    variable: str, value: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SystemExit) as caught:
        main(["serve", "--model", str(tmp_path)])
    assert caught.value.code == 64
    assert variable.removeprefix("VICUNA_").replace("_", "-").lower() in (
        capsys.readouterr().err.lower().replace("_", "-")
    )


@pytest.mark.parametrize(
    ("variable", "value"), [("VICUNA_ENGINE", "magic"), ("VICUNA_SCRIPTED_TOKENS_PER_SECOND", "fast")]
)
def test_a_wrong_engine_variable_is_wrong_usage(
    variable: str, value: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VICUNA_ENGINE", "scripted")
    monkeypatch.setenv(variable, value)
    code, said = serve(capsys, "--model", str(tmp_path))
    assert (code, variable in said) == (64, True)


def test_flags_win_over_variables(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VICUNA_MODEL", str(tmp_path / "from-env"))
    assert "from-env" in serve(capsys)[1]
    assert "from-flag" in serve(capsys, "--model", str(tmp_path / "from-flag"))[1]


def test_an_unknown_host_is_an_error_in_one_sentence() -> None:
    with pytest.raises(Exception, match=r"cannot listen on 256\.0\.0\.1") as caught:
        bind("256.0.0.1", 0)
    assert getattr(caught.value, "reason", "") == "AddressUnusable"


@pytest.mark.long
@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("vicuna_server.api.app", ("torch", "transformers", "jwt")),
        ("vicuna_server.api.cli", ("torch", "transformers", "fastapi")),
        ("vicuna_server.engine.scripted", ("torch", "transformers")),
        ("vicuna_server.chat.cli", ("torch", "transformers", "fastapi")),
        ("vicuna_server.engine.grammar.process", ("torch", "transformers", "asyncio", "ssl")),
        ("vicuna_server.engine.template_process", ("torch", "transformers", "asyncio", "ssl")),
    ],
)
def test_imports_stay_light(module: str, absent: tuple[str, ...]) -> None:
    code = f"import sys, {module}; print([name for name in {absent!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_response_does_not_wait_for_the_acknowledgement_of_its_head() -> None:
    # 40 ms for each whole response on a kept connection, while accepted sockets had no TCP_NODELAY
    with bind("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.parametrize(
    ("words", "digest"),
    [
        (["--revision", "0a0a0a0a"], "revision 0a0a0a0a"),
        (["--revision", "0a0a0a0a", "--engine-digest", "ffff"], "ffff"),
    ],
)
def test_what_stands_for_a_vllm_server(words: list[str], digest: str) -> None:
    """Without a digest nothing is known of its arguments, but that all of one revision have the same."""
    line = ["serve", "--model", "/m", "--engine", "vllm", "--engine-url", "http://127.0.0.1:1", *words]
    settings = _vllm_settings(ServeArguments.from_argv(line))
    assert settings is not None
    assert settings.digest == digest
