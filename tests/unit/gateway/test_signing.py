"""The gateway's signature: its claims, its lifetime, and which keys are accepted."""

from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from support.signing import PATH, Pair
from vicuna_server.api.signature import Signatures
from vicuna_server.errors import InputError, RequestError
from vicuna_server.gateway.catalogue import Model
from vicuna_server.gateway.signing import Signer, private_key, signed

PAIR = Pair()
MODEL = Model("team", "tiny", "called", uid="uid-1")


class Clock:
    now = 1_000_000_000.5

    def __call__(self) -> float:
        return self.now


def claims(token: str) -> dict[str, object]:
    return dict(jwt.decode(token, options={"verify_signature": False}))


def test_it_says_for_whom_for_what_and_until_when() -> None:
    token = Signer(PAIR.private, Clock()).token(MODEL, "POST", PATH)
    start = 1_000_000_000
    assert claims(token) == {
        "aud": "team/tiny/uid-1",
        "iat": start,
        "exp": start + 60,
        "method": "POST",
        "path": PATH,
    }


def test_a_server_of_the_model_takes_it_and_no_other_does() -> None:
    token = Signer(PAIR.private).token(MODEL, "POST", PATH)
    Signatures([PAIR.public], "team/tiny/uid-1").check(token, "POST", PATH)
    for other in ("team/tiny/uid-2", "team/called/uid-1", "other/tiny/uid-1"):
        with pytest.raises(RequestError, match="another model"):
            Signatures([PAIR.public], other).check(token, "POST", PATH)


def test_pods_of_before_a_restore_take_it_too() -> None:
    adopted = Model("team", "tiny", "tiny", uid="uid-2", former_uids=("uid-1",))
    token = Signer(PAIR.private).token(adopted, "POST", PATH)
    for uid in ("uid-1", "uid-2"):
        Signatures([PAIR.public], f"team/tiny/{uid}").check(token, "POST", PATH)


def test_one_token_serves_for_some_seconds_and_one_model_and_path() -> None:
    clock = Clock()
    signer = Signer(PAIR.private, clock)
    first = signer.token(MODEL, "POST", PATH)
    clock.now += 9
    assert signer.token(MODEL, "POST", PATH) == first
    assert signer.token(MODEL, "POST", "/v1/embeddings") != first
    clock.now += 2
    second = signer.token(MODEL, "POST", PATH)
    assert claims(second)["iat"] == 1_000_000_011
    clock.now -= 3600  # a clock that is set back must not extend a token
    assert claims(signer.token(MODEL, "POST", PATH))["iat"] == 1_000_000_011 - 3600


def test_no_number_of_models_is_remembered_without_end() -> None:
    signer = Signer(PAIR.private)
    signer._made = {(("x",), "POST", str(number)): ("", 0.0) for number in range(4096)}
    signer.token(MODEL, "POST", PATH)
    assert len(signer._made) == 1


def test_a_clients_own_header_never_goes_upstream() -> None:
    sent = [("X-Vicuna-Signature", "mine"), ("x-vicuna-signature", "again"), ("accept", "a")]
    assert signed(None, MODEL, PATH, sent) == [("accept", "a")]
    signer = Signer(PAIR.private)
    token = signer.token(MODEL, "POST", PATH)
    assert signed(signer, MODEL, PATH, sent) == [("accept", "a"), ("x-vicuna-signature", token)]


def test_a_key_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(PAIR.pem)
    assert private_key(tmp_path / "key").public_key().public_bytes_raw() == PAIR.public


LOCKED = PAIR.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))
CURVE = ec.generate_private_key(ec.SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
WRONG = {"nothing": b"", "no PEM": b"\x00\xff", "a password": LOCKED, "another kind": CURVE, "cut": PAIR.pem[:60]}


@pytest.mark.parametrize("data", WRONG.values(), ids=WRONG.keys())
def test_a_wrong_key_file_is_told_with_the_way_out(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "key").write_bytes(data)
    with pytest.raises(InputError, match="openssl genpkey") as caught:
        private_key(tmp_path / "key")
    assert caught.value.reason == "SigningKeyBroken"


def test_a_missing_key_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        private_key(tmp_path / "key")
