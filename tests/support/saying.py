"""An engine that says given texts in given pieces, and keeps what it was asked."""

from collections.abc import Sequence

from vicuna_server.engine import Generation, GenerationRequest, OutputChunk, TokenLogprob
from vicuna_server.engine.scripted import ScriptedEngine, ScriptedSettings
from vicuna_server.engine.scripted.words import script_of
from vicuna_server.tools.chat_format import PLAIN, ChatFormat

__all__ = ["SayingEngine"]


class SayingEngine(ScriptedEngine):
    """Each piece is a token with log probability 0.

    Args:
        pieces: What every request gets.
        reason: Why each answer ends.
        form: How the model writes calls and reasoning.
    """

    def __init__(self, pieces: Sequence[str], reason: str = "stop", form: ChatFormat = PLAIN) -> None:
        super().__init__(ScriptedSettings())
        self.pieces, self.reason, self.form = list(pieces), reason, form
        self.requests: list[GenerationRequest] = []
        self.prompts: list[str] = []

    @property
    def chat_format(self) -> ChatFormat:
        return self.form

    async def submit(self, request: GenerationRequest) -> Generation:
        ready = await self.prepare(request.prompt, request.max_tokens)
        self.requests.append(request)
        self.prompts.append(script_of(ready).text)
        generation = Generation(ready.tokens, begun=True)
        wants_logprobs = request.logprobs is not None
        for number, piece in enumerate(self.pieces, 1):
            shown = (TokenLogprob(number, piece.encode(), 0.0),) if wants_logprobs else ()
            generation.push(OutputChunk(piece, number, None, shown))
        generation.push(OutputChunk("", len(self.pieces) + 1, self.reason))
        return generation
