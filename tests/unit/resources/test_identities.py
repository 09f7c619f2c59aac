"""Identities, names and container arguments of stored objects never change: a change would restart running models.

`identities/*.json` holds specs and what version 0.1.0 made of them. Nothing there is ever rewritten. A new field gets a
case of its own: write `case`, `model` and `spec`; `UPDATE_GOLDEN=1 pytest tests/unit/resources` fills in the rest.

- stored.json: the examples, the golden specs and the models of `planning/upgrades`, as they were in 0.1.0. vLLM's
  `engine` arguments alone may still grow until a release has them: they are no part of a revision, whose Deployment is
  written once.
- generated.json: drawn at random over all fields, then frozen; and odd sources and quantities one by one.
- local.json: what only `vicuna-operator up` takes.
- quoted.json: sources with `#`, `?`, `%` and blanks. Their `merge` arguments are quoted URIs, the one thing not as in
  0.1.0, which did not quote and so read another folder or none.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support import crd_schema
from vicuna_contract import names as c
from vicuna_operator.api.model import Model, parse_model
from vicuna_operator.api.validation import parse_spec
from vicuna_operator.resources.budget import disruption_budget
from vicuna_operator.resources.claim import storage_claim
from vicuna_operator.resources.common import claim_name, spec_of
from vicuna_operator.resources.deployment import revision_deployment
from vicuna_operator.resources.identity import merge_key, merge_series, revision, rollout_attempt
from vicuna_operator.resources.merge_job import merge_job
from vicuna_operator.resources.network_policy import network_policy
from vicuna_operator.resources.prune_job import prune_job
from vicuna_operator.resources.service import model_service

FOLDER = Path(__file__).parent / "identities"
PLANNING = Path(__file__).parents[1] / "planning"
GIVEN = ("case", "model", "spec")
ARTIFACT = "0123456789abcdef"
IMAGE = "registry.example/server:1"


def model_of(case: dict[str, Any], spec: dict[str, Any], *, local: bool) -> Model:
    model = parse_model({"metadata": {**case["model"], "uid": "uid-1"}, "spec": spec}, local=local)
    assert model.spec_error is None, model.spec_error
    return model


def made_of(model: Model) -> dict[str, Any]:
    """Return the identities of a model, its children's names, and the arguments of its containers."""
    spec = spec_of(model)
    image = spec.serving.image or IMAGE
    beside = {"engine_image": spec.serving.engine_image or "registry.example/vllm:1"}
    engine: dict[str, Any] = beside if spec.serving.engine == "vllm" else {}
    identities = {
        "mergeKey": merge_key(spec),
        "series": merge_series(spec, claim=claim_name(model), retry=""),
        "revision": revision(spec, artifact_id=ARTIFACT, image=image, **engine),
        "attempt": rollout_attempt(spec, retry=""),
    }
    common: dict[str, Any] = {"image": image, "pull_policy": "Always", "shared_volume": False}
    series = identities["series"]
    merge = merge_job(model, attempt=0, series=series, capacity="", **common)
    serve = revision_deployment(
        model, revision=identities["revision"], artifact_id=ARTIFACT, replicas=1, annotations={}, **common, **engine
    )
    prune = prune_job(model, keep=["b" * 16, "a" * 16], **common)
    children = [merge, serve, prune, model_service(model), disruption_budget(model), network_policy(model, [])]
    if spec.storage.claim_name is None and spec.storage.size is not None:
        children.append(storage_claim(model))
    return {
        **identities,
        "claim": claim_name(model),
        "names": [f"{child['kind']} {child['metadata']['name']}" for child in children],
        "merge": arguments(merge),
        "serve": arguments(serve),
        **({"engine": arguments(serve, 1)} if engine else {}),
        "prune": arguments(prune),
        "snapshot": serve["metadata"]["annotations"][c.ANNOTATION_SPEC_SNAPSHOT],
    }


def arguments(child: dict[str, Any], index: int = 0) -> list[str]:
    container = child["spec"]["template"]["spec"]["containers"][index]
    return [*container["command"], *container["args"]]


def cases(file: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(file.read_text())
    return found


def complete(file: Path) -> None:
    """Fill in what is not written yet."""
    filled = []
    for case in cases(file):
        made = made_of(model_of(case, case["spec"], local=file.stem == "local"))
        filled.append({**made, **case})
    texts = [
        ",\n ".join(
            f"{json.dumps(key)}: {json.dumps(case[key], ensure_ascii=False)}"
            for key in (*GIVEN, *(key for key in case if key not in GIVEN))
        )
        for case in filled
    ]
    file.write_text("[{" + "}, {".join(texts) + "}]\n")


FILES = sorted(FOLDER.glob("*.json"))
if os.environ.get("UPDATE_GOLDEN"):
    for each in FILES:
        complete(each)
CASES = [
    pytest.param(file, case, id=f"{file.stem}: {case['case'][:40]}", marks=[pytest.mark.long] if number % 3 else [])
    for file in FILES
    for number, case in enumerate(cases(file))
]


@pytest.mark.parametrize(("file", "case"), CASES)
def test_what_is_made_of_a_stored_object_is_what_it_was(file: Path, case: dict[str, Any]) -> None:
    local = file.stem == "local"
    stated = {key: value for key, value in case.items() if key not in GIVEN}
    assert made_of(model_of(case, case["spec"], local=local)) == stated
    if local:
        return
    stored, errors = crd_schema.admit({"metadata": case["model"], "spec": case["spec"]})
    assert errors == [], "a stored object is one that the API server took"
    assert made_of(model_of(case, stored["spec"], local=False)) == stated


def test_every_field_is_stated_by_some_case() -> None:
    stated = {path for file in FILES for case in cases(file) for path in paths(case["spec"])}
    fields = {
        path.replace("[]", "").removeprefix(".")
        for path, _ in crd_schema.nodes(crd_schema.schema()["properties"]["spec"])
        if path and "{}" not in path
    }
    inside = {path for path in fields if any(path.startswith(f"serving.{name}.") for name in COPIED_FROM_PODS)}
    inside |= {path for path in fields if any(path.startswith(f"merge.{name}.") for name in COPIED_FROM_PODS)}
    assert fields - inside <= stated, "write a case for it; UPDATE_GOLDEN=1 fills it in"


COPIED_FROM_PODS = (
    "affinity",
    "env",
    "podSecurityContext",
    "resourceClaims",
    "resources",
    "tolerations",
    "topologySpreadConstraints",
)


def paths(value: Any, path: str = "") -> Iterator[str]:
    yield path
    for name, item in value.items() if isinstance(value, dict) else ():
        yield from paths(item, f"{path}.{name}".removeprefix("."))
    for item in value if isinstance(value, list) else ():
        yield from paths(item, path)


UPGRADES = [(file.stem, json.loads(file.read_text())) for file in sorted(PLANNING.glob("upgrades/*.json"))]


@pytest.mark.parametrize("state", [state for _, state in UPGRADES], ids=[version for version, _ in UPGRADES])
def test_a_stored_deployments_own_snapshot_gives_its_revision(state: dict[str, Any]) -> None:
    deployments = [item["body"] for item in state["objects"] if item["body"]["kind"] == "Deployment"]
    assert deployments
    for body in deployments:
        labels, annotations = body["metadata"]["labels"], body["metadata"]["annotations"]
        (container,) = body["spec"]["template"]["spec"]["containers"]
        snapshot = json.loads(annotations[c.ANNOTATION_SPEC_SNAPSHOT])
        spec = parse_spec({"storage": {"size": "1Gi"}, **snapshot}, name="demo")
        assert merge_key(spec) == labels[c.LABEL_MERGE_KEY]
        artifact = labels[c.LABEL_ARTIFACT_ID]
        assert revision(spec, artifact_id=artifact, image=container["image"]) == labels[c.LABEL_REVISION]
