"""Everything that can go wrong in the operator in a way somebody can act on.

OperatorError
├── SpecError            a VicunaModel says something that cannot be done; names the fields
├── ConfigError          the operator's own settings are wrong; names the variable or flag
├── LocalRunError        `vicuna-operator up` cannot go on; carries an exit code
├── StartError           `vicuna-operator run` cannot begin; carries an exit code
├── PluginError          `kubectl vicuna` cannot do what it was asked; carries an exit code
├── LeaseLostError       this replica may no longer act: another one may have taken over
└── KubeError            the Kubernetes API refused or could not be reached
    ├── NotFoundError    404
    ├── AlreadyExistsError  409 on create
    ├── ConflictError    409 on anything else
    ├── InvalidError     422 or 400: the object is wrong, repeating cannot help
    ├── ForbiddenError   401 or 403: RBAC, quota or an admission webhook
    └── UnavailableError 429, 5xx, network: try again
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

__all__ = [
    "UNPROCESSABLE",
    "AlreadyExistsError",
    "ConfigError",
    "ConflictError",
    "Fault",
    "ForbiddenError",
    "InvalidError",
    "KubeError",
    "LeaseLostError",
    "LocalRunError",
    "NotFoundError",
    "OperatorError",
    "PluginError",
    "SpecError",
    "StartError",
    "UnavailableError",
]


UNPROCESSABLE: Final = 422
"""The status of an object that the API server finds invalid."""


class OperatorError(Exception):
    """Base of all errors of the operator."""


class Fault(NamedTuple):
    """A field, such as `spec.weights.base`, with what is wrong and what to do."""

    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


class SpecError(OperatorError):
    """Fields of a VicunaModel hold something that cannot be done; all of them, not the first."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("; ".join(map(str, faults)))
        self.faults = faults


class ConfigError(OperatorError):
    """A setting of the operator itself is wrong."""


class LocalRunError(OperatorError):
    """A local run cannot go on."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class StartError(OperatorError):
    """The operator cannot begin its work."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class PluginError(OperatorError):
    """`kubectl vicuna` cannot do what it was asked."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class LeaseLostError(OperatorError):
    """Another replica may have become the active one."""


class KubeError(OperatorError):
    """The Kubernetes API answered with an error, or not at all."""

    def __init__(self, message: str, status: int | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after


class NotFoundError(KubeError):
    """The object does not exist."""


class AlreadyExistsError(KubeError):
    """An object of that name exists already."""


class ConflictError(KubeError):
    """The object changed meanwhile, or a precondition (uid, resourceVersion) failed."""


class InvalidError(KubeError):
    """The API server finds the object wrong."""


class ForbiddenError(KubeError):
    """RBAC, a quota or an admission webhook refuses."""


class UnavailableError(KubeError):
    """The API server is overloaded, failing or unreachable."""
