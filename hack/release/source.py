"""What the source tree says of itself: its version, its commit, whether it is clean."""

import re
import tomllib
from pathlib import Path

from release.commands import output
from release.parts import ReleaseError

__all__ = ["TREE", "check_clean", "commit", "commit_time", "stated_versions"]

TREE = Path(__file__).resolve().parents[2]


def stated_versions(tree: Path) -> dict[str, str]:
    """Return the version that each file states."""
    chart = (tree / "charts/vicuna-operator/Chart.yaml").read_text()
    found = {"pyproject.toml": str(tomllib.loads((tree / "pyproject.toml").read_text())["project"]["version"])}
    for field in ("version", "appVersion"):
        match = re.search(rf"^{field}: *\"?([^\s\"]+)", chart, flags=re.MULTILINE)
        found[f"{field} of Chart.yaml"] = match[1] if match else "nothing"
    return found


def commit(tree: Path) -> str:
    """Return the commit that is checked out."""
    return output("git", "rev-parse", "HEAD", cwd=tree)


def commit_time(tree: Path) -> int:
    """Return when that commit was made, in seconds: the time of all files of a release."""
    return int(output("git", "log", "-1", "--format=%ct", cwd=tree))


def check_clean(tree: Path) -> None:
    """Refuse a tree with files that are in no commit.

    Raises:
        ReleaseError: there are some.
    """
    if changed := output("git", "status", "--porcelain", cwd=tree):
        raise ReleaseError(f"the tree has files that are in no commit; commit or remove them first:\n{changed}")
