"""Names in requests, and the endpoints behind them."""

import pytest

from vicuna_server.errors import RequestError
from vicuna_server.gateway.catalogue import Catalogue, Endpoint, Model
from vicuna_server.gateway.keys import Key

A, B = Endpoint("http://10.0.0.1:8000"), Endpoint("http://10.0.0.2:8000")


def key(*models: str) -> Key:
    return Key(name="alice", sha256="a" * 64, models=models or ("*",))


def everything(_: str) -> bool:
    return True


def resolved(catalogue: Catalogue, asked: str, asks: Key | None = None) -> Model:
    (model,) = catalogue.resolve(asked, asks or key()).models
    return model


@pytest.fixture
def catalogue() -> Catalogue:
    catalogue = Catalogue()
    for namespace, name, served in (("a", "small", "chat"), ("b", "big", "chat"), ("b", "other", "vicuna")):
        catalogue.put(Model(namespace, name, served))
    return catalogue


@pytest.mark.parametrize(("asked", "found"), [("a/chat", "small"), ("b/chat", "big"), ("vicuna", "other")])
def test_a_model_is_found_by_its_id_and_by_a_unique_served_name(catalogue: Catalogue, asked: str, found: str) -> None:
    assert resolved(catalogue, asked).name == found


def test_a_served_name_is_unique_among_what_a_key_may_see(catalogue: Catalogue) -> None:
    assert resolved(catalogue, "chat", key("[b]/*")).name == "big"


@pytest.mark.parametrize(
    ("asked", "asks", "code", "says"),
    [
        ("chat", key(), "model_ambiguous", "a/chat, b/chat"),
        ("big", key(), "model_not_found", "'big'"),
        ("b/chat", key("a/chat"), "model_not_found", "'b/chat'"),
        ("x" * 5000, key(), "model_not_found", "x…'"),
    ],
)
def test_what_is_unknown_unseen_or_ambiguous_is_404(
    catalogue: Catalogue, asked: str, asks: Key, code: str, says: str
) -> None:
    with pytest.raises(RequestError) as caught:
        catalogue.resolve(asked, asks)
    assert len(caught.value.message) < 400
    assert (caught.value.status, caught.value.code, caught.value.param) == (404, code, "model")
    assert says in caught.value.message


def test_who_has_a_served_name_that_reads_as_an_id_is_told_by_his_own() -> None:
    catalogue = Catalogue(several=True)
    catalogue.put(Model("a", "hub", "lmsys/vicuna-13b"))
    with pytest.raises(RequestError, match=r"reads as an id of another namespace.*: a/lmsys/vicuna-13b$") as caught:
        catalogue.resolve("lmsys/vicuna-13b", key("a/*"))
    assert (caught.value.status, caught.value.code) == (404, "model_not_found")
    with pytest.raises(RequestError) as caught:
        catalogue.resolve("lmsys/vicuna-13b", key("b/*"))
    assert "a/lmsys" not in caught.value.message
    assert caught.value.message.endswith("GET /v1/models lists the models of this key")


def test_two_objects_of_one_namespace_that_claim_one_name_are_both_named(catalogue: Catalogue) -> None:
    catalogue.put(Model("a", "twin", "chat"))
    with pytest.raises(RequestError, match="small, twin"):
        catalogue.resolve("a/chat", key())


def test_a_hundred_choices_are_not_all_told(catalogue: Catalogue) -> None:
    for number in range(100):
        catalogue.put(Model(f"n{number:03}", "m", "chat"))
    with pytest.raises(RequestError, match=r"102 models are called 'chat'; name one of a/chat, b/chat.* and 92 more"):
        catalogue.resolve("chat", key())


def test_a_model_that_changes_its_name_is_found_by_the_new_one_alone(catalogue: Catalogue) -> None:
    catalogue.put(Model("a", "small", "talk"))
    assert resolved(catalogue, "talk").name == "small"
    assert resolved(catalogue, "chat").name == "big"
    with pytest.raises(RequestError):
        catalogue.resolve("a/chat", key())
    catalogue.remove(("a", "small"))
    with pytest.raises(RequestError):
        catalogue.resolve("a/talk", key())


def test_endpoints_come_from_all_slices_of_a_service_once_each(catalogue: Catalogue) -> None:
    model = resolved(catalogue, "a/chat")
    catalogue.put_endpoints(("a", "small"), "one", [A])
    catalogue.put_endpoints(("a", "small"), "two", [A, B])
    catalogue.put_endpoints(("b", "big"), "one", [B])
    assert catalogue.endpoints(model) == (A, B)
    catalogue.put_endpoints(("a", "small"), "two", [])
    assert catalogue.endpoints(model) == (A,)
    assert catalogue.parts() == {(("a", "small"), "one"), (("b", "big"), "one")}
    catalogue.remove(("a", "small"))
    assert [each.id for each in catalogue.visible(everything)] == ["b/chat", "b/vicuna"]


def test_changes_are_told_once_and_after_they_have_been_made() -> None:
    catalogue, seen = Catalogue(), list[tuple[bool, int]]()
    model = Model("a", "small", "chat")

    def note(key: tuple[str, str]) -> None:
        assert key == model.key
        seen.append((catalogue.model(key) is not None, len(catalogue.endpoints(model))))

    catalogue.listeners.append(note)
    catalogue.put_endpoints(model.key, "slice", [A, B])
    catalogue.put(model)
    catalogue.put(model)
    catalogue.put_endpoints(model.key, "slice", [])
    catalogue.remove(model.key)
    assert seen == [(False, 2), (True, 2), (True, 2), (True, 0), (False, 0)]
