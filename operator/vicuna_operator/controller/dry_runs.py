"""Asks the API server whether it would accept objects, without creating them.

Models that are created in a burst mostly have one shape: the others reuse the first one's answer where it was good. A
refusal is never shared, since it names the object.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vicuna_operator.api.model import Model
from vicuna_operator.errors import UNPROCESSABLE, InvalidError, KubeError
from vicuna_operator.kube.port import Kube, ref_of
from vicuna_operator.planning.actions import DryRun
from vicuna_operator.planning.dry_run import shape
from vicuna_operator.planning.observed import DryRunResult

__all__ = ["DryRuns"]

logger = logging.getLogger(__name__)

_SECONDS = 10.0  # a merge does not wait longer for a slow admission webhook
_SHARED_SECONDS = 60.0


@dataclass(frozen=True)
class _Answer:
    """Why one object would be refused, and the server's warnings; `holds` tells whether others may reuse it."""

    refused: Sequence[str] = ()
    warnings: Sequence[str] = ()
    holds: bool = False


class DryRuns:
    """Makes dry runs, one at a time for each shape and namespace."""

    def __init__(self, kube: Kube, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._kube = kube
        self._clock = clock
        self._asked: dict[tuple[str, str], tuple[float, asyncio.Task[_Answer]]] = {}  # namespace, shape → when, answer

    async def ask(self, model: Model, dry_run: DryRun) -> DryRunResult:
        """Make the dry runs of all objects at once. Never raises KubeError: all but refusals is only logged."""
        answers = await asyncio.gather(*(self._answer(model, body) for body in dry_run.bodies))
        return DryRunResult(
            dry_run.key,
            refused=[text for answer in answers for text in answer.refused],
            warnings=[text for answer in answers for text in answer.warnings],
            is_new=True,
        )

    async def _answer(self, model: Model, body: Mapping[str, Any]) -> _Answer:
        now, key = self._clock(), (model.namespace, shape(body))
        self._asked = {of: entry for of, entry in self._asked.items() if _is_good(*entry, now)}
        if key in self._asked:
            answer = await asyncio.shield(self._asked[key][1])
            return answer if answer.holds else await _try(self._kube, model, body)
        asking = asyncio.create_task(_try(self._kube, model, body))
        self._asked[key] = (now, asking)
        return await asyncio.shield(asking)  # a cancelled pass must not cancel the dry run that others share


def _is_good(asked_at: float, asking: asyncio.Task[_Answer], now: float) -> bool:
    if not asking.done():
        return True
    fine = not asking.cancelled() and asking.exception() is None and asking.result().holds
    return fine and now - asked_at < _SHARED_SECONDS


async def _try(kube: Kube, model: Model, body: Mapping[str, Any]) -> _Answer:
    ref = ref_of(body)
    where = (model.namespace, model.name, ref.kind, ref.name)
    try:
        async with asyncio.timeout(_SECONDS):
            warnings = await kube.dry_run(body, model.namespace)
    except InvalidError as error:
        if error.status == UNPROCESSABLE:
            return _Answer(refused=[str(error)])
        logger.info("%s/%s: %s %s was not tried out beforehand: %s", *where, error)
    except TimeoutError:
        logger.info("%s/%s: %s %s was not tried out beforehand: no answer in time", *where)
        return _Answer(holds=True)  # the others need not wait for the same slow webhook
    except KubeError as error:
        logger.info("%s/%s: %s %s was not tried out beforehand: %s", *where, error)
    else:
        for text in warnings:
            logger.info("%s/%s: %s %s: the API server warns: %s", *where, text)
        return _Answer(warnings=warnings, holds=True)
    return _Answer()
