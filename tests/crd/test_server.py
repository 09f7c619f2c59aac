"""The CRD and its examples on a current API server (`make test-crd`): the judge is the server, warnings are failures.

Needs a server of custom resources in CRD_KUBECONFIG. Every verdict is compared with the emulation that the unit tests
use and with the operator's own.
"""

import copy
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client, config

from support import crd_schema
from support.crd_examples import ACCEPTED_AND_REFUSED, FILLED, MINIMAL, with_value
from vicuna_contract import names as c
from vicuna_operator.api.model import parse_model

Body = dict[str, Any]
ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))

_DEFINITIONS = "customresourcedefinitions"

pytestmark = pytest.mark.crd


class Server:
    """Asks the API server by plain requests, so that warnings and every word of an error are seen."""

    def __init__(self, api: client.ApiClient) -> None:
        self._api = api
        self._path = f"/apis/{c.API_VERSION}/namespaces/team/{c.PLURAL}"

    def ask(self, body: Body, fields: str = "Strict") -> tuple[Body | None, list[str], list[str]]:
        """Return what the server would store, why it refuses, and its warnings, of a dry run.

        `fields` says what becomes of unknown ones: Strict refuses them, Ignore prunes them in silence.
        """
        status, answer, warnings = self._call("POST", f"{self._path}?dryRun=All&fieldValidation={fields}", body)
        if status == 201:
            return answer, [], warnings
        causes = (answer.get("details") or {}).get("causes") or [answer]
        return None, [f"{status} {cause.get('field', '')}: {cause.get('message')}" for cause in causes], warnings

    def install(self, definition: Body) -> list[str]:
        """Create the definition, or replace what an earlier run left, and return what the server has against it."""
        path = f"/apis/apiextensions.k8s.io/v1/{_DEFINITIONS}"
        status, answer, warnings = self._call("POST", f"{path}?fieldValidation=Strict", definition)
        if status == 409:
            version = self.definition()["metadata"]["resourceVersion"]
            body = {**definition, "metadata": {**definition["metadata"], "resourceVersion": version}}
            name = definition["metadata"]["name"]
            status, answer, warnings = self._call("PUT", f"{path}/{name}?fieldValidation=Strict", body)
        return warnings if status in (200, 201) else [f"{status} {answer.get('message')}"]

    def definition(self) -> Body:
        """Return it as it is stored."""
        return self._call("GET", f"/apis/apiextensions.k8s.io/v1/{_DEFINITIONS}/{c.PLURAL}.{c.GROUP}", None)[1]

    def _call(self, method: str, path: str, body: Body | None) -> tuple[int, Body, list[str]]:
        content = None if body is None else json.dumps(body)
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        pool = self._api.rest_client.pool_manager
        answer = pool.request(method, self._api.configuration.host + path, body=content, headers=headers, timeout=30)
        try:
            told = json.loads(answer.data)
        except ValueError:  # a path that is not served
            told = {"message": answer.data.decode()}
        return answer.status, told, list(answer.headers.getlist("Warning"))


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    kubeconfig = os.environ.get("CRD_KUBECONFIG")
    if not kubeconfig:
        pytest.fail("CRD_KUBECONFIG is not set: these tests need an API server for custom resources")
    with config.new_client_from_config(kubeconfig) as api:
        server = Server(api)
        assert server.install(crd_schema.crd()) == []
        _wait_until_served(server)
        yield server


def _wait_until_served(server: Server) -> None:
    """Ask until the new kind is served; the server tells of it in no other way than by answering."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        stored, _, _ = server.ask(_body(MINIMAL))
        if stored is not None:
            return
        time.sleep(0.2)
    raise AssertionError(f"not served after a minute: {server.definition().get('status')}")


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
