"""The CRD and its examples on a current API server (`make test-crd`): the judge is the server, warnings are failures.

Needs a server of custom resources in CRD_KUBECONFIG. Every verdict is compared with the emulation that the unit tests
use and with the operator's own.
"""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from support import crd_schema
from support.crd_examples import ACCEPTED_AND_REFUSED, FILLED, MINIMAL, with_value
from support.crd_server import Server
from vicuna_contract import names as c
from vicuna_operator.api.model import parse_model

Body = dict[str, Any]
ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))

pytestmark = pytest.mark.crd


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    with Server() as server:
        server.wait_until_served(_body(MINIMAL))
        yield server


def _body(body: Body) -> Body:
    return copy.deepcopy(body)


def test_the_definition_is_established_and_structural(server: Server) -> None:
    conditions = {item["type"]: item["status"] for item in server.definition()["status"]["conditions"]}
    assert conditions["Established"] == "True"
    assert conditions["NamesAccepted"] == "True"
    assert "NonStructuralSchema" not in conditions


@pytest.mark.parametrize("number", range(len(ACCEPTED_AND_REFUSED)))
def test_every_example_is_judged_alike(server: Server, number: int) -> None:
    path, good, bad = ACCEPTED_AND_REFUSED[number]
    stored, errors, warnings = server.ask(_body(with_value(path, good)), "Ignore")
    assert (errors, warnings) == ([], []), (path, good)
    emulated, said = crd_schema.admit(with_value(path, good))
    assert said == []
    assert stored is not None
    assert stored["spec"] == emulated["spec"], path
    _, errors, _ = server.ask(_body(with_value(path, bad)), "Ignore")
    assert errors, f"{path}: {bad!r} is taken"
    assert crd_schema.admit(with_value(path, bad))[1], f"{path}: {bad!r} is taken by the emulation alone"


def test_every_field_is_stored_as_it_was_sent(server: Server) -> None:
    stored, errors, warnings = server.ask({**_body(MINIMAL), "spec": _body(FILLED)})
    assert (errors, warnings) == ([], [])
    assert stored is not None
    assert stored["spec"] == crd_schema.admit({**MINIMAL, "spec": FILLED})[0]["spec"]
    model = parse_model({**stored, "metadata": {**stored["metadata"], "uid": "u", "generation": 1}})
    assert model.spec_error is None


@pytest.mark.parametrize("file", EXAMPLES, ids=[file.stem for file in EXAMPLES])
def test_the_examples_of_the_documents_are_taken_without_a_warning(server: Server, file: Path) -> None:
    for body in yaml.safe_load_all(file.read_text()):
        if body["kind"] == c.KIND:
            _, errors, warnings = server.ask(body)
            assert (errors, warnings) == ([], [])


@pytest.mark.parametrize("number", range(len(ACCEPTED_AND_REFUSED)))
def test_what_the_server_stores_the_operator_understands(server: Server, number: int) -> None:
    path, good, _ = ACCEPTED_AND_REFUSED[number]
    stored, _, _ = server.ask(_body(with_value(path, good)), "Ignore")
    assert stored is not None
    model = parse_model({**stored, "metadata": {**stored["metadata"], "uid": "u", "generation": 1}})
    assert model.spec_error is None, (path, good)


def test_a_field_that_does_not_exist_is_named(server: Server) -> None:
    _, errors, _ = server.ask(_body(with_value("spec.serving.replikas", 1)))
    assert any("replikas" in error for error in errors)
