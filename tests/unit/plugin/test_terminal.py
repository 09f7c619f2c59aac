"""Nothing that a container, a model or a cluster says steers the user's terminal."""

from pathlib import Path

import pytest

from support.world import World
from support.world_kubectl import WorldKubectl
from vicuna_contract.printable import printable
from vicuna_operator.errors import PluginError
from vicuna_operator.plugin.cli import main
from vicuna_operator.plugin.kubectl import KubectlProcess

Capture = pytest.CaptureFixture[str]
HOSTILE = "a\x1b[2Jb\tc\u009b31m\x7f"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("größe 模型\n\t🦙", "größe 模型\n\t🦙"),
        (HOSTILE, "ab\tc"),
        ("50 %\r100 %\r\n", "50 %\n100 %\n"),
        ("a\u202eb", "ab"),
        ("half \ud83d", "half "),
        ("\x00", ""),
    ],
)
def test_what_is_left_of_a_text(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert printable(shown) == shown


def test_lines_of_a_log_are_shown_as_they_come_without_control_characters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    kubectl = tmp_path / "kubectl"
    kubectl.write_text("#!/bin/sh\nprintf 'one \\033[31mred\\nbad \\377 bytes\\nno end'\nexit 3\n")
    kubectl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert KubectlProcess().show("logs") == 3
    assert capsys.readouterr().out == "one red\nbad \ufffd bytes\nno end"


def test_kept_lines_and_errors(capsys: Capture) -> None:
    world = World()
    last = {"reason": "Crashed", "log": HOSTILE, "pod": "p", "time": "t", "message": HOSTILE}
    world.kube.change("VicunaModel", "demo", {"status": {"lastFailure": last}}, "team")
    assert main(["logs", "demo"], connect=lambda _: WorldKubectl(world)) == 0
    assert main(["status", "demo"], connect=lambda _: WorldKubectl(world)) == 0

    class Failing(WorldKubectl):
        def read(self, *words: str) -> dict[str, object]:
            raise PluginError(HOSTILE)

    assert main(["status", "demo"], connect=lambda _: Failing(world)) == 1
    said = capsys.readouterr()
    assert "\x1b" not in said.out + said.err
    assert said.err.endswith("ab\tc\n")
