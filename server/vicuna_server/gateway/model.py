"""A model as people and requests know it."""

from dataclasses import dataclass

__all__ = ["Model"]


@dataclass(frozen=True, slots=True)
class Model:
    """One model as people and requests know it.

    Attributes:
        namespace: where it lives; empty for a model that was named on the command line.
        name: of the VicunaModel and of its Service.
        served_name: the model's name in its own server's API.
        created: seconds since the epoch.
        reason: why it is not ready, in CamelCase; empty when nothing was said.
        message: the same for people.
        max_stream_seconds: the longest answer its servers give.
        uid: of the VicunaModel.
        former_uids: of those that its pods were made for before a restore or an orphaning deletion.
    """

    namespace: str
    name: str
    served_name: str
    created: int = 0
    reason: str = ""
    message: str = ""
    max_stream_seconds: float = 600.0
    uid: str = ""
    former_uids: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """The name that is unique behind this gateway."""
        return f"{self.namespace}/{self.served_name}" if self.namespace else self.served_name

    @property
    def key(self) -> tuple[str, str]:
        """Namespace and name."""
        return (self.namespace, self.name)
