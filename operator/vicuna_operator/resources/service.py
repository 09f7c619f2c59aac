"""The Service in front of all revisions of a model."""

from typing import Any

from vicuna_contract import names as c
from vicuna_operator.api.model import Model
from vicuna_operator.resources.common import managed_object, spec_of

__all__ = ["model_service", "pod_selector"]


def pod_selector(model: Model) -> dict[str, str]:
    """Return the labels of every serving pod of the model, whatever its revision."""
    return {c.LABEL_NAME: c.NAME_SERVER, c.LABEL_MODEL: model.name}


def model_service(model: Model) -> dict[str, Any]:
    """Build the Service `<model>`."""
    spec = {
        "type": spec_of(model).serving.service_type,
        "selector": pod_selector(model),
        "ports": [{"name": "http", "port": c.SERVICE_PORT, "targetPort": "http", "protocol": "TCP"}],
    }
    return managed_object(
        model,
        "v1",
        "Service",
        spec,
        stated_labels=spec_of(model).serving.service_labels,
        stated_annotations=spec_of(model).serving.service_annotations,
    )
