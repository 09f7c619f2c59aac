"""After `pip install vicuna-operator`, without extras, each command works or says in one line which extra it lacks."""

import json
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from support.serving import write_tiny_model
from vicuna_server.cli import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

# Imported before anything else: the modules named in REFUSED_MODULES are not found, as if they were not installed.
SITECUSTOMIZE = """
import os
from importlib.machinery import PathFinder

refused, find = frozenset(os.environ["REFUSED_MODULES"].split()), PathFinder.find_spec

def find_spec(cls, name, path=None, target=None):
    return None if {name, name.partition(".")[0]} & refused else find(name, path, target)

PathFinder.find_spec = classmethod(find_spec)
"""


def installed_with(names: list[str]) -> set[str]:
    """Return the distributions that come with these, themselves included."""
    found: set[str] = set()
    todo = [Requirement(name).name for name in names]
    while todo:
        name = canonicalize_name(todo.pop())
        if name not in found:
            found.add(name)
            needed = [Requirement(text) for text in requires(name) or ()]
            todo += [item.name for item in needed if item.marker is None or item.marker.evaluate({"extra": ""})]
    return found


CORE = installed_with(PROJECT["dependencies"])
EXTRAS = sorted(
    module
    for module, distributions in packages_distributions().items()
    if not CORE & {canonicalize_name(name) for name in distributions} and not module.startswith(("vicuna_", "_"))
)


def run(
    command: str, words: list[str], folder: Path, refused: list[str], **environment: str
) -> subprocess.CompletedProcess[str]:
    (folder / "sitecustomize.py").write_text(SITECUSTOMIZE)
    module, _, function = PROJECT["scripts"][command].partition(":")
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        [sys.executable, "-c", f"import sys; from {module} import {function}; sys.exit({function}())", *words],
        env={**os.environ, "PYTHONPATH": path, "REFUSED_MODULES": " ".join(refused), **environment},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_is_the_extras_that_are_refused() -> None:
    assert {"numpy", "torch", "fastapi", "httpx", "kopf", "yaml", "kubernetes", "rich"} <= set(EXTRAS)
    assert not {"pydantic", "pydantic_core", "typing_extensions"} & set(EXTRAS)


# command, its words, the extra in its sentence
LACKING = [
    ("vicuna-operator", "run", "operator"),
    ("vicuna-operator", "up", "operator,server"),
    ("vicuna-operator", "up {root}/examples/demo.yaml", "operator,server"),
    ("vicuna-server", "merge", "server"),
    ("vicuna-server", "merge --base . --output out", "server"),
    ("vicuna-server", "inspect .", "server"),
    ("vicuna-server", "make-delta --base . --tuned . --output out", "server"),
    ("vicuna-server", "serve", "server"),
    ("vicuna-server", "serve --model .", "server"),
    ("vicuna-server", "gateway", "gateway"),
    ("vicuna-server", "gateway --no-keys --upstream a=http://127.0.0.1:1", "gateway"),
    ("vicuna-server", "chat", "server"),
    ("vicuna-server", "chat --url http://127.0.0.1:1 --prompt hello", "server"),
]


@pytest.mark.parametrize(("command", "words", "extra"), LACKING)
def test_a_command_says_which_extra_it_lacks(command: str, words: str, extra: str, tmp_path: Path) -> None:
    done = run(command, words.format(root=ROOT).split(), tmp_path, EXTRAS)
    assert (done.returncode, done.stdout) == (69, ""), done.stderr
    prefix = command if command == "vicuna-operator" else f"{command} {words.split()[0]}: ExtraMissing"
    sentence = rf'{prefix}: the module \S+, which comes with the extra "{extra}", is not installed; run: pip install '
    assert re.fullmatch(sentence + re.escape(f'"{PROJECT["name"]}[{extra}]"\n'), done.stderr), done.stderr


WORKING = [
    ("vicuna-operator", "--help"),
    ("vicuna-operator", "--version"),
    ("vicuna-operator", "version"),
    ("vicuna-operator", "run --help"),
    ("vicuna-operator", "up --help"),
    ("kubectl-vicuna", "--help"),
    ("kubectl-vicuna", "--version"),
    ("kubectl-vicuna", "chat --help"),
    ("vicuna-server", "--help"),
    ("vicuna-server", "--version"),
    *(("vicuna-server", f"{name} --help") for name in COMMANDS),
    ("vicuna-server", "artifacts list ."),
    ("vicuna-server", "artifacts verify ."),
    ("vicuna-server", "artifacts prune . --keep none"),
]


@pytest.mark.parametrize(("command", "words"), WORKING)
def test_what_needs_no_extra_works(command: str, words: str, tmp_path: Path) -> None:
    done = run(command, words.split(), tmp_path, EXTRAS)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


ONE_MODULE = [
    ("vicuna-operator", "run", "kubernetes"),
    ("vicuna-server", "merge --base {model} --output out --chat-template vicuna_v1.1 --dtype bfloat16", "torch"),
    ("vicuna-server", "inspect {model}", "rich"),
    ("vicuna-server", "serve --model {model} --port 0", "jinja2"),
    ("vicuna-server", "serve --model {model} --port 0 --engine vllm --engine-url http://127.0.0.1:1", "aiohttp"),
    ("vicuna-server", "gateway --no-keys --upstream a=http://127.0.0.1:1", "kubernetes"),
]
ONE_MODULE_MORE = [
    ("vicuna-operator", "run", "prometheus_client"),
    ("vicuna-server", "merge --base hf://a/b@main --output out", "huggingface_hub"),
    ("vicuna-server", "serve --model {model} --port 0", "starlette"),
    ("vicuna-server", "serve --model {model} --port 0", "tokenizers"),
    ("vicuna-server", "serve --model {model} --port 0", "safetensors"),
    ("vicuna-server", "serve --model {model} --port 0 --engine vllm --engine-url http://127.0.0.1:1", "httptools"),
    ("vicuna-server", "serve --model {model} --port 0 --engine vllm --engine-url http://127.0.0.1:1", "tokenizers"),
    ("vicuna-server", "chat --model {model} --prompt hello", "accelerate"),
]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.mark.parametrize(
    ("command", "words", "module"),
    [*ONE_MODULE, *(pytest.param(*row, marks=pytest.mark.full) for row in ONE_MODULE_MORE)],
)
def test_one_module_missing_deep_inside_is_named_too(
    command: str, words: str, module: str, tiny: Path, tmp_path: Path
) -> None:
    log = tmp_path / "termination-log"
    settings = {"VICUNA_SERVER_IMAGE": "i", "KUBECONFIG": "/none", "VICUNA_TERMINATION_LOG": str(log)}
    done = run(command, words.format(model=tiny).split(), tmp_path, [module], **settings)
    assert done.returncode == 69, done.stderr
    assert f"the module {module}, which comes with the extra " in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    if log.exists() and command == "vicuna-server":
        said = json.loads(log.read_text())
        assert (said["reason"], said["retryable"]) == ("ExtraMissing", False)


@pytest.mark.parametrize(("command", "words", "module"), [
    ("vicuna-server", "serve --model .", "vicuna_server.api.app"),
    ("vicuna-server", "artifacts list .", "vicuna_server.artifacts.listing"),
    ("vicuna-operator", "up {root}/examples/demo.yaml", "vicuna_operator.local.up"),
    ("kubectl-vicuna", "status x", "vicuna_operator.plugin.tree"),
])  # fmt: skip
def test_a_missing_module_of_ours_stays_a_bug(command: str, words: str, module: str, tmp_path: Path) -> None:
    done = run(command, words.format(root=ROOT).split(), tmp_path, [module])
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"ModuleNotFoundError: No module named '{module}'"
