"""A current API server for custom resources, named by CRD_KUBECONFIG, and one definition that is installed there."""

import json
import os
import time
from typing import Any

from kubernetes import client, config

from support import crd_schema
from vicuna_contract import names as c

Body = dict[str, Any]
_DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


def kubeconfig() -> str:
    """Return the file that leads there."""
    path = os.environ.get("CRD_KUBECONFIG")
    assert path, "CRD_KUBECONFIG is not set: these tests need an API server for custom resources"
    return path


class Server:
    """Asks the API server by plain requests, so that warnings and every word of an error are seen.

    Args:
        plural: of the kind that is spoken of.
    """

    def __init__(self, plural: str = c.PLURAL) -> None:
        self._api: client.ApiClient = config.new_client_from_config(kubeconfig())
        self._plural = plural
        self._path = f"/apis/{c.API_VERSION}/namespaces/team/{plural}"

    def __enter__(self) -> "Server":
        """Install the definition; the server has nothing against it."""
        assert self.install(crd_schema.crd(self._plural)) == []
        return self

    def __exit__(self, *_: object) -> None:
        self._api.__exit__(None, None, None)

    def wait_until_served(self, body: Body) -> None:
        """Ask until an object is taken; the server tells of a new kind in no other way than by answering."""
        end = time.monotonic() + 60
        while time.monotonic() < end:
            if self.ask(body)[0] is not None:
                return
            time.sleep(0.2)
        raise AssertionError(f"not served after a minute: {self.definition().get('status')}")

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
        path = _DEFINITIONS
        status, answer, warnings = self._call("POST", f"{path}?fieldValidation=Strict", definition)
        if status == 409:
            version = self.definition()["metadata"]["resourceVersion"]
            body = {**definition, "metadata": {**definition["metadata"], "resourceVersion": version}}
            name = definition["metadata"]["name"]
            status, answer, warnings = self._call("PUT", f"{path}/{name}?fieldValidation=Strict", body)
        return warnings if status in (200, 201) else [f"{status} {answer.get('message')}"]

    def definition(self) -> Body:
        """Return it as it is stored."""
        return self._call("GET", f"{_DEFINITIONS}/{self._plural}.{c.GROUP}", None)[1]

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
