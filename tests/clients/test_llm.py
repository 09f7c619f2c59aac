"""The command `llm`, told of the server by a file of its own."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from llm.cli import cli


@pytest.fixture
def told(base_url: str, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = {"model_id": "ours", "model_name": model, "api_base": base_url, "can_stream": True}
    (tmp_path / "extra-openai-models.yaml").write_text(json.dumps([entry]))  # JSON is YAML
    monkeypatch.setenv("LLM_USER_PATH", str(tmp_path))
    monkeypatch.setenv("OPENAI_API_KEY", "none")


@pytest.mark.usefixtures("told")
def test_prompts_with_and_without_a_stream() -> None:
    words = ["-m", "ours", "-o", "max_tokens", "8", "-o", "temperature", "0", "--usage", "Hi"]
    streamed, whole = (CliRunner().invoke(cli, [*words, *more]) for more in ([], ["--no-stream"]))
    assert (streamed.exit_code, whole.exit_code) == (0, 0), streamed.output + whole.output
    assert streamed.stdout == whole.stdout
    assert "8 output" in streamed.stderr
