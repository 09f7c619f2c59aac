"""What vLLM printed before it ended, read from the log of its container.

Its termination message would be the log's last 2 KiB, and nothing where it ended with exit code 0, as it does after a
crash. The cause stands further up: the process that found it is not the one that ends last.
"""

import logging
from collections.abc import Iterable
from dataclasses import replace

from vicuna_contract import names as c
from vicuna_operator.controller.model_state import ModelState
from vicuna_operator.errors import KubeError
from vicuna_operator.kube.port import Kube
from vicuna_operator.planning.containers import Termination
from vicuna_operator.planning.pods import PodView

__all__ = ["with_last_words"]

logger = logging.getLogger(__name__)

_LINES = 300
_BYTES = 64 * 1024


async def with_last_words(
    kube: Kube, namespace: str, pods: Iterable[PodView], state: ModelState
) -> tuple[PodView, ...]:
    """Return the pods; where vLLM has ended in one, its termination has the end of its log. Each end is read once."""
    told = [await _told(kube, namespace, pod, state) for pod in pods]
    there = {pod.meta.uid for pod in told}
    state.last_words = {uid: words for uid, words in state.last_words.items() if uid in there}
    return tuple(told)


async def _told(kube: Kube, namespace: str, pod: PodView, state: ModelState) -> PodView:
    if pod.meta.deleting or pod.ready:
        return pod
    if _is_vllm(pod.terminated):
        text = await _read(kube, namespace, pod, pod.terminated, state, previous=False)
        return replace(pod, terminated=_with(pod.terminated, text))
    if pod.terminated is None and _is_vllm(pod.last_terminated):
        text = await _read(kube, namespace, pod, pod.last_terminated, state, previous=True)
        return replace(pod, last_terminated=_with(pod.last_terminated, text))
    return pod


def _is_vllm(ended: Termination | None) -> bool:
    return ended is not None and ended.container == c.ENGINE_CONTAINER


def _with(ended: Termination | None, text: str) -> Termination | None:
    return replace(ended, message=text) if ended is not None and text else ended


async def _read(
    kube: Kube, namespace: str, pod: PodView, ended: Termination | None, state: ModelState, *, previous: bool
) -> str:
    end = f"{pod.restarts} {ended.finished if ended is not None else ''}"
    known, text = state.last_words.get(pod.meta.uid, ("", ""))
    if known == end:
        return text
    try:
        text = await kube.logs(
            namespace,
            pod.meta.name,
            container=c.ENGINE_CONTAINER,
            tail_lines=_LINES,
            limit_bytes=_BYTES,
            previous=previous,
        )
    except KubeError as error:  # gone with its node, or forbidden: the termination message remains
        logger.debug("no log of vLLM in %s: %s", pod.meta.name, error)
        text = ""
    state.last_words[pod.meta.uid] = (end, text)
    return text
