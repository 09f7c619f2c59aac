"""Which model a name means: another namespace can neither take a name over nor make it ambiguous."""

import itertools

import pytest

from vicuna_server.gateway.keys import Key
from vicuna_server.gateway.model import Model
from vicuna_server.gateway.names import Found, find

GONE = Model("evil", "x", "team-b/gone")
MODELS = (
    Model("team-a", "m", "m"),
    Model("team-a", "hub", "lmsys/vicuna"),
    Model("team-a", "upper", "LMSys/vicuna"),
    Model("team-a", "own", "team-a/own"),
    Model("team-a", "only-a", "only-a"),
    Model("team-b", "m", "m"),
    Model("team-b", "s", "s"),
    Model("evil", "m", "m"),
    Model("evil", "s2", "s"),
    GONE,
)


def key(*models: str, default: str | None = None) -> Key:
    return Key(name="k", sha256="a" * 64, models=models or ("*",), default_namespace=default)


def found(asked: str, asks: Key, *, several: bool = True, models: tuple[Model, ...] = MODELS) -> Found:
    ids = [model for model in models if model.id == asked]
    return find(asked, asks, ids, [model for model in models if model.served_name == asked], several=several)


def names(asked: str, asks: Key) -> list[str]:
    return [f"{model.namespace}/{model.name}" for model in found(asked, asks).models]


@pytest.mark.parametrize(
    "asks",
    [
        key(),
        key("*/*"),
        key("*/gone", "evil/*"),
        key("evil/*", "team-b/*"),
        key("evil/*", "team-b/s"),
        key("*", default="evil"),
        key("*", default="team-b"),
        key("evil/*", default="team-b"),
        key("e*/*"),
    ],
)
def test_a_name_that_could_be_an_id_elsewhere_is_nobody_elses_name(asks: Key) -> None:
    meant = found("team-b/gone", asks)
    assert (meant.models, meant.across) == ((), False)


@pytest.mark.parametrize(
    ("asked", "asks"),
    [
        ("team-b/vicuna", key("*/vicuna")),
        ("x/y", key("*/x/*")),
        ("x/y", key("evil/*")),
        ("x/y", key("evil/x/y")),
        ("x/y", key("evil/*", default="evil")),
        ("x/Y_z.1", key("evil/*")),
        ("x/y/z", key("evil/*")),
        ("1" * 63 + "/y", key("evil/*")),
    ],
)
def test_nor_for_a_key_that_could_not_use_that_id(asked: str, asks: Key) -> None:
    taker = Model("evil", "z", asked)
    assert asks.may_use(taker.id)
    assert found(asked, asks, models=(taker,)) == Found(by_id_alone=(taker,))


@pytest.mark.parametrize(
    "asked",
    ["LMSys/vicuna", "lm_sys/vicuna", "lm.sys/vicuna", "-lm/vicuna", "lm-/vicuna", "/v", "a" * 64 + "/v", "l:m/v"],
)
def test_what_no_namespace_is_called_makes_no_id(asked: str) -> None:
    owner = Model("team-a", "z", asked)
    for asks in (key("team-a/*"), key(), key("*", default="team-a")):
        assert found(asked, asks, models=(owner,)).models == (owner,)


def test_only_those_are_told_that_the_key_may_use_and_would_mean() -> None:
    a, b = Model("team-a", "hub", "lmsys/vicuna"), Model("team-b", "hub", "lmsys/vicuna")
    for asks, told in (
        (key("team-a/*"), (a,)),
        (key("team-a/m", "team-b/*"), (b,)),
        (key("*", default="team-b"), (b,)),
        (key("*", default="team-c"), ()),
        (key(), (a, b)),
        (key("*/vicuna-7b"), ()),
    ):
        assert found("lmsys/vicuna", asks, models=(a, b)) == Found(by_id_alone=told)


def test_an_id_always_wins() -> None:
    victim = Model("team-b", "gone", "gone")
    for asks in (key(), key("evil/*", "team-b/*"), key("*", default="evil")):
        assert found("team-b/gone", asks, models=(*MODELS, victim)).models == (victim,)
    inner = Model("evil", "y", "m/x")
    assert found("evil/m/x", key("evil/*"), models=(inner, Model("evil", "q", "evil/m/x"))).models == (inner,)


def test_a_served_name_is_looked_for_where_the_key_says() -> None:
    assert names("m", key("team-a/*")) == ["team-a/m"]
    assert names("m", key("team-a/*", "*/s")) == ["team-a/m"]
    assert names("s", key("team-a/*", "*/s")) == [], "a wildcard names nobody"
    assert names("m", key("team-a/m", "team-b/*")) == ["team-a/m", "team-b/m"], "both are named: ambiguous"
    assert names("m", key("team-a/*", "team-b/*", default="team-b")) == ["team-b/m"]
    assert names("m", key("*", default="team-b")) == ["team-b/m"]
    assert names("s", key("team-a/*", "team-b/*", default="team-a")) == ["team-b/s"], "else where patterns name"
    assert names("s", key("*", default="team-a")) == []
    assert names("m", key("team-b/s", default="team-a")) == [], "a default allows nothing"
    for asks in (key("team-a/*"), key("*", default="team-a")):
        assert not found("m", asks).across


def test_a_served_name_that_reads_as_an_id_of_its_own_namespace_is_nobody_elses() -> None:
    assert names("team-a/own", key("team-a/*")) == ["team-a/own"]
    for asks in (key("team-a/*"), key()):
        assert names("team-a/lmsys/vicuna", asks) == ["team-a/hub"], "an id"


def test_keys_that_name_no_namespace_find_across_them_for_one_release_more() -> None:
    for asks in (key(), key("*/only-a"), key("team-?/*"), key("[t]eam-a/*")):
        assert found("only-a", asks) == Found((MODELS[4],), across=True)
    assert len(found("m", key()).models) == 3
    assert found("nobody", key()) == Found()


def test_where_there_is_one_namespace_all_is_as_it_was() -> None:
    alone = tuple(model for model in MODELS if model.namespace == "team-a")
    for model, asks in itertools.product(alone, (key(), key("team-a/*"), key("*/*"))):
        for asked in (model.id, model.served_name):
            assert found(asked, asks, several=False, models=alone) == Found((model,)), asked
    direct = Model("", "org/m", "org/m")
    assert found("org/m", key(), several=False, models=(direct,)) == Found((direct,))


def test_nobody_elses_models_change_what_a_name_means_to_a_key_that_names_its_namespace() -> None:
    own = tuple(model for model in MODELS if model.namespace == "team-a")
    for taken in itertools.chain((model.served_name for model in MODELS), (model.id for model in MODELS)):
        others = tuple(Model("evil", f"e{number}", name) for number, name in enumerate((taken, f"team-a/{taken}")))
        for model in own:
            for asked in (model.id, model.served_name):
                for asks in (key("team-a/*"), key("team-a/*", "*/vicuna"), key("*", "team-a/m")):
                    before = found(asked, asks, models=own).models
                    assert found(asked, asks, models=(*own, *others)).models == before


@pytest.mark.parametrize(
    ("models", "namespaces"),
    [
        (("team-a/*", "*/vicuna", "team-b/m"), {"team-a", "team-b"}),
        (("*", "*/*", "team-?/*", "[t]eam/*", "team", "team*"), set()),
        (("Team/*", "/x", "-a/*", "a" * 64 + "/*", "a.b/*"), set()),
        (("a/b/c", "1/*"), {"a", "1"}),
    ],
)
def test_the_namespaces_that_patterns_name(models: tuple[str, ...], namespaces: set[str]) -> None:
    assert key(*models).namespaces == namespaces
