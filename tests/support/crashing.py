"""Merges in forked children that die, stop or find the volume full at a chosen change to the file system.

    python -m support.crashing PLACE

PLACE holds `base` and `delta`, folders or files with a URI, and where digests are to be stated `base.digest` and
`delta.digest`; outputs go to PLACE/out. A merge of it imports and compiles what all children then have. Then lines
`MODE NUMBER PLACE` are read, with a like place each. For each a process of its own prints a JSON object per point; the
last line is its exit code.
"""

import json
import os
import random
import shutil
import signal
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from support.disturbing import CHANGES, GROWING, die, die_after, die_soon, full, interrupt, stop
from vicuna_server.artifacts.lock import ArtifactLock
from vicuna_server.artifacts.pruning import candidates, prune
from vicuna_server.artifacts.verify import verify
from vicuna_server.errors import VicunaError
from vicuna_server.merge.job import run_merge
from vicuna_server.merge.request import Request
from vicuna_server.run.control import Control
from vicuna_server.run.reporter import Silent


def merge(place: Path, root: Path, control: Control | None = None) -> None:
    """Merge PLACE's pair into shards of a few KB."""
    base, delta = (path.read_text() if path.is_file() else str(path) for path in (place / "base", place / "delta"))
    digests = {f"{path.stem}_digest": path.read_text() for path in place.glob("*.digest")}
    request = Request(
        base,
        delta,
        root,
        chat_template="vicuna_v1.1",
        least_shard_bytes=4096,
        **digests,  # type: ignore[arg-type]
    )
    run_merge(request, control or quiet())


def clear(place: Path, root: Path) -> None:
    """Remove every artifact from `root`, as `artifacts prune` does."""
    for each in candidates(root, (), 0):
        prune(each, 0, quiet().cancellation)


class Child:
    """A process of its own that works on `root`, after `prepare`."""

    def __init__(
        self,
        place: Path,
        root: Path,
        prepare: Callable[[], object] = lambda: None,
        work: Callable[[Path, Path], object] = merge,
    ) -> None:
        self._pid = os.fork()
        if not self._pid:
            code = 70
            try:
                prepare()
                work(place, root)
                code = 0
            except VicunaError as error:
                code = error.exit_code
            finally:
                os._exit(code)

    def wait(self) -> int:
        """Return its exit code, or minus a signal's number: that of SIGSTOP when it has only stopped."""
        _, status = os.waitpid(self._pid, os.WUNTRACED)
        return -os.WSTOPSIG(status) if os.WIFSTOPPED(status) else os.waitstatus_to_exitcode(status)

    def send(self, number: int) -> None:
        """Send a signal."""
        os.kill(self._pid, number)


def quiet() -> Control:
    """Make a control that says nothing."""
    return Control(Silent(), threading.Event())


def visible(root: Path) -> dict[str, list[str]]:
    """Return what a server could see, and what is wrong with each."""
    names = sorted(path.name for path in root.iterdir() if path.name[0] != ".") if root.exists() else []
    return {name: [fault.file for fault in verify(root / name, quiet().advance)[1]] for name in names}


def hasty(patience: float) -> None:
    """Watch locks for so many seconds only."""
    defaults = ArtifactLock.__init__.__kwdefaults__
    assert defaults is not None
    defaults.update(patience=patience, poll=0.005)


def tell(**point: Any) -> None:
    """Print what came of one point."""
    print(json.dumps(point), flush=True)


def at_points(
    place: Path,
    stride: int,
    start: Path | None,
    prepare: Callable[[int], object],
    work: Callable[[Path, Path], object] = merge,
) -> None:
    """Disturb one run after the other, each later than the last, until one gets through; let a healthy merge follow."""
    for limit in range(1, 10_000, stride):
        root = place / "out" / str(limit)
        if start:
            shutil.copytree(start, root)
        outcome = Child(place, root, lambda: prepare(limit), work).wait()  # noqa: B023 - called at once
        seen = visible(root)
        tell(outcome=outcome, seen=seen, again=Child(place, root).wait(), root=str(root))
        if outcome == 0:
            return


def half(place: Path) -> Path:
    """Leave what a merge leaves that was killed half-way."""
    start = place / "half"
    Child(place, start, lambda: die_after(40)).wait()
    return start


def killed(place: Path, stride: int) -> None:
    """Kill merges at each change."""
    at_points(place, stride, None, lambda limit: interrupt(limit, CHANGES, die))


def killed_again(place: Path, stride: int) -> None:
    """Kill merges that go on after a kill half-way."""
    at_points(place, stride, half(place), lambda limit: interrupt(limit, CHANGES, die))


def killed_while_pruning(place: Path, stride: int) -> None:
    """Kill what removes an artifact at each change."""
    at_points(place, stride, place / "first", lambda limit: interrupt(limit, CHANGES, die), clear)


def out_of_space(place: Path, stride: int) -> None:
    """Let merges find no room, by turns once and from then on."""
    at_points(place, stride, None, lambda limit: interrupt(limit, GROWING, full, lasting=limit // stride % 2 == 0))


def out_of_space_again(place: Path, stride: int) -> None:
    """Let merges find no room that go on after a kill half-way."""
    start = half(place)
    at_points(place, stride, start, lambda limit: interrupt(limit, GROWING, full, lasting=limit // stride % 2 == 0))


def out_of_space_for_good(place: Path, stride: int) -> None:
    """Let merges find no room from some point on."""
    at_points(place, stride, None, lambda limit: interrupt(limit, GROWING, full, lasting=True))


def killed_at_random(place: Path, kills: int) -> None:
    """Kill merges at any moment, each going on with what the last one left, until so many are dead."""
    chance = random.Random()
    dead = number = 0
    seen: dict[str, list[str]] = {}
    while dead < kills or not seen:
        root = place / "out" / str(number)
        limit, delay = chance.randrange(1, 80), chance.uniform(0, 0.003)
        prepare = partial(interrupt, limit, CHANGES, partial(die_soon, delay))
        outcome = Child(place, root, prepare if dead < kills else lambda: None).wait()
        dead += outcome < 0
        seen = visible(root)
        tell(outcome=outcome, seen=seen, again=Child(place, root).wait() if seen else 0, root=str(root))
        number += bool(seen)


def frozen(place: Path, stride: int) -> None:
    """Let one merge stop and another take over, which stops as well; then the first wakes up, at last the second."""
    start = half(place)
    hasty(patience=0.03)
    for limit in range(1, 10_000, stride):
        root = place / "out" / str(limit)
        if limit // stride % 2:
            shutil.copytree(start, root)
        first = Child(place, root, lambda: interrupt(limit, CHANGES, stop))  # noqa: B023 - called at once
        got_through = (outcome := first.wait()) == 0
        other = Child(place, root, lambda: interrupt(limit * 37 % 101, CHANGES, stop))  # noqa: B023
        then = other.wait()
        if outcome == -signal.SIGSTOP:
            first.send(signal.SIGCONT)
            outcome = first.wait()
        seen = visible(root)
        if then == -signal.SIGSTOP:
            other.send(signal.SIGCONT)
            then = other.wait()
        tell(outcome=outcome, other=then, seen=seen, again=Child(place, root).wait(), root=str(root))
        if got_through:
            return


def killed_late(place: Path, percent: int) -> None:
    """Kill a merge near its end; count what the next one writes."""
    root = place / "out"
    outcome = Child(place, root, lambda: die_after(percent)).wait()
    written = 0

    def count(name: str, args: tuple[Any, ...]) -> None:
        nonlocal written
        written += len(args[1])

    interrupt(1, ("write",), count, lasting=True)
    resumed: dict[str, int] = {}

    class Resumed(Silent):
        def note(self, event: str, text: str, **fields: Any) -> None:
            resumed.update(fields)

    merge(place, root, Control(Resumed(), threading.Event()))
    tell(outcome=outcome, resumed=resumed, written=written, seen=visible(root))


MODES = {
    each.__name__: each
    for each in (
        *(killed, killed_again, killed_while_pruning, killed_at_random, killed_late),
        *(out_of_space, out_of_space_again, out_of_space_for_good, frozen),
    )
}


def obey(mode: str, number: int, place: Path) -> None:
    """Carry out one mode, from a first whole merge on."""
    merge(place, place / "first")
    MODES[mode](place, number)


if __name__ == "__main__":
    hasty(patience=30)
    merge(Path(sys.argv[1]), Path(sys.argv[1]) / "warm")
    for line in sys.stdin:
        mode, number, place = line.rstrip("\n").split(" ", 2)
        print(Child(Path(place), Path(place) / "first", work=lambda place, _: obey(mode, int(number), place)).wait())  # noqa: B023
        sys.stdout.flush()
