"""The chat page's files: up to date, small, and sent with headers that let nothing else in."""

import gzip
import hashlib
import json
import re
from pathlib import Path

import pytest

from vicuna_server.page import PAGE_PATHS, PageAnswer, page_answer

ROOT = Path(__file__).resolve().parents[3]
WEB = ROOT / "web"
STATIC = ROOT / "server" / "vicuna_server" / "page" / "static"
MOST_BYTES = 150_000


def get(path: str, method: str = "GET", **headers: str) -> PageAnswer:
    answer = page_answer(method, path, {name.replace("_", "-"): value for name, value in headers.items()})
    assert answer is not None
    return answer


def digest(root: Path, paths: list[str]) -> str:
    """As web/build.mjs reckons it."""
    lines = [f"{hashlib.sha256((root / path).read_bytes()).hexdigest()}  {path}\n" for path in paths]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def test_the_built_files_are_those_of_the_sources() -> None:
    built = json.loads((STATIC / "build.json").read_text())
    sources = [path.relative_to(WEB).as_posix() for path in (WEB / "src").rglob("*") if path.is_file()]
    sources += ["build.mjs", "package.json", "package-lock.json", "tsconfig.json"]
    assert built["sources"] == digest(WEB, sorted(sources)), "web/ has changed: run `make web` and commit what it makes"
    files = sorted(path.name for path in STATIC.iterdir() if path.name != "build.json")
    assert built["files"] == digest(STATIC, files), "page/static was changed by hand: run `make web`"


def test_every_built_file_is_served_and_every_address_in_the_page_exists() -> None:
    names = {path.name for path in STATIC.iterdir()} - {"build.json"}
    assert {path.rpartition("/")[2] or "index.html" for path in PAGE_PATHS} == names
    html = get("/").body.decode()
    addresses = re.findall(r'(?:href|src)="([^"]*)"', html)
    assert {f"/{address}" for address in addresses} <= set(PAGE_PATHS)  # relative: any path prefix works
    assert not re.search(r"<style|style=|<script(?![^>]*src=)|\son\w+=", html), "nothing inline"


def test_a_first_visit_is_small() -> None:
    later = {"/assets/math.js", "/assets/licenses.txt"}  # with the first formula, and never by itself
    sizes = {path: len(get(path, accept_encoding="gzip").body) for path in PAGE_PATHS}
    assert later < sizes.keys()
    assert 0 < sum(size for path, size in sizes.items() if path not in later) < MOST_BYTES
    assert sizes["/assets/math.js"] < MOST_BYTES


def test_mathematics_is_fetched_when_it_is_needed() -> None:
    """KaTeX is in the one file that nothing but a formula asks for."""
    holding = [path for path in PAGE_PATHS if b"KaTeX" in get(path).body and path.endswith(".js")]
    assert holding == ["/assets/math.js"]


def test_nothing_from_elsewhere_is_let_in() -> None:
    for path in PAGE_PATHS:
        headers = get(path).headers
        policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
        assert policy["default-src"] == "'none'"
        assert policy.pop("trusted-types") == "workers"
        assert set(policy.values()) == {"'none'", "'self'", "'script'"}
        assert policy["worker-src"] == "'self'"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize("path", PAGE_PATHS)
def test_plain_and_compressed_are_the_same(path: str) -> None:
    plain, packed = get(path), get(path, accept_encoding="br;q=1.0, gzip;q=0.8")
    assert packed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(packed.body) == plain.body
    assert plain.headers["content-length"] == str(len(plain.body))
    assert packed.headers["content-length"] == str(len(packed.body))
    assert "content-encoding" not in plain.headers
    assert plain.headers["vary"] == packed.headers["vary"] == "accept-encoding"


@pytest.mark.parametrize(
    ("accept", "packed"),
    [("*", True), ("GZIP", True), ("gzip;q=0", False), ("*, gzip; q=0.0", False), ("br, identity", False), ("", False)],
)
def test_accept_encoding(accept: str, packed: bool) -> None:
    assert ("content-encoding" in get("/", accept_encoding=accept).headers) is packed


def test_what_the_browser_has_is_not_sent_again() -> None:
    etag = get("/").headers["etag"]
    for given in (etag, f'"other", {etag}', etag.removeprefix("W/"), "*"):
        answer = get("/", if_none_match=given)
        assert (answer.status, answer.body) == (304, b"")
        assert answer.headers["etag"] == etag
        assert "content-security-policy" in answer.headers
    assert get("/", if_none_match='"other"').status == 200


def test_head_has_the_headers_and_no_body() -> None:
    whole, head = get("/"), get("/", method="HEAD")
    assert head.headers == whole.headers
    assert head.body == b""


@pytest.mark.parametrize("path", ["", "/index.html", "/assets/", "/assets/build.json", "/assets/../answer.py", "//"])
def test_no_other_path_is_the_pages(path: str) -> None:
    assert page_answer("GET", path, {}) is None


def test_the_lock_file_names_no_registry() -> None:
    text = (WEB / "package-lock.json").read_text()
    packages = json.loads(text)["packages"]
    assert not [name for name, package in packages.items() if "resolved" in package]
    assert all("integrity" in package for name, package in packages.items() if name)
