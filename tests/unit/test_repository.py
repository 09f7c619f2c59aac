"""What must be true of the repository itself."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
IMAGES = sorted((ROOT / "images").rglob("*Dockerfile*"))


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return {
        canonicalize_name(name): version
        for name, _, version in (line.partition("==") for line in lines if line and not line.startswith("#"))
    }


def requirements() -> list[Requirement]:
    groups = [*PROJECT["optional-dependencies"].values(), *PYPROJECT["dependency-groups"].values()]
    texts = [text for group in groups for text in group if isinstance(text, str)]
    return [Requirement(text) for text in [*PROJECT["dependencies"], *texts]]


def python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_folder_operator_does_not_shadow_the_standard_library() -> None:
    assert not (ROOT / "operator" / "__init__.py").exists()
    assert not (ROOT / "server" / "__init__.py").exists()
    assert python("import operator; print(operator.add(1, 2))") == "3"


@pytest.mark.long
def test_importing_the_operator_registers_no_handler_and_loads_no_torch() -> None:
    code = """
import importlib, kopf, pkgutil, sys

def handlers():
    parts = ("_activities", "_watching", "_indexing", "_spawning", "_changing", "_webhooks")
    return [h.id for part in parts for h in getattr(kopf.get_default_registry(), part)._handlers]

before = handlers()  # kopf's own login fallback
import vicuna_operator
names = [m.name for m in pkgutil.walk_packages(vicuna_operator.__path__, "vicuna_operator.")]
for name in names:
    if not name.endswith("__main__"):
        importlib.import_module(name)
assert len(names) > 10, names
print(sorted({"torch", "transformers", "fastapi", "vicuna_server"} & set(sys.modules)), handlers() == before)
"""
    assert python(code) == "[] True"


def test_every_pin_is_within_its_bounds() -> None:
    pinned = pins()
    for requirement in requirements():
        name = canonicalize_name(requirement.name)
        assert name in pinned, f"{name} is not in constraints.txt"
        assert pinned[name] in requirement.specifier, f"{name}=={pinned[name]} is not {requirement.specifier}"


def test_every_dependency_of_a_user_is_bounded_above() -> None:
    extras = [text for extra in PROJECT["optional-dependencies"].values() for text in extra]
    for text in [*PROJECT["dependencies"], *extras]:
        assert any(spec.operator in ("<", "==", "~=") for spec in Requirement(text).specifier), text


def test_pins_are_exact_and_public() -> None:
    for name, version in pins().items():
        assert re.fullmatch(r"[0-9][0-9A-Za-z.]*", version), f"{name}=={version}: no local suffix, no range"


def test_one_version_everywhere() -> None:
    chart = yaml.safe_load((ROOT / "charts/vicuna-operator/Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == PROJECT["version"]


def test_the_changelogs_top_release_is_the_current_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    titles = re.findall(r"^## \[([^\]]+)\]", text, flags=re.MULTILINE)
    assert titles[0] == PROJECT["version"]


def test_make_help_lists_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text()
    phony = set(re.search(r"^\.PHONY:((?:.*\\\n)*.*)", makefile, flags=re.MULTILINE)[1].replace("\\", " ").split())  # type: ignore[index]
    done = subprocess.run(
        ["make", "--no-print-directory", "help"], cwd=ROOT, capture_output=True, text=True, timeout=30, check=True
    )
    listed = {line.split()[0]: line.split(maxsplit=1)[1:] for line in done.stdout.splitlines()}
    assert set(listed) == phony
    assert all(listed.values()), "every target says what it does"
    assert {"demo", "test", "e2e", "e2e-full", "check", "images"} <= phony, "the contract with others"


def test_every_target_in_the_makefile_is_phony_or_a_file() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z0-9-]+):(?!=)", makefile, flags=re.MULTILINE))
    done = subprocess.run(
        ["make", "--no-print-directory", "help"], cwd=ROOT, capture_output=True, text=True, timeout=30, check=True
    )
    assert targets == {line.split()[0] for line in done.stdout.splitlines()}


def test_images_take_only_what_the_allow_list_names() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    for line in lines:
        if line.startswith("!"):
            assert (ROOT / line[1:]).exists(), line
    for dockerfile in IMAGES:
        sources = re.findall(r"^COPY (?!--from)(.+) \S+$", dockerfile.read_text(), flags=re.MULTILINE)
        assert sources, dockerfile.name
        for source in " ".join(sources).split():
            allowed = [line[1:] for line in lines if line.startswith("!")]
            assert any(name.split("/")[0] == source or source.startswith(f"{name}/") for name in allowed), source


SERVERS = ("server", "gateway", "front")
COMMANDS = {"operator": "vicuna-operator", **dict.fromkeys(SERVERS, "vicuna-server")}


def test_every_image_is_looked_at() -> None:
    assert [file.name for file in IMAGES] == sorted(f"{name}.Dockerfile" for name in COMMANDS)
    makefile = (ROOT / "Makefile").read_text()
    assert all(f"images/{name}.Dockerfile" in makefile for name in COMMANDS), "make images builds it"


@pytest.mark.parametrize("dockerfile", IMAGES, ids=lambda file: file.name)
def test_images_run_as_nobody_in_particular_and_without_a_shell(dockerfile: Path) -> None:
    final = dockerfile.read_text().rpartition("\nFROM ")[2]
    command = COMMANDS[dockerfile.name.removesuffix(".Dockerfile")]
    assert re.findall(r"^USER .*$", final, flags=re.MULTILINE) == ["USER 65532:65532"]
    assert re.findall(r"^ENTRYPOINT .*$", final, flags=re.MULTILINE) == [f'ENTRYPOINT ["{command}"]']
    assert "pip install" not in final


def test_tests_that_share_fixtures_run_in_one_process(request: pytest.FixtureRequest) -> None:
    """Where pytest-xdist groups no tests, models are loaded once per process, and the run takes half as long again."""
    if not hasattr(request.config, "workerinput"):
        pytest.skip("one process runs all tests")
    assert request.node.nodeid.endswith("@tests/unit/test_repository.py")


def test_importing_the_unit_tests_imports_no_transformers() -> None:
    """Each process of the tests imports all of them, and transformers takes seconds."""
    files = [*(ROOT / "tests/unit").rglob("*.py"), *(ROOT / "tests/support").rglob("*.py")]
    at_the_top = re.compile(r"^(from|import) transformers\b", re.MULTILINE)
    assert [file for file in files if at_the_top.search(file.read_text())] == []


def test_unit_tests_that_import_transformers_say_so() -> None:
    texts = {file: file.read_text() for file in (ROOT / "tests/unit").rglob("test_*.py")}
    asking = {file for file, text in texts.items() if re.search(r"^ +from transformers", text, re.MULTILINE)}
    assert len(asking) > 5
    assert [file for file in asking if "mark.transformers" not in texts[file]] == []
