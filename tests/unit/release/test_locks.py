"""The lists of dependencies with hashes are what pyproject.toml and constraints.txt ask for."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from release import locks

ROOT = Path(__file__).resolve().parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
each_lock = pytest.mark.parametrize("name", locks.LOCKS)


def pins(text: str) -> dict[str, str]:
    found = re.findall(r"^([A-Za-z0-9._-]+)==(\S+)", text, flags=re.MULTILINE)
    return {canonicalize_name(name): version for name, version in found}


CONSTRAINTS = pins((ROOT / "constraints.txt").read_text())


@each_lock
def test_versions_are_those_of_the_constraints_and_each_has_a_hash(name: str) -> None:
    text = (ROOT / name).read_text()
    found = pins(text)
    assert {key: CONSTRAINTS[key] for key in found if key in CONSTRAINTS} == {
        key: version for key, version in found.items() if key in CONSTRAINTS
    }, "run `make locks`"
    for entry in locks.entries(text).values():
        assert "--hash=sha256:" in entry


@each_lock
def test_all_that_is_asked_for_is_there(name: str) -> None:
    asked = {canonicalize_name(Requirement(text).name) for text in locks.requirements_of(PROJECT, locks.LOCKS[name])}
    missing = asked - set(pins((ROOT / name).read_text()))
    assert missing == ({"torch"} if name.endswith("-cpu.txt") else set()), "run `make locks`"


def test_an_image_for_cpus_has_nothing_of_cuda_and_the_other_all_of_it() -> None:
    cpu, cuda = (pins((ROOT / f"images/requirements/server-{kind}.txt").read_text()) for kind in ("cpu", "cuda"))
    assert not [name for name in cpu if name.startswith(("nvidia", "cuda", "triton", "torch", "bitsandbytes"))]
    assert {"torch", "bitsandbytes", "triton"} <= set(cuda)
    assert {"sympy", "networkx", "numpy"} <= set(cpu), "torch needs them"


def test_a_lock_is_cut_at_its_packages() -> None:
    text = "# Made.\na==1 \\\n    --hash=sha256:0\nnvidia-x==2 \\\n    --hash=sha256:1\n"
    assert locks.entries(text) == {
        "a": "a==1 \\\n    --hash=sha256:0\n",
        "nvidia-x": "nvidia-x==2 \\\n    --hash=sha256:1\n",
    }
    assert locks.without_gpu_parts(text) == "a==1 \\\n    --hash=sha256:0\n"
