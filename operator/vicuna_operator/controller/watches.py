"""The watches that kopf does not make: claims that models name, and the demand of gateways beside the operator."""

import asyncio
from collections.abc import Sequence

from vicuna_contract import names as c
from vicuna_operator.controller.demands import DemandObject
from vicuna_operator.controller.following import follow
from vicuna_operator.controller.reconciler import Reconciler
from vicuna_operator.kube.watch import ObjectIdentity, Opener, Stream, Timing

__all__ = ["watch_others"]

# A dead watch of the demand must not go unnoticed for long.
_DEMAND_TIMING = Timing(watch=20, silence=30.0)


async def watch_others(opener: Opener, reconciler: Reconciler, namespaces: Sequence[str], own_namespace: str) -> None:
    """Watch until cancelled: claims in the models' namespaces (none: in all), demand in the operator's own."""
    claims = Stream(opener, "v1", "PersistentVolumeClaim", ObjectIdentity.of, metadata_only=True)
    selector = f"{c.LABEL_DEMAND}=true"
    usages = Stream(opener, c.API_VERSION, c.USAGE_KIND, DemandObject.of, selector=selector, timing=_DEMAND_TIMING)
    demands = reconciler.demands
    async with asyncio.TaskGroup() as group:
        group.create_task(follow(claims, reconciler.claims, namespaces, what="claims"))
        group.create_task(
            follow(usages, demands, [own_namespace], what="gateways' demand", on_reached=demands.set_reached)
        )
