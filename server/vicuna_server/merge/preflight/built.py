"""What transformers itself would make of a model whose architecture is not in the table, asked in a bounded process."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from vicuna_server.merge.preflight.architectures import BadFieldError
from vicuna_server.merge.preflight.built_child import CPU_SECONDS, DATA_BYTES
from vicuna_server.merge.preflight.comparison import MOST_MISSING, Comparison, Misshapen, Tensors

__all__ = ["NotComparedError", "UnfitError", "compare_built"]

_CHILD = "vicuna_server.merge.preflight.built_child"
_WALL_SECONDS = 300  # a first import of torch from a cold network volume may take minutes
_ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "USE_HUB_KERNELS": "0"}
_SECRETS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH")
_KEPT = 8

_answers: dict[str, dict[str, Any]] = {}


class UnfitError(Exception):
    """The tensors cannot be made into the config's model; the text is transformers' own."""


class NotComparedError(Exception):
    """The process did not end in time; the text says so."""


def compare_built(config: Mapping[str, Any], tensors: Tensors) -> Comparison | None:
    """Compare tensors with what transformers would load into a model of this config; None where it knows none.

    Args:
        config: config.json's content, whatever it holds.
        tensors: type and shape by name.

    Raises:
        BadFieldError: no model can be built of the config.
        UnfitError: some of the tensors do not fit each other.
        NotComparedError: it took too long to tell.
    """
    if not isinstance(config.get("model_type"), str):
        return None
    question = json.dumps({"config": config, "tensors": {name: shape for name, (_, shape) in tensors.items()}})
    key = hashlib.sha256(question.encode()).hexdigest()
    if key not in _answers:
        while len(_answers) >= _KEPT:
            del _answers[next(iter(_answers))]
        _answers[key] = _ask(question)
    answer = _answers[key]
    if "error" in answer:
        raise BadFieldError(f"describes a model that cannot be built: {answer['error']}")
    if "unfit" in answer:
        raise UnfitError(answer["unfit"])
    return _comparison(answer, tensors) if answer.get("known", True) else None


def _ask(question: str) -> dict[str, Any]:
    environment = {key: value for key, value in os.environ.items() if key not in _SECRETS} | _ENVIRONMENT
    try:
        done = subprocess.run(  # noqa: S603 - this interpreter, a module of ours
            [sys.executable, "-m", _CHILD],
            input=question.encode(),
            capture_output=True,
            env=environment,
            timeout=_WALL_SECONDS,
            check=False,
            start_new_session=True,
        )
    except subprocess.TimeoutExpired as error:
        raise NotComparedError(
            f"transformers did not say within {_WALL_SECONDS} s what the model consists of"
        ) from error
    except OSError as error:
        raise NotComparedError(f"no process could be started to ask transformers ({error.strerror})") from error
    try:
        answer: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        bound = f"{CPU_SECONDS} s of processor time and {DATA_BYTES // 2**20} MiB"
        return {"error": f"it takes more than {bound} to describe"}
    return answer


def _comparison(answer: Mapping[str, Any], tensors: Tensors) -> Comparison:
    names, missing, prefix = set(answer["names"]), answer["missing"], answer["prefix"]
    return Comparison(
        missing=tuple(missing[:MOST_MISSING]),
        missing_count=len(missing),
        misshapen=tuple(Misshapen(name, tuple(ours), tuple(theirs)) for name, ours, theirs in answer["misshapen"]),
        unexpected=tuple(answer["unexpected"]),
        bare=any(name not in names and prefix + name in names for name in tensors),
        prefix=prefix,
        layers=answer["layers"],
        lost_layer=None,
        knows=lambda name: name in names or prefix + name in names,
        served=answer["served"],
    )
