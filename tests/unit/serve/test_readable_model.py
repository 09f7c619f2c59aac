"""A model with a file that may not be read is refused by that file's name, before a library says something else."""

import errno
import os
from pathlib import Path

import pytest

from vicuna_server.engine.opening import check_folder
from vicuna_server.errors import InputError


@pytest.mark.parametrize("name", ["vicuna-manifest.json", "config.json", "model.safetensors", "tokenizer.json"])
def test_a_file_that_may_not_be_read_is_named(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for each in (name, "config.json"):
        (tmp_path / each).write_text("{}")
    opened = os.open

    def refuse(path: object, *more: int) -> int:
        if path == tmp_path / name:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opened(str(path), *more)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(InputError) as caught:
        check_folder(tmp_path)
    assert caught.value.reason == "ModelBroken"
    assert f"{tmp_path / name} cannot be read: Permission denied; let user" in caught.value.message


def test_other_files_may_stay_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "notes.md").write_text("")
    monkeypatch.setattr(
        os, "open", lambda path, *_: os.dup(0) if path != tmp_path / "notes.md" else pytest.fail("opened")
    )
    check_folder(tmp_path)
