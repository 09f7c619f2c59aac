"""The vLLM server behind an engine: the client to it, what it serves, and whether it works."""

from collections.abc import Callable, Sequence

from vicuna_server.engine.vllm.client import Served, VllmClient
from vicuna_server.engine.vllm.completion import probe_body
from vicuna_server.engine.vllm.failures import unavailable
from vicuna_server.engine.vllm.progress import Progress
from vicuna_server.engine.vllm.settings import VllmSettings
from vicuna_server.engine.vllm.watch import State, Watch
from vicuna_server.errors import EngineError, InputError

__all__ = ["VllmServer"]

_WHY: dict[State, str] = {
    "starting": "is still starting",
    "gone": "is gone and will be started anew",
    "hung": "hangs and will be started anew",
}


class VllmServer:
    """What is known of it.

    Args:
        settings: Where it is.
        context_length: The most tokens of prompt and answer that are asked for; None: what the server has room for.
        hangs: Called when it is found to hang.
    """

    def __init__(self, settings: VllmSettings, context_length: int | None, hangs: Callable[[], None]) -> None:
        self.client = VllmClient(settings.url, settings.health_seconds)
        self._digest = settings.digest
        self.progress = Progress()
        self.watch = Watch(self.client, self.progress, settings, self._prove, hangs)
        self.probe: Sequence[int] = ()
        """A prompt of a few tokens, whose answer shows that the server works."""
        self._asked = context_length
        self._served: Served | None = None

    @property
    def served(self) -> Served:
        """What is served; valid once it has worked."""
        if self._served is None:
            raise EngineError("NotLoaded", "the model is not loaded yet")
        return self._served

    @property
    def context_length(self) -> int:
        """The limit in tokens."""
        return self._asked or self.served.context_length

    async def identity(self) -> str:
        """Return what two servers must have equal, besides model, prompts and context, to give the same tokens."""
        return f"vllm {await self.client.version()} {self._digest}"

    def check(self) -> None:
        """Refuse requests while the server does not work.

        Raises:
            OverloadedError: 503.
        """
        if self.watch.state:
            raise unavailable(_WHY[self.watch.state])

    async def _prove(self) -> None:
        """Learn what is served, and have a token generated.

        Raises:
            InputError: `ContextLengthTooLarge`.
            VicunaError: It does not work yet.
        """
        served = await self.client.served()
        wanted = self._asked or (self._served or served).context_length
        if wanted > served.context_length:
            raise InputError(
                "ContextLengthTooLarge",
                f"a context of {wanted} tokens is wanted, but the vllm engine serves {served.context_length} (its "
                "--max-model-len); use a smaller --context-length, or start the engine with more",
            )
        await self.client.whole(probe_body(self.probe, served.name))
        self._served = served
