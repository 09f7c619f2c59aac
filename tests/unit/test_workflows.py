"""Workflows: small rights, an end in time, pinned actions, commands that exist (`make test-workflows` lints them)."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.documented_commands import commands, without_target

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = [*sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")), ROOT / ".github" / "dependabot.yml"]
# A release writes itself and its images, and signs with the workflow's identity.
MORE_RIGHTS = {"release.yml": {"contents": "write", "packages": "write", "id-token": "write"}}
each_workflow = pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)


def read(file: Path) -> Any:
    return yaml.safe_load(file.read_text())


@each_workflow
def test_rights_are_small_and_every_job_ends(file: Path) -> None:
    workflow = read(file)
    assert workflow["permissions"] == MORE_RIGHTS.get(file.name, {"contents": "read"})
    for name, job in workflow["jobs"].items():
        assert 0 < job["timeout-minutes"] <= 90, name
        assert "permissions" not in job, name


@each_workflow
def test_actions_are_pinned_by_commit_with_their_version_beside(file: Path) -> None:
    used = re.findall(r"uses: (.*)", file.read_text())
    assert used
    for action in used:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}  # v\d+(\.\d+)*", action), action


@each_workflow
def test_commands_of_this_repository_exist(file: Path) -> None:
    steps = [step for job in read(file)["jobs"].values() for step in job["steps"]]
    ours = [words for step in steps for words in commands(step.get("run", "")) if words[0] in ("make", ".ci/run")]
    assert ours, "a workflow runs what a developer can run too"
    for words in ours:
        assert words[0] == "make" or (ROOT / words[0]).exists()
        assert words[0] != "make" or without_target(words[1:]) is None


@pytest.mark.parametrize("file", FORMS, ids=lambda file: file.name)
def test_forms_are_yaml_and_name_files_that_are_there(file: Path) -> None:
    text = file.read_text()
    assert isinstance(read(file), dict)
    for name in re.findall(r"\b(?:docs/)?[A-Za-z-]+\.md\b", text):
        assert (ROOT / name).exists(), name


def test_dependabot_looks_where_the_locks_are() -> None:
    folders = {folder for update in read(FORMS[-1])["updates"] for folder in update.get("directories", [])}
    locks = [lock for places in ("*", "tests/*", "tests/*/*") for lock in ROOT.glob(f"{places}/package-lock.json")]
    assert folders == {f"/{lock.parent.relative_to(ROOT)}" for lock in locks}


def test_hooks_before_a_commit_fetch_nothing_and_name_tests_that_are_there() -> None:
    hooks = read(ROOT / ".pre-commit-config.yaml")["repos"]
    assert [repo["repo"] for repo in hooks] == ["local"]
    for hook in hooks[0]["hooks"]:
        assert hook["language"] == "system"
        assert hook["entry"].startswith(".venv/bin/")
        for word in hook["entry"].split():
            assert not word.startswith("tests/") or (ROOT / word).exists(), word
