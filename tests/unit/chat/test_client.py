"""What the environment says to the chat with a server: its key and its proxies."""

import os

import pytest

from vicuna_server.chat.client import RemoteModel
from vicuna_server.cli import main
from vicuna_server.errors import UsageError
from vicuna_server.loopback import is_loopback


@pytest.mark.parametrize("key", ["a\nb", "ü", "a\r", "→"])
def test_a_key_that_no_header_can_have_is_not_repeated(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VICUNA_API_KEY", key)
    with pytest.raises(UsageError, match="VICUNA_API_KEY has letters that no API key has") as caught:
        RemoteModel("http://127.0.0.1:8000")
    assert key not in caught.value.message


@pytest.mark.parametrize(
    ("host", "here"),
    [("localhost", True), ("127.0.0.1", True), ("::1", True), ("127.1.2.3", True), ("10.0.0.1", False), ("box", False)],
)
def test_this_machine_is_known_by_name_and_address(host: str, here: bool) -> None:
    assert is_loopback(host) is here


def test_a_proxy_that_cannot_be_used_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "gopher://127.0.0.1:9")
    RemoteModel("http://[::1]:8000")  # needs none
    with pytest.raises(UsageError, match=r"the proxy that .* names cannot be used .*NO_PROXY=box"):
        RemoteModel("http://box:8000")


def test_bytes_that_are_no_text_do_not_end_the_chat(capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody listens there, so the question is made and cannot be sent."""
    assert main(["chat", "--url", "http://127.0.0.1:9", "--model", "m", "--prompt", os.fsdecode(b"a\xff")]) == 69
    assert "ServerUnreachable" in capsys.readouterr().err
