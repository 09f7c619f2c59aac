"""What a VicunaModel may name, where the chart's value `allowed` narrows it; a kind it leaves out is not limited."""

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from vicuna_operator.api.types import VicunaModelSpec
from vicuna_operator.planning.deployments import DeploymentView

__all__ = ["KINDS", "Allowed", "is_allowed", "may_be_adopted", "not_allowed"]

Allowed = Mapping[str, Sequence[str]]
Named = Iterator[tuple[str, str | None]]


def not_allowed(spec: VicunaModelSpec, allowed: Allowed) -> list[str]:
    """Name each field whose value is not among the patterns of its kind, with the value and the patterns."""
    found = []
    for kind, patterns in allowed.items():
        for field, value in KINDS[kind](spec):
            if value is not None and not is_allowed(value, patterns):
                found.append(f"{field}: {value} is not among the {kind} allowed here ({', '.join(patterns) or 'none'})")
    return found


def is_allowed(value: str, patterns: Sequence[str]) -> bool:
    """Tell whether a value matches a pattern: `*` stands for any characters, `?` for one."""
    return any(re.fullmatch(_expression(pattern), value, re.DOTALL) for pattern in patterns)


def _expression(pattern: str) -> str:
    return re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")


def may_be_adopted(item: DeploymentView, allowed: Allowed, default_images: Collection[str]) -> bool:
    """Tell whether a model may name a Deployment's images and service account today."""
    patterns, accounts = allowed.get("images"), allowed.get("serviceAccounts")
    named = {item.image, item.engine_image or item.image} - {*default_images}
    images = patterns is None or all(is_allowed(image, patterns) for image in named)
    return images and (accounts is None or not item.account or is_allowed(item.account, accounts))


def _images(spec: VicunaModelSpec) -> Named:
    yield "spec.serving.image", spec.serving.image
    yield "spec.serving.engineImage", spec.serving.engine_image


def _accounts(spec: VicunaModelSpec) -> Named:
    yield "spec.serving.serviceAccountName", spec.serving.service_account_name


def _runtimes(spec: VicunaModelSpec) -> Named:
    yield "spec.serving.runtimeClassName", spec.serving.runtime_class_name


def _priorities(spec: VicunaModelSpec) -> Named:
    yield "spec.serving.priorityClassName", spec.serving.priority_class_name
    yield "spec.merge.priorityClassName", spec.merge.priority_class_name


def _secrets(spec: VicunaModelSpec) -> Named:
    yield "spec.weights.credentialsSecret", spec.weights.credentials_secret
    for index, item in enumerate(spec.serving.image_pull_secrets):
        yield f"spec.serving.imagePullSecrets[{index}].name", item.get("name")
    yield from _of_variables("spec.serving.env", spec.serving.env)
    yield from _of_variables("spec.merge.env", spec.merge.env)


def _of_variables(where: str, variables: Sequence[Mapping[str, Any]]) -> Named:
    for index, item in enumerate(variables):
        reference = (item.get("valueFrom") or {}).get("secretKeyRef") or {}
        yield f"{where}[{index}].valueFrom.secretKeyRef.name", reference.get("name")


KINDS: Mapping[str, Callable[[VicunaModelSpec], Named]] = {
    "images": _images,
    "serviceAccounts": _accounts,
    "runtimeClasses": _runtimes,
    "priorityClasses": _priorities,
    "secrets": _secrets,
}
"""The kinds that can be narrowed, as the chart names them, and the fields that name one."""
