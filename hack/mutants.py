"""Mutates the modules that decide how a model rolls out, and names every mutant that their tests do not notice.

mutmut makes the mutants; `[tool.mutmut]` in pyproject.toml names the modules and the tests. They run here, in memory
and in forked processes, because `mutmut run` wants one source folder and would copy the tree. After `make venv`:

    .venv/bin/pip install mutmut==3.8.1
    .venv/bin/python hack/mutants.py [MODULE ...] [--only PART ...] [--tests PATH ...]

Fails where a mutant survives. mutmut changes neither constants nor what stands under a decorator, such as a property.
"""

import argparse
import difflib
import importlib.util
import os
import resource
import select
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest
from mutmut.configuration import config
from mutmut.mutation.file_mutation import MutatedFile, mutate_file_contents
from mutmut.mutation.trampoline import set_mutant_under_test
from mutmut.state import state

ROOT = Path(__file__).resolve().parents[1]
SECONDS = 60.0  # of processor time, beside three times what all tests need: then a mutant runs for ever


@dataclass(frozen=True)
class Mutant:
    """One mutant: its name, and the lines (was, now) that it changes."""

    module: str
    name: str
    was: str
    now: str

    @property
    def stem(self) -> str:
        return self.module.rpartition(".")[2]

    @property
    def function(self) -> str:
        """Return what mutmut calls the function that it changes."""
        return f"{self.module}.{self.name.rpartition('__mutmut')[0]}"


UNCHANGED = Mutant("", "", "", "")  # the tests must pass in a process of their own too, else they prove nothing


class Mutated:
    """An importer that gives the modules out with all their mutants inside; one of them is switched on by its name."""

    def __init__(self, files: Sequence[Path]) -> None:
        self.paths = {".".join(file.relative_to(ROOT / "operator").with_suffix("").parts): file for file in files}
        self.made = {name: mutate_file_contents(str(file), file.read_text()) for name, file in self.paths.items()}

    def find_spec(self, name: str, *_: object) -> ModuleSpec | None:
        known = self.paths.get(name)
        return None if known is None else importlib.util.spec_from_file_location(name, known, loader=self)

    def create_module(self, _: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        name = module.__name__
        exec(compile(self.made[name].code, str(self.paths[name]), "exec"), module.__dict__)

    def mutants(self) -> Iterator[Mutant]:
        for module, made in self.made.items():
            yield from (Mutant(module, name, *_changed(made, name)) for name in made.mutant_names)


def _changed(made: MutatedFile, name: str) -> tuple[str, str]:
    lines, original = made.code.splitlines(), f"{name.rpartition('_')[0]}_orig"
    sides = []
    for function in (original, name):
        span = made.line_span_by_function_name[function]
        sides.append([line.strip().replace(function, "") for line in lines[span.start - 1 : span.end]])
    told = list(difflib.ndiff(*sides))
    was, now = (" ".join(line[2:] for line in told if line.startswith(f"{sign} ")) for sign in "-+")
    return was, now


class Run:
    """A pytest plugin: runs the collected tests once as they are, then against each mutant until one of them fails."""

    def __init__(self, mutants: Sequence[Mutant], workers: int) -> None:
        self.mutants, self.workers = mutants, workers
        self.seconds: dict[int, float] = {}  # by the number of the test
        self.reached: dict[int, set[str]] = {}  # the functions that a test comes by
        self.kills: Counter[tuple[str, int]] = Counter()
        self.results: dict[Mutant, str] = {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        if session.testsfailed or not self._clean(session):
            return True
        limit = int(SECONDS + 3 * sum(self.seconds.values()))
        waiting: list[Mutant] = [*reversed(self.mutants), UNCHANGED]
        running: dict[int, tuple[int, Mutant]] = {}
        while waiting or running:
            while waiting and len(running) < self.workers:
                mutant = waiting.pop()
                pid, pipe = self._fork(session, mutant, limit)
                running[pipe] = (pid, mutant)
            for pipe in select.select(list(running), [], [])[0]:
                self._ended(pipe, *running.pop(pipe))
        return True

    def _clean(self, session: pytest.Session) -> bool:
        """Run everything without a mutant, and note which functions each test reaches and how long it takes."""
        set_mutant_under_test("stats")
        for number, item in enumerate(session.items):
            began = time.process_time()
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
            self.seconds[number] = time.process_time() - began
            self.reached[number] = set(state()._stats)
            state()._stats.clear()
        set_mutant_under_test("")
        return not session.testsfailed

    def _order(self, mutant: Mutant) -> list[int]:
        """Put first what has killed mutants of this function before, then what is quick."""
        those = [n for n, functions in self.reached.items() if mutant.function in functions or mutant is UNCHANGED]
        return sorted(those, key=lambda number: (-self.kills[mutant.function, number], self.seconds[number]))

    def _fork(self, session: pytest.Session, mutant: Mutant, limit: int) -> tuple[int, int]:
        """Run the tests in a process of its own; return its id and the pipe by which it tells how it ended."""
        ours, theirs = os.pipe()
        sys.stdout.flush()
        pid = os.fork()
        if pid:
            os.close(theirs)
            return pid, ours
        try:
            resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, 1)
            os.dup2(nothing, 2)
            set_mutant_under_test(f"{mutant.module}.{mutant.name}")
            os.write(theirs, self._killer(session, self._order(mutant)).encode())
        finally:
            os._exit(0)

    def _killer(self, session: pytest.Session, order: Sequence[int]) -> str:
        for number in order:
            item = session.items[number]
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
            if session.testsfailed:
                return str(number)
        return "survived" if order else "not tested"

    def _ended(self, pipe: int, pid: int, mutant: Mutant) -> None:
        said = os.read(pipe, 64).decode()
        os.close(pipe)
        os.waitpid(pid, 0)
        if said.isdigit():
            self.kills[mutant.function, int(said)] += 1
        result = "killed" if said.isdigit() else said or "ran for ever"
        if mutant is UNCHANGED:
            assert result == "survived", f"without a mutant a test fails: number {said}"
            return
        self.results[mutant] = result
        if result != "killed":
            print(f"\n{result}: {mutant.stem} {mutant.name}\n  - {mutant.was}\n  + {mutant.now}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description="Run the tests of some modules against mutants of them.")
    parser.add_argument("modules", nargs="*", help="names without .py; all of [tool.mutmut] without")
    parser.add_argument("--only", nargs="+", default=[""], help="mutants whose name has one of these in it")
    parser.add_argument("--tests", nargs="+", default=[], help="instead of those of [tool.mutmut]")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args()
    os.chdir(ROOT)
    mutated = Mutated([ROOT / name for name in config().only_mutate])
    sys.meta_path.insert(0, mutated)
    run = Run(_chosen(mutated, args.modules, args.only), args.workers)
    tests = args.tests or config().pytest_add_cli_args_test_selection
    failed = pytest.main(["-q", "-s", "-p", "no:cacheprovider", *tests], plugins=[run])
    _print_counts(run.results)
    return int(failed != 0 or not run.results or not set(run.results.values()) <= {"killed", "ran for ever"})


def _chosen(mutated: Mutated, modules: Sequence[str], parts: Sequence[str]) -> list[Mutant]:
    found = [item for item in mutated.mutants() if not modules or item.stem in modules]
    return [item for item in found if any(part in item.name for part in parts)]


def _print_counts(results: Mapping[Mutant, str]) -> None:
    for stem in sorted({mutant.stem for mutant in results}):
        counts = Counter(result for mutant, result in results.items() if mutant.stem == stem)
        print(f"{stem}: {counts.total()} mutants: " + ", ".join(f"{n} {what}" for what, n in sorted(counts.items())))


if __name__ == "__main__":
    sys.exit(main())
