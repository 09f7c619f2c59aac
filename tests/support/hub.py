"""A stand-in for a Hugging Face hub: its listing and its files over HTTP, with the ways in which they can fail."""

import contextlib
import hashlib
import json
import os
import re
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import huggingface_hub.constants
import pytest
from huggingface_hub.utils import close_session  # type: ignore[attr-defined]  # exported lazily

COMMIT = "0123456789abcdef0123456789abcdef01234567"
WEIGHTS = (".safetensors", ".bin", ".pth")
_BLOCK = 64 * 1024


@dataclass(eq=False)
class Asked:
    """One request.

    Attributes:
        name: the file's; empty for the listing.
        host: the hub's or, where it redirects, "localhost" for its storage.
        token: the Authorization header.
        start: first byte asked for.
        stop: the byte after the last; None: no range was asked for.
        number: how many requests for this file, from this byte on, came before.
        path: as asked.
        served: how many bytes of it were sent.
    """

    name: str
    host: str
    token: str | None
    start: int
    stop: int | None
    number: int
    path: str
    served: int = 0

    @property
    def is_fetch(self) -> bool:
        """Whether a large part of a file was asked for: no preflight does so with the small models of tests."""
        return self.stop is not None and self.stop - self.start > 512 * 1024


@dataclass(frozen=True)
class Fault:
    """What happens instead of a good answer.

    Attributes:
        status: answered with nothing else; 200: the whole file, whatever range was asked for.
        headers: sent along.
        cut: the connection breaks after so many bytes of the body.
        wrong: the first byte of the body is another one.
        until: the rest of the body, after `cut` bytes, comes when this is set.
    """

    status: int = 206
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None
    wrong: bool = False
    until: threading.Event | None = None


class Hurry(threading.Event):
    """A stop signal on which nobody waits long; `waits` has the seconds that they wanted to."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        if timeout:
            self.waits.append(timeout)
        return super().wait(0.001)


class Hub(ThreadingHTTPServer):
    """Serves folders as repositories; weights are listed as git-lfs files.

    Attributes:
        repositories: folders by ORG/NAME.
        commit: what every revision stands for.
        redirects: whether weights come from another host.
        fault: says what goes wrong with a request; None: nothing.
        on_block: called before each part of a body is sent.
        asked: all requests.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, Path] = {}
        self.commit = COMMIT
        self.redirects = False
        self.fault: Callable[[Asked], Fault | None] = lambda _: None
        self.on_block: Callable[[], None] = lambda: None
        self.asked: list[Asked] = []
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def served(self) -> Counter[str]:
        """Bytes of bodies by file name."""
        total: Counter[str] = Counter()
        for asked in self.asked:
            total[asked.name] += asked.served
        return total

    @property
    def weights_served(self) -> int:
        return sum(size for name, size in self.served.items() if name.endswith(WEIGHTS))

    def note(self, name: str, host: str, token: str | None, span: tuple[int, int | None], path: str) -> Asked:
        with self._lock:
            number = sum((asked.name, asked.start) == (name, span[0]) for asked in self.asked)
            asked = Asked(name, host, token, *span, number, path)
            self.asked.append(asked)
        return asked

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that leaves is not an error."""


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        folder, name = self._target()
        host = self.headers["Host"].partition(":")[0]
        asked = self.server.note(name, host, self.headers.get("Authorization"), self._span(), self.path)
        fault = self.server.fault(asked) or Fault()
        if fault.status not in (200, 206):
            self._send(fault.status, b"{}", fault.headers)
        elif folder is None or not (folder / name).exists():
            self._send(404, b"{}", {})
        elif not name:
            self._send_listing(folder, fault)
        elif self.server.redirects and name.endswith(WEIGHTS) and host != "localhost":
            self._send(302, b"", {"Location": f"http://localhost:{self.server.server_port}{self.path}"})
        else:
            self._send_file(folder / name, asked, fault)

    def log_message(self, *_: object) -> None:
        pass

    def _target(self) -> tuple[Path | None, str]:
        """Return the repository's folder and the file that is asked for; no file: a listing is."""
        parts = [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]
        is_listing = parts[:2] == ["api", "models"]
        folder = self.server.repositories.get("/".join(parts[2:4] if is_listing else parts[:2]))
        return folder, "" if is_listing else parts[-1]

    def _span(self) -> tuple[int, int | None]:
        """Return the first byte that is asked for and the one after the last, None: all that follow."""
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        return (int(match[1]), int(match[2]) + 1) if match else (0, None)

    def _send_listing(self, folder: Path, fault: Fault) -> None:
        if fault.until:
            fault.until.wait(60)
        self._send(200, json.dumps(self._listing(folder)).encode(), {})

    def _listing(self, folder: Path) -> dict[str, object]:
        siblings = []
        for path in sorted(folder.iterdir()):
            entry: dict[str, object] = {"rfilename": path.name, "size": path.stat().st_size}
            if path.name.endswith(WEIGHTS):
                entry["lfs"] = {"sha256": sha256_of(path, path.stat().st_mtime_ns), "size": path.stat().st_size}
            else:
                content = path.read_bytes()
                entry["blobId"] = hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()
            siblings.append(entry)
        return {"id": folder.name, "sha": self.server.commit, "siblings": siblings}

    def _send_file(self, path: Path, asked: Asked, fault: Fault) -> None:
        size = path.stat().st_size
        ranged = asked.stop is not None and fault.status == 206
        start, stop = (asked.start, asked.stop or 0) if ranged else (0, size)
        headers = {"Content-Length": str(stop - start)}
        if ranged:
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
        self._send_head(206 if ranged else 200, headers | fault.headers)
        end = stop if fault.cut is None else min(stop, start + fault.cut)
        with path.open("rb") as file:
            file.seek(start)
            self._copy(asked, file.read, end - start, wrong=fault.wrong)
            if fault.until:
                fault.until.wait(60)
                self._copy(asked, file.read, stop - end, wrong=False)
            elif end < stop:
                self.close_connection = True

    def _copy(self, asked: Asked, read: Callable[[int], bytes], size: int, *, wrong: bool) -> None:
        while size > 0:
            self.server.on_block()
            block = read(min(size, _BLOCK))
            asked.served += len(block)  # first: a client that has it all may count at once
            self.wfile.write(bytes([block[0] ^ 1]) + block[1:] if wrong else block)
            size -= len(block)
            wrong = False

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self._send_head(status, headers | {"Content-Length": str(len(content))})
        self.wfile.write(content)

    def _send_head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


@cache
def sha256_of(path: Path, _: int) -> str:
    if path.stat().st_size > 2**30:
        return "0" * 64  # no test fetches so much
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# Each test has clients of its own, and reading the system's certificates takes longer than all that they ask.
_ssl_context = cache(ssl.create_default_context)


@contextlib.contextmanager
def running_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Run a stand-in that this process, and those it starts, take for the hub."""
    with Hub() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
            monkeypatch.delenv(name)
        monkeypatch.setattr(ssl, "create_default_context", _ssl_context)
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        monkeypatch.setattr("vicuna_server.weights.hub.token._taken", None)
        monkeypatch.setenv("HF_HUB_OFFLINE", "0")
        monkeypatch.setenv("VICUNA_HUB_PATIENCE_SECONDS", "10")
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        try:
            yield server
        finally:
            close_session()
            server.shutdown()
            thread.join()
