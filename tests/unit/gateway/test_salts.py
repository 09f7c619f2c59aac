"""The cache salt: another for each key and model, the same in every replica, and it reveals nothing."""

import json

from vicuna_contract.names import SALT_HEADER
from vicuna_server.gateway.authentication import ANONYMOUS
from vicuna_server.gateway.keys import Key, KeyRing, hash_of
from vicuna_server.gateway.model import Model
from vicuna_server.gateway.salts import salt_of, with_salt

MODEL = Model("team", "m", "served")


def key(token: str, name: str = "alice") -> Key:
    found = KeyRing.parse({name: json.dumps({"sha256": hash_of(token)}).encode()}).find(token)
    assert found is not None
    return found


def test_a_salt_hangs_on_the_key_and_the_model_alone() -> None:
    models = [MODEL, Model("team", "n", "served"), Model("evil", "m", "served"), Model("", "team/m", "served")]
    salts = {salt_of(key(token), model) for token in ("one", "two") for model in models[:3]}
    assert len(salts) == 6
    assert salt_of(key("one"), MODEL) == salt_of(key("one"), Model("team", "m", "other", reason="Merging"))
    assert all(len(salt) == 32 and int(salt, 16) for salt in salts)


def test_a_salt_has_no_part_of_key_hash_or_name() -> None:
    salt = salt_of(key("one", "alice"), MODEL)
    for known in ("one", hash_of("one"), "alice", "team/m"):
        assert salt not in (known[:32], hash_of(known)[:32]), "whoever knows it would know the salt, or the other way"
    assert salt == salt_of(key("one", "bob"), MODEL), "the name of a key is nobody's secret"


def test_what_the_client_says_is_dropped() -> None:
    said = [("X-Vicuna-Cache-Salt", "mine"), ("accept", "*/*"), (SALT_HEADER, "again")]
    assert with_salt(said, key("one"), MODEL) == [("accept", "*/*"), (SALT_HEADER, salt_of(key("one"), MODEL))]
    assert with_salt(said, ANONYMOUS, MODEL) == [("accept", "*/*")], "without keys all are one"
