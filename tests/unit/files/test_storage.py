"""What a failed system call means to a user: a source that cannot be read, or an output that cannot be written."""

import errno
from pathlib import Path

import pytest

from vicuna_server.files.storage import explain


def refused(name: Path | str | None, code: int = errno.EACCES) -> OSError:
    error = OSError(code, "Permission denied")
    error.filename = None if name is None else str(name)
    return error


@pytest.mark.parametrize(
    ("name", "root", "reason"),
    [
        ("/models/.claim-1", Path("/models"), "OutputNotWritable"),
        ("out/.claim-1", Path("out"), "OutputNotWritable"),
        (Path("out/.claim-1").absolute(), Path("out"), "OutputNotWritable"),
        ("out/.claim-1", Path("out").absolute(), "OutputNotWritable"),
        (None, Path("out"), "OutputNotWritable"),
        ("/sources/base/config.json", Path("/models"), "SourceForbidden"),
        ("out/a/vicuna-manifest.json", None, "SourceForbidden"),
        (None, None, "SourceForbidden"),
    ],
)
def test_a_refusal_concerns_the_output_or_a_source(name: str | None, root: Path | None, reason: str) -> None:
    error = explain(refused(name), root)
    assert (error.reason, error.exit_code) == (reason, 65)
    assert str(name or root or "a file") in error.message


@pytest.mark.parametrize("root", [Path("/models"), None])
def test_a_full_volume_and_a_broken_one_may_get_better(root: Path | None) -> None:
    full = explain(refused("/models/x", errno.ENOSPC), root)
    assert (full.reason, full.exit_code) == ("OutOfSpace", 73)
    assert str(root or "/models/x") in full.message
    assert explain(refused("/models/x", errno.EIO), root).exit_code == 69
