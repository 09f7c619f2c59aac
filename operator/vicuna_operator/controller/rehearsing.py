"""Asks the API server whether it would take objects, without making them."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from vicuna_operator.api.model import Model
from vicuna_operator.errors import UNPROCESSABLE, InvalidError, KubeError
from vicuna_operator.kube.port import Kube, ref_of
from vicuna_operator.planning.actions import Rehearsal
from vicuna_operator.planning.observed import Rehearsed

__all__ = ["rehearse"]

logger = logging.getLogger(__name__)

_SECONDS = 10.0  # a merge does not wait longer for an admission webhook that may not even matter


async def rehearse(kube: Kube, model: Model, rehearsal: Rehearsal) -> Rehearsed:
    """Try all objects out at once. Never raises KubeError: what is no finding about an object is only logged."""
    answers = await asyncio.gather(*(_try(kube, model, body) for body in rehearsal.bodies))
    return Rehearsed(
        rehearsal.key,
        refused=[text for refused, _ in answers for text in refused],
        warnings=[text for _, warnings in answers for text in warnings],
        fresh=True,
    )


async def _try(kube: Kube, model: Model, body: Mapping[str, Any]) -> tuple[Sequence[str], Sequence[str]]:
    """Return why one object would be refused, and what the server warns of."""
    ref = ref_of(body)
    where = (model.namespace, model.name, ref.kind, ref.name)
    try:
        async with asyncio.timeout(_SECONDS):
            warnings = await kube.dry_run(body, model.namespace)
    except InvalidError as error:
        if error.status == UNPROCESSABLE:
            return [str(error)], ()
        logger.info("%s/%s: %s %s was not tried out beforehand: %s", *where, error)
    except (KubeError, TimeoutError) as error:
        logger.info("%s/%s: %s %s was not tried out beforehand: %s", *where, str(error) or "no answer in time")
    else:
        for text in warnings:
            logger.info("%s/%s: %s %s: the API server warns: %s", *where, text)
        return (), warnings
    return (), ()
