"""Old artifacts go from the model's own claim, and nothing else does."""

import json
from typing import Any

import pytest

from .cluster import CONTAINER_SECURITY, POD_SECURITY, SERVER_IMAGE, Namespace, model, scripted, until

pytestmark = pytest.mark.full

LONG_AGO = "2001-01-01T00:00:00Z"
_AGE = """
import os
for folder, folders, files in os.walk("/models/artifacts"):
    for name in folders + files:
        os.utime(os.path.join(folder, name), (1e9, 1e9))
print(" ".join(os.listdir("/models/artifacts")))
"""


def on_the_volume(team: Namespace, claim: str) -> set[str]:
    """Make everything on a claim look old; return which artifacts are there."""
    body: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "ager"},
        "spec": {
            "restartPolicy": "Never",
            "securityContext": dict(POD_SECURITY),
            "containers": [
                {
                    "name": "ager",
                    "image": SERVER_IMAGE,
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["python3", "-c", _AGE],
                    "securityContext": dict(CONTAINER_SECURITY),
                    "volumeMounts": [{"name": "models", "mountPath": "/models"}],
                }
            ],
            "volumes": [{"name": "models", "persistentVolumeClaim": {"claimName": claim}}],
        },
    }
    team.apply(body)
    until("it has run", lambda: (team.get("pod", "ager") or {})["status"].get("phase") == "Succeeded", 60)
    found = team.kubectl("logs", "ager").split()
    team.kubectl("delete", "pod", "ager")
    return {name for name in found if not name.startswith(".")}


def test_an_artifact_no_revision_serves_is_removed(team: Namespace, fresh: str) -> None:
    claim = f"{fresh}-weights"
    storage = {"size": "2Gi", "reclaimPolicy": "Delete", "keepRevisions": 1}
    team.apply(model(fresh, "weights", storage=storage, serving=scripted(maxStreamSeconds=5)))
    team.wait_ready(fresh)
    made = [team.status(fresh)["active"]["artifactID"]]
    for dtype in ("bfloat16", "float32"):
        team.patch_spec(fresh, merge={"dtype": dtype})
        until("other weights serve", lambda: team.status(fresh)["active"]["artifactID"] not in made, 180)
        team.wait_ready(fresh)
        made.append(team.status(fresh)["active"]["artifactID"])
    assert on_the_volume(team, claim) == set(made)

    def noted() -> set[str]:
        metadata = (team.get("pvc", claim) or {})["metadata"]
        return set(json.loads(metadata["annotations"]["vicuna.dev/artifacts"]))

    assert noted() == set(made)
    long_ago = json.dumps(dict.fromkeys(made, LONG_AGO))
    team.kubectl("annotate", "pvc", claim, f"vicuna.dev/artifacts={long_ago}", "--overwrite")
    until("it is noted as gone", lambda: noted() == set(made[1:]), 120)
    assert on_the_volume(team, claim) == set(made[1:])
    until("its Job is gone", lambda: not team.find("jobs", "app.kubernetes.io/name=vicuna-prune"), 30)
    assert team.condition(fresh, "Ready")["status"] == "True"
