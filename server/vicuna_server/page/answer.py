"""From a request's method, path and headers to what is sent back."""

from collections.abc import Mapping
from dataclasses import dataclass

from vicuna_server.page.files import page_file

__all__ = ["CONTENT_SECURITY_POLICY", "PageAnswer", "page_answer"]

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "worker-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        # The page builds elements, never HTML text; where this is known, the browser refuses innerHTML altogether.
        "require-trusted-types-for 'script'",
        # Addresses of workers are made by this policy, which knows two (workers/start.ts) and can be made once.
        "trusted-types workers",
    )
)
"""Nothing from elsewhere and nothing inline: what a model writes cannot load, send or run anything."""

_SECURITY = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


@dataclass(frozen=True, slots=True)
class PageAnswer:
    """A whole response; the body is empty for 304 and for HEAD."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def page_answer(method: str, path: str, headers: Mapping[str, str]) -> PageAnswer | None:
    """Return the response to a GET or HEAD for a file of the page, None for any other path.

    Args:
        method: `GET` or `HEAD`.
        path: Without query; relative to where the page is mounted.
        headers: The request's, with lower-case names (or a mapping that ignores case).
    """
    file = page_file(path)
    if file is None:
        return None
    # Asked again each time, answered by 304: replicas of two versions never mix for longer than one load of the page.
    common = {"cache-control": "no-cache", "etag": file.etag, "vary": "accept-encoding", **_SECURITY}
    if _matches(headers.get("if-none-match", ""), file.etag):
        return PageAnswer(304, common, b"")
    body = file.body
    if _takes_gzip(headers.get("accept-encoding", "")):
        body = file.gzipped
        common["content-encoding"] = "gzip"
    common |= {"content-type": file.content_type, "content-length": str(len(body))}
    return PageAnswer(200, common, b"" if method == "HEAD" else body)


def _matches(if_none_match: str, etag: str) -> bool:
    """Compare weakly, as RFC 9110 section 13.1.2 says."""
    given = {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}
    return "*" in given or etag.removeprefix("W/") in given


def _takes_gzip(accept_encoding: str) -> bool:
    """Read `Accept-Encoding`, RFC 9110 section 12.5.3; a weight of zero refuses."""
    weights: dict[str, bool] = {}
    for item in accept_encoding.lower().split(","):
        coding, _, parameters = item.partition(";")
        weight = parameters.replace(" ", "").removeprefix("q=")
        weights[coding.strip()] = not weight or weight.strip("0.") != ""
    return weights.get("gzip", weights.get("*", False))
