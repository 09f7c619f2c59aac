"""Where weights come from, as a VicunaModel declares it and as a merge container gets it.

A VicunaModel has `hf://ORG/NAME`, `pvc://CLAIM/PATH` or `file:///PATH` (local runs only). PATH is literal there: `#`,
`?`, `%` and blanks stand for themselves. A container gets `hf://ORG/NAME@REVISION`, a plain path, or a `file:` URL
(RFC 8089), in which those characters are percent-encoded.
"""

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote

__all__ = [
    "ClaimSource",
    "FileSource",
    "HubSource",
    "Location",
    "hub_spelling",
    "other_spelling",
    "parse_argument",
    "parse_declared",
    "parse_digest",
]

DEFAULT_REVISION = "main"
"""What a hub calls the branch that is meant where no revision is stated."""

_REPOSITORY = r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*"
_HUB = re.compile(rf"hf://(?P<repo>{_REPOSITORY})/?", re.ASCII)
_HUB_AT = re.compile(r"hf://(?P<repo>[\w.-]+/[\w.-]+)@(?P<revision>[\w./-]+)")
_PAGE = re.compile(
    rf"https?://[^/]+/(?P<repo>{_REPOSITORY})(?:/(?:tree|resolve|blob)/(?P<revision>[\w.-]+).*)?/?", re.ASCII
)
_CLAIM = re.compile(r"pvc://(?P<claim>[a-z0-9]([-a-z0-9.]*[a-z0-9])?)(?:/(?P<path>.*))?", re.DOTALL)
_AMBIGUOUS = re.compile(r"[%#?\s\x00-\x1f\x7f]")  # what a reader of URLs or of words would take for something else
_SHA256 = re.compile(r"[0-9a-f]{64}")
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class HubSource:
    """A model repository, ORG/NAME, at one revision of a Hugging Face hub."""

    repo: str
    revision: str = DEFAULT_REVISION

    @property
    def commit(self) -> str | None:
        """Return the revision where it is a commit, which never changes; None for a branch or tag."""
        return self.revision if _COMMIT.fullmatch(self.revision) else None

    @property
    def uri(self) -> str:
        """Return it as a container gets it."""
        return f"hf://{self.repo}@{self.revision}"


@dataclass(frozen=True)
class FileSource:
    """A folder where the merge runs."""

    path: str

    @property
    def uri(self) -> str:
        """Return it as a container gets it; for an absolute path only."""
        return f"file://{_AMBIGUOUS.sub(lambda found: quote(found[0]), self.path)}"


@dataclass(frozen=True)
class ClaimSource:
    """A folder inside a PersistentVolumeClaim of the model's namespace; `path` is relative, maybe empty."""

    claim: str
    path: str

    def mounted_at(self, root: str) -> FileSource:
        """Return the folder in a container that has the claim mounted at `root`."""
        return FileSource(f"{root}/{self.path}")


Location = HubSource | ClaimSource | FileSource


def parse_declared(uri: str, revision: str | None = None) -> Location:
    """Read a source as a VicunaModel declares it.

    Raises:
        ValueError: the scheme is unknown, a part is missing, or the path leaves its root by `..`, also by one that
            only decoding would show.
    """
    if match := _HUB.fullmatch(uri):
        return HubSource(match["repo"], revision or DEFAULT_REVISION)
    if uri.startswith("hf://"):
        raise ValueError(f"{uri!r} is not hf://ORG/NAME (a revision goes into the field `revision`)")
    if match := _CLAIM.fullmatch(uri):
        path = (match["path"] or "").strip("/")
        _refuse_parents(uri, path)
        return ClaimSource(match["claim"], path)
    if uri.startswith("pvc://"):
        raise ValueError(f"{uri!r} is not pvc://CLAIM/PATH")
    if uri.startswith("file:///"):
        path = uri.removeprefix("file://")
        _refuse_parents(uri, path)
        return FileSource(path)
    raise ValueError(f"{uri!r} is none of hf://ORG/NAME, pvc://CLAIM/PATH, file:///PATH (local runs only)")


def parse_argument(text: str) -> HubSource | FileSource:
    """Read a source as a command gets it: `hf://ORG/NAME@REVISION`, `file:///PATH` or a plain path.

    Raises:
        ValueError: it is none of these, or a URL's path has a `..`.
    """
    if text.startswith("hf://"):
        if match := _HUB_AT.fullmatch(text):
            return HubSource(match["repo"], match["revision"])
        if match := _HUB.fullmatch(text):
            raise ValueError(f"{text!r} names no revision; say {match[0].rstrip('/')}@{DEFAULT_REVISION}, or a commit")
        raise ValueError(f"{text!r} is not of the form hf://ORG/NAME@REVISION")
    if text.startswith("file://"):
        return FileSource(_path_of_url(text))
    if "://" in text or not text:
        page = _PAGE.fullmatch(text)
        hint = f"; say hf://{page['repo']}@{page['revision'] or DEFAULT_REVISION}" if page else ""
        raise ValueError(f"{text!r} is neither hf://ORG/NAME@REVISION nor file:///PATH nor a path{hint}")
    return FileSource(text)


def parse_digest(text: str) -> str:
    """Return the 64 hex digits of a stated sha256, with or without `sha256:` before them.

    Raises:
        ValueError: it is not a sha256.
    """
    digits = text.strip().lower().removeprefix("sha256:")
    if not _SHA256.fullmatch(digits):
        raise ValueError(f"{text!r} is not a sha256 digest; give 64 hexadecimal digits")
    return digits


def other_spelling(path: str) -> str | None:
    """Return what percent-decoding would make of a literal path; None where that is the same."""
    decoded = unquote(path)
    return decoded if decoded != path else None


def hub_spelling(text: str) -> str | None:
    """Return the URI of a repository that is given as ORG/NAME, as FastChat and others want it; None for all else."""
    return f"hf://{text}@{DEFAULT_REVISION}" if re.fullmatch(_REPOSITORY, text, re.ASCII) else None


def _path_of_url(url: str) -> str:
    host, slash, rest = url.removeprefix("file://").partition("/")
    if host not in ("", "localhost") or not slash:
        raise ValueError(f"{url!r} is not of the form file:///PATH")
    for mark in "?#":
        if mark in rest:
            raise ValueError(
                f"{url!r} has a {mark!r}, which is not part of a path in a URL; write {quote(mark)} for it"
            )
    path = slash + unquote(rest)
    _refuse_parents(url, path)
    return path


def _refuse_parents(uri: str, path: str) -> None:
    """Refuse `..` as a segment, however often the path has been encoded."""
    if "\0" in path:
        raise ValueError(f"{uri!r} must not contain a zero byte")
    decoded = ""
    while path != decoded:
        if ".." in path.split("/"):
            raise ValueError(f"{uri!r} must not contain `..`, also not percent-encoded")
        decoded, path = path, unquote(path)
