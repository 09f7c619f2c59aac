"""A model, as users and requests name it."""

from dataclasses import dataclass

__all__ = ["Model"]


@dataclass(frozen=True, slots=True)
class Model:
    """One model, as users and requests name it.

    Attributes:
        namespace: of the VicunaModel; empty for a model from the command line.
        name: of the VicunaModel and of its Service.
        served_name: the model's name in its own server's API.
        created: seconds since the epoch.
        reason: why it is not ready, in CamelCase; empty: not known.
        message: the same for users.
        max_stream_seconds: how long a response of its servers may take.
        hand_over_seconds: after so long a server that stops hands its streams over; None: it ends them itself.
        uid: of the VicunaModel.
        former_uids: uids for which its pods were made before a restore or an orphaning deletion.
        autoscaled: whether the operator chooses the number of its servers by the demand.
        may_come: whether a server of it may become ready while none is.
        at_once: requests that one server is to have at once.
    """

    namespace: str
    name: str
    served_name: str
    created: int = 0
    reason: str = ""
    message: str = ""
    max_stream_seconds: float = 600.0
    hand_over_seconds: float | None = None
    uid: str = ""
    former_uids: tuple[str, ...] = ()
    autoscaled: bool = False
    may_come: bool = False
    at_once: int = 32

    @property
    def id(self) -> str:
        """The name that is unique in this gateway."""
        return f"{self.namespace}/{self.served_name}" if self.namespace else self.served_name

    @property
    def key(self) -> tuple[str, str]:
        """Namespace and name."""
        return (self.namespace, self.name)
