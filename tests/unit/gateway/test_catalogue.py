"""Names in requests, and the endpoints behind them."""

from collections.abc import Callable

import pytest

from vicuna_server.errors import RequestError
from vicuna_server.gateway.catalogue import Catalogue, Endpoint, Model

A, B = Endpoint("http://10.0.0.1:8000"), Endpoint("http://10.0.0.2:8000")


def everything(_: str) -> bool:
    return True


@pytest.fixture
def catalogue() -> Catalogue:
    catalogue = Catalogue()
    for namespace, name, served in (("a", "small", "chat"), ("b", "big", "chat"), ("b", "other", "vicuna")):
        catalogue.put(Model(namespace, name, served))
    return catalogue


@pytest.mark.parametrize(("asked", "found"), [("a/chat", "small"), ("b/chat", "big"), ("vicuna", "other")])
def test_a_model_is_found_by_its_id_and_by_a_unique_served_name(catalogue: Catalogue, asked: str, found: str) -> None:
    assert catalogue.resolve(asked, everything).name == found


def test_a_served_name_is_unique_among_what_a_key_may_see(catalogue: Catalogue) -> None:
    assert catalogue.resolve("chat", lambda model: model.startswith("b/")).name == "big"


@pytest.mark.parametrize(
    ("asked", "may_see", "code", "says"),
    [
        ("chat", everything, "model_ambiguous", "a/chat, b/chat"),
        ("big", everything, "model_not_found", "'big'"),
        ("b/chat", lambda model: model == "a/chat", "model_not_found", "'b/chat'"),
    ],
)
def test_what_is_unknown_unseen_or_ambiguous_is_404(
    catalogue: Catalogue, asked: str, may_see: Callable[[str], bool], code: str, says: str
) -> None:
    with pytest.raises(RequestError) as caught:
        catalogue.resolve(asked, may_see)
    assert (caught.value.status, caught.value.code, caught.value.param) == (404, code, "model")
    assert says in caught.value.message


def test_two_objects_of_one_namespace_that_claim_one_name_are_both_named(catalogue: Catalogue) -> None:
    catalogue.put(Model("a", "twin", "chat"))
    with pytest.raises(RequestError, match="small, twin"):
        catalogue.resolve("a/chat", everything)


def test_endpoints_come_from_all_slices_of_a_service_once_each(catalogue: Catalogue) -> None:
    model = catalogue.resolve("a/chat", everything)
    catalogue.put_endpoints(("a", "small"), "one", [A])
    catalogue.put_endpoints(("a", "small"), "two", [A, B])
    catalogue.put_endpoints(("b", "big"), "one", [B])
    assert catalogue.endpoints(model) == (A, B)
    catalogue.put_endpoints(("a", "small"), "two", [])
    assert catalogue.endpoints(model) == (A,)
    assert catalogue.parts() == {(("a", "small"), "one"), (("b", "big"), "one")}
    catalogue.remove(("a", "small"))
    assert [each.id for each in catalogue.visible(everything)] == ["b/chat", "b/vicuna"]
