"""What a hub says of a repository, and what it must say."""

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from support.hub import COMMIT, Fault, Hub, Hurry
from vicuna_contract.sources import HubSource
from vicuna_server.errors import InputError, UnreachableError
from vicuna_server.run.control import Control
from vicuna_server.weights.hub.listing import list_repository

SOURCE = HubSource("me/model", "a/branch")


def test_files_have_sizes_hashes_and_the_commits_own_address(hub: Hub, tmp_path: Path, control: Control) -> None:
    (tmp_path / "model" / "config.json").write_bytes(b"{}")
    (tmp_path / "model" / "a b?.bin").write_bytes(b"weights")
    listing = list_repository(SOURCE, control)
    assert listing.commit == COMMIT
    assert hub.asked[0].path == "/api/models/me/model/revision/a%2Fbranch?blobs=true"
    weights, config = listing.files["a b?.bin"], listing.files["config.json"]
    assert (weights.size, weights.sha256) == (7, sha256(b"weights").hexdigest())
    assert (config.size, config.sha256) == (2, None)
    assert weights.url == f"{hub.url}/me/model/resolve/{COMMIT}/a%20b%3F.bin"
    assert weights.read(2, 100) == b"ights"
    assert str(weights) == "hf://me/model@a/branch/a b?.bin"


@pytest.mark.parametrize(("status", "reason"), [(401, "SourceForbidden"), (404, "SourceNotFound")])
def test_what_is_refused_is_named_by_its_uri(hub: Hub, control: Control, status: int, reason: str) -> None:
    hub.fault = lambda _: Fault(status)
    with pytest.raises(InputError, match="hf://me/model@a/branch") as caught:
        list_repository(SOURCE, control)
    assert caught.value.reason == reason


def test_a_hub_that_is_busy_is_asked_again(hub: Hub, control: Control, stop: Hurry) -> None:
    hub.fault = lambda asked: Fault(429, {"Retry-After": "3"}) if not asked.number else None
    assert list_repository(SOURCE, control).commit == COMMIT
    assert stop.waits == [3]


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[object], None]]:
    """A hub whose only answer is as a test says."""
    answers = [b""]

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(answers[-1])

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}/")
        yield lambda answer: answers.append(answer if isinstance(answer, bytes) else json.dumps(answer).encode())
        server.shutdown()
        thread.join()


FILE = {"rfilename": "config.json", "size": 2}


@pytest.mark.parametrize(
    "answer",
    [
        b"<html>log in to use this network</html>",
        {"sha": COMMIT},
        {"sha": "../../etc", "siblings": []},
        {"sha": COMMIT, "siblings": [FILE | {"size": -1}]},
        {"sha": COMMIT, "siblings": [FILE | {"lfs": {"sha256": "../x"}}]},
    ],
)
def test_an_answer_that_is_not_a_listing_is_not_the_sources_fault(
    answering: Callable[[object], None], control: Control, answer: object
) -> None:
    answering(answer)
    with pytest.raises(UnreachableError, match="is not a listing; check HF_ENDPOINT"):
        list_repository(SOURCE, control)


def test_only_good_names_of_the_top_folder_count(answering: Callable[[object], None], control: Control) -> None:
    names = ["config.json", "original/model.bin", "../model.bin", "model-\0.bin", "a" * 201]
    answering({"sha": COMMIT, "siblings": [FILE | {"rfilename": name} for name in names]})
    assert list(list_repository(SOURCE, control).files) == ["config.json"]


def test_a_hub_that_tells_no_sizes_is_refused(answering: Callable[[object], None], control: Control) -> None:
    answering({"sha": COMMIT, "siblings": [{"rfilename": "config.json"}]})
    with pytest.raises(InputError, match="does not state the sizes") as caught:
        list_repository(SOURCE, control)
    assert caught.value.reason == "SourceUnsupported"


def test_an_endless_answer_is_not_kept(
    answering: Callable[[object], None], control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vicuna_server.weights.hub.listing._MOST_BYTES", 1000)
    answering(b" " * 1001)
    with pytest.raises(UnreachableError, match="is longer than"):
        list_repository(SOURCE, control)
