"""Files and ports of the gateway's command line that cannot be: each is named, with what to give."""

import socket
from pathlib import Path

import pytest

from vicuna_server.asgi.listening import bind
from vicuna_server.cli import main
from vicuna_server.errors import UsageError

WANTED = "; give a JSON object of API keys, {NAME: ENTRY}"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "keys.json cannot be read: No such file or directory" + WANTED),
        ("", "keys.json is not JSON (Expecting value: line 1 column 1 (char 0))" + WANTED),
        ("[" * 100_000, "keys.json is not JSON (maximum recursion depth exceeded"),
        ("[1]", "keys.json has another JSON value than an object" + WANTED),
        ('{"alice": 3}', "keys.json: alice: the entry is not a JSON object"),
    ],
)
def test_a_file_without_keys(
    content: str | None, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "keys.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SystemExit) as caught:
        main(["gateway", "--keys-file", str(path)])
    err = capsys.readouterr().err
    assert caught.value.code == 64
    assert says in err
    assert "Errno" not in err


def test_a_folder_in_place_of_the_keys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["gateway", "--keys-file", str(tmp_path)])
    assert f"{tmp_path} cannot be read: Is a directory" in capsys.readouterr().err


def test_a_port_in_use_names_its_own_flag() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match="choose another with --metrics-port"):
            bind("127.0.0.1", port, "--metrics-port")
        with pytest.raises(UsageError, match="choose another with --port"):
            bind("127.0.0.1", port)
