"""The command `llm`, told of the servers by a file of its own."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from conftest import RANDOM, SCRIPTED, Served
from llm.cli import cli
from weather import QUESTION, City

pytestmark = [RANDOM, SCRIPTED]

FUNCTION = "def weather(city: str) -> str:\n    return 'sunny'\n"


@pytest.fixture(autouse=True)
def told(base_url: str, model: str, actor: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [
        {"model_id": "ours", "model_name": model, "api_base": base_url, "can_stream": True},
        {"model_id": "actor", "model_name": actor.model, "api_base": actor.base_url},
    ]
    entries[1] |= {"supports_schema": True, "supports_tools": True}
    (tmp_path / "extra-openai-models.yaml").write_text(json.dumps(entries))  # JSON is YAML
    monkeypatch.setenv("LLM_USER_PATH", str(tmp_path))
    monkeypatch.setenv("OPENAI_API_KEY", "none")


def run(*words: str) -> Result:
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 0, done.output
    return done


def test_prompts_with_and_without_a_stream() -> None:
    words = ["-m", "ours", "-o", "max_tokens", "8", "-o", "temperature", "0", "--usage", "Hi"]
    streamed, whole = run(*words), run(*words, "--no-stream")
    assert streamed.stdout == whole.stdout
    assert "8 output" in streamed.stderr


@pytest.mark.parametrize("more", [[], ["--no-stream"]], ids=["stream", "whole"])
def test_a_schema_and_a_tool(more: list[str]) -> None:
    assert City.model_validate_json(run("-m", "actor", "--schema", "city, capital bool", "Hi", *more).stdout)
    assert "sunny" in run("-m", "actor", "--functions", FUNCTION, QUESTION, *more).stdout
