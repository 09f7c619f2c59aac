"""Which tokens are valid at a server that requires a gateway's signature."""

import base64
import json
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.signing import AUDIENCE, PATH, Pair
from vicuna_contract.signing import MOST_TOKEN_CHARACTERS, SKEW_SECONDS, key_id
from vicuna_server.api.signature import Signatures
from vicuna_server.api.signed import is_local
from vicuna_server.errors import RequestError

PAIR, OTHER = Pair(), Pair()
AGES = SKEW_SECONDS + 60


def refusal(token: str, method: str = "POST", path: str = PATH, signatures: Signatures | None = None) -> RequestError:
    with pytest.raises(RequestError) as caught:
        (signatures or Signatures([PAIR.public], AUDIENCE)).check(token, method, path)
    assert caught.value.status == 401
    assert "gateway" in caught.value.message
    return caught.value


def part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def tampered(**claims: Any) -> str:
    """A good token whose claims somebody changed."""
    head, _, signature = PAIR.token().split(".")
    stated = jwt.decode(PAIR.token(), options={"verify_signature": False})
    return f"{head}.{part({**stated, **claims})}.{signature}"


def symmetric() -> str:
    """Signed with the public key as if it were a secret that both sides share."""
    claims = jwt.decode(PAIR.token(), options={"verify_signature": False})
    return jwt.encode(claims, PAIR.public, algorithm="HS256", headers={"kid": key_id(PAIR.public)})


def unsigned() -> str:
    _, body, _ = PAIR.token().split(".")
    return f"{part({'alg': 'none', 'typ': 'JWT', 'kid': key_id(PAIR.public)})}.{body}."


BAD: dict[str, tuple[Callable[[], str], str]] = {
    "another key": (OTHER.token, "not in this server's --gateway-keys"),
    "another key under our name": (lambda: OTHER.token(head={"kid": key_id(PAIR.public)}), "is not valid"),
    "no name of a key": (
        lambda: f"{part({'alg': 'EdDSA'})}.{PAIR.token().split('.', 1)[1]}",
        "not in this server's --gateway-keys",
    ),
    "a name that is a list": (
        lambda: f"{part({'alg': 'EdDSA', 'kid': [1]})}.e30.e30",
        "not in this server's --gateway-keys",
    ),
    "claims changed": (lambda: tampered(aud="team/other/uid-1"), "is not valid"),
    "a signature cut": (lambda: PAIR.token()[:-4], "signature is"),
    "symmetric": (symmetric, "is not valid"),
    "unsigned": (unsigned, "is not valid"),
    "over": (lambda: PAIR.token(ago=AGES + 5), "has expired"),
    "of the future": (lambda: PAIR.token(ago=-SKEW_SECONDS - 5), "clocks"),
    "for another model": (lambda: PAIR.token(aud="team/other/uid-1"), "another model"),
    "for a former one of that name": (lambda: PAIR.token(aud="team/tiny/uid-0"), "another model"),
    "for nobody": (lambda: PAIR.token(aud=None), "is not valid"),
    "for ever": (lambda: PAIR.token(exp=2**40), "is valid for more than 60 s"),
    "without an end": (lambda: PAIR.token(exp=None), "is not valid"),
    "without a beginning": (lambda: PAIR.token(iat=None), "is not valid"),
    "an end before its beginning": (lambda: PAIR.token(exp=1), "has expired"),
    "an end that is a text": (lambda: PAIR.token(exp="soon"), "is not valid"),
    "without a path": (lambda: PAIR.token(path=None), "is not valid"),
    "for another path": (lambda: PAIR.token(path="/tokenize"), "another method or path"),
    "for another method": (lambda: PAIR.token(method="GET"), "another method or path"),
    "too long": (lambda: PAIR.token(more="x" * MOST_TOKEN_CHARACTERS), "too long"),
    "too long and nothing": (lambda: "a" * 70_000, "too long"),
    "two parts": (lambda: "a.b", "not in this server's --gateway-keys"),
    "deep": (
        lambda: base64.urlsafe_b64encode(b"[" * 3000).decode()[:4000] + ".e30.e30",
        "not in this server's --gateway-keys",
    ),
}


@pytest.mark.parametrize(("token", "says"), BAD.values(), ids=BAD.keys())
def test_it_is_refused(token: Callable[[], str], says: str) -> None:
    error = refusal(token())
    assert says in error.message
    assert error.code == "gateway_signature_refused"


def test_a_missing_signature_has_its_own_code() -> None:
    assert refusal("").code == "gateway_signature_missing"


@pytest.mark.parametrize("ago", [0, 30, AGES - 10, -SKEW_SECONDS + 10])
def test_a_valid_token_is_accepted_where_clocks_differ(ago: float) -> None:
    Signatures([OTHER.public, PAIR.public], AUDIENCE).check(PAIR.token(ago=ago), "POST", PATH)


def test_a_token_for_several_audiences_is_accepted() -> None:
    Signatures([PAIR.public], AUDIENCE).check(PAIR.token(aud=["team/tiny/uid-0", AUDIENCE]), "POST", PATH)


def test_a_remembered_token_is_valid_for_its_own_request_and_time_only(monkeypatch: pytest.MonkeyPatch) -> None:
    signatures, token = Signatures([PAIR.public], AUDIENCE), PAIR.token()
    for _ in range(3):
        signatures.check(token, "POST", PATH)
    refusal(token, path="/v1/completions", signatures=signatures)
    refusal(token, method="GET", signatures=signatures)
    monkeypatch.setattr("time.time", lambda: float(2**33))
    assert "has expired" in refusal(token, signatures=signatures).message


def test_the_number_of_remembered_tokens_is_bounded() -> None:
    signatures = Signatures([PAIR.public], AUDIENCE)
    for number in range(300):
        signatures.check(PAIR.token(number=number), "POST", PATH)
    assert len(signatures._valid) <= 256


@given(st.text(max_size=300) | st.lists(st.text("abcXYZ019-_=", max_size=80), min_size=3, max_size=3).map(".".join))
def test_garbage_is_refused_without_a_bug(token: str) -> None:
    if token:
        refusal(token)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)


@given(kid=JSON, alg=JSON, more=st.dictionaries(st.sampled_from(["b64", "crit", "typ", "jwk", "x5u"]), JSON))
def test_odd_headers_are_refused_without_a_bug(kid: Any, alg: Any, more: dict[str, Any]) -> None:
    _, body, signature = PAIR.token().split(".")
    refusal(f"{part({**more, 'alg': alg, 'kid': kid})}.{body}.{signature}")
    refusal(f"{part({**more, 'alg': alg, 'kid': key_id(PAIR.public)})}.{body}.{signature}")


@given(st.sampled_from(["aud", "iat", "exp", "method", "path"]), JSON)
def test_odd_claims_under_a_good_signature_are_refused_without_a_bug(name: str, value: Any) -> None:
    try:
        token = PAIR.token(**{name: value})
    except (TypeError, ValueError, OverflowError):  # what a signer itself does not sign
        return
    if jwt.decode(token, options={"verify_signature": False}).get(name) in (AUDIENCE, "POST", PATH):
        return
    refusal(token)


LOCAL = [("127.0.0.1", True), ("127.8.0.3", True), ("::1", True), ("::ffff:127.0.0.1", True)]
FAR = [("10.0.0.7", False), ("::ffff:10.0.0.7", False), ("fe80::1%eth0", False), ("localhost", False), ("", False)]


@pytest.mark.parametrize(("host", "local"), [*LOCAL, *FAR])
def test_a_connection_is_local_where_both_its_ends_are(host: str, local: bool) -> None:
    assert is_local({"client": (host, 5), "server": ("127.0.0.1", 8000)}) is local
    assert is_local({"client": ("127.0.0.1", 5), "server": (host, 8000)}) is local


@pytest.mark.parametrize("ends", [{}, {"client": None, "server": None}, {"client": ("127.0.0.1", 5), "server": None}])
def test_an_end_that_is_not_known_is_not_local(ends: dict[str, Any]) -> None:
    assert is_local(ends) is False
