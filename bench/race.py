"""The contenders of bench/chat.py by turns, and the table of what came of it."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter

import httpx
from asking import Sample, load, p95, question, ratio
from bandwidth import share_of_bandwidth
from contenders import Contender, Generate
from engines import VicunaOverVllm, VllmServer

__all__ = ["Race"]

SPEED, PROCESSOR = attrgetter("speed"), attrgetter("processor")
HEAD = """
| clients | server | tok/s | ours / it | first text p95 | ours / it | CPU ms/token | ours / it | bandwidth |
|---|---|---|---|---|---|---|---|---|"""


@dataclass(frozen=True)
class Race:
    """One run: who takes part, first of all ours, and what a token is."""

    http: httpx.AsyncClient
    contenders: Sequence[Contender]
    count: Callable[[str], int]
    tokens: int
    rounds: int
    bandwidth: float

    async def load(self, one: Contender, clients: int, tokens: int, number: int) -> Sample:
        place = self.contenders.index(one)
        asked = [question(index, number * 1000 + index, place) for index in range(clients)]
        return await load(self.http, one, self.count, asked, tokens)

    async def at(self, clients: int, number: int) -> dict[str, list[Sample]]:
        """Return everyone's samples with so many clients, round by round."""
        # Generate is a queue of one: its speed at 8 is its speed at 32.
        asked = [one for one in self.contenders if clients <= 8 or not isinstance(one, Generate)]
        for one in asked:  # libraries choose their kernels when they first meet a batch of this size
            if not isinstance(one, Generate):
                await self.load(one, clients, 4, number + 19)
        samples: dict[str, list[Sample]] = {one.name: [] for one in asked}
        for index in range(self.rounds):
            for one in asked:
                samples[one.name].append(await self.load(one, clients, self.tokens, number + index))
        return samples

    async def throughput(self, numbers: Sequence[int]) -> None:
        print(HEAD, flush=True)
        fronts = []
        for number, clients in enumerate(numbers):
            samples = await self.at(clients, number * 20)
            for one in self.contenders:
                if one.name in samples:
                    print(self.row(clients, one, samples), flush=True)
            if VicunaOverVllm.name in samples:
                fronts.append(front(clients, samples[VicunaOverVllm.name], samples[VllmServer.name]))
        print("", *fronts, sep="\n")

    def row(self, clients: int, one: Contender, samples: Mapping[str, Sequence[Sample]]) -> str:
        ours, theirs = samples[self.contenders[0].name], samples[one.name]
        speed, processor = (statistics.median(map(value, theirs)) for value in (SPEED, PROCESSOR))
        share = share_of_bandwidth(speed, min(clients, one.batch), one.weight_bytes(), self.bandwidth)
        first = p95(theirs)
        cells = [
            *(str(clients), one.name, f"{speed:.1f}", f"{ratio(ours, theirs, SPEED):.2f}"),
            *(f"{first:.2f} s", f"{p95(ours) / first:.2f}"),
            *(f"{processor * 1000:.1f}", f"{ratio(ours, theirs, PROCESSOR):.2f}", f"{share:.0%}"),
        ]
        return f"| {' | '.join(cells)} |"


def front(clients: int, over: Sequence[Sample], alone: Sequence[Sample]) -> str:
    """Tell what our server in front of vLLM costs."""
    speed, processor = (ratio(over, alone, value) for value in (SPEED, PROCESSOR))
    first = p95(over) / p95(alone)
    return (
        f"{clients} clients, ours over vLLM / vLLM: tok/s {speed:.2f}, first text p95 {first:.2f}, CPU {processor:.2f}"
    )
