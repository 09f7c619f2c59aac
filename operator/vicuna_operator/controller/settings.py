"""How kopf is set up: as an informer that writes nothing."""

import logging
from typing import Any

import kopf

from vicuna_contract import names as c

__all__ = ["CHILD_SELECTOR", "WATCHED_CHILDREN", "configure"]

# By a label of our own group: policies rewrite those of app.kubernetes.io.
CHILD_SELECTOR = c.LABEL_MODEL

# group, version, plural, and the kind as our own calls name it
WATCHED_CHILDREN = (
    ("batch", "v1", "jobs", "batch/v1", "Job"),
    ("apps", "v1", "deployments", "apps/v1", "Deployment"),
    ("", "v1", "pods", "v1", "Pod"),
    ("", "v1", "persistentvolumeclaims", "v1", "PersistentVolumeClaim"),
    ("", "v1", "services", "v1", "Service"),
)


class _NoDiffs(kopf.DiffBaseStorage):
    """Keeps nothing: kopf would copy every object for a diff that no handler asks for."""

    def build(self, **_: Any) -> Any:
        """Return an empty essence."""
        return {}

    def fetch(self, **_: Any) -> None:
        """Return nothing."""

    def store(self, **_: Any) -> None:
        """Write nothing to the object."""


def configure(settings: kopf.OperatorSettings) -> None:
    """Set everything that the operator relies on."""
    settings.persistence.finalizer = f"{c.GROUP}/operator"  # never set: no handler needs a finalizer
    settings.persistence.diffbase_storage = _NoDiffs()
    settings.peering.standalone = True  # the Lease decides who is active
    settings.scanning.disabled = True  # no rights on namespaces and CRDs needed
    settings.posting.enabled = False  # the reconciler posts the Events
    settings.posting.loggers = False
    settings.posting.level = logging.CRITICAL
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = 10
    settings.watching.server_timeout = 300
    settings.watching.connect_timeout = 10
    settings.watching.chunk_size = 500
    settings.queueing.worker_limit = None  # a limit below the number of indexed objects deadlocks the start
    settings.queueing.exit_timeout = 0.5
    settings.process.ultimate_exiting_timeout = None  # the process ends by itself, see app.py
    for group, version, plural, _, _ in WATCHED_CHILDREN:
        settings.watching.label_selectors[group, version, plural] = CHILD_SELECTOR
