"""Which fields of generation_config.json have to go is what transformers says of them."""

import json
from itertools import product
from typing import Any

import pytest

from support.amount import first
from vicuna_server.merge.preflight.generation_fields import unreadable_fields

pytestmark = pytest.mark.transformers

ODD: list[Any] = [
    *(None, True, False, 0, 1, 2, -1, 2**70, 0.5, 1.5, float("nan"), "", "x", "never", "static", "float16"),
    *([], [1], [1, 2], ["a"], [[]], [None], {}, {"a": 1}, {"dtype": 1}, {"a": {"dtype": []}}),
]
# setting them makes no error at once, but an object that nothing can be asked of
BROKEN_LATER = {"__class__", "__dict__"}


def _fields() -> list[str]:
    from transformers import GenerationConfig

    known = {*GenerationConfig().to_dict(), *dir(GenerationConfig), "streamer", "assistant_model", "self", "other"}
    return sorted(known - BROKEN_LATER)


def _is_read(config: dict[str, Any]) -> bool:
    """Whether transformers loads a model beside such a file."""
    from transformers import GenerationConfig

    config = json.loads(json.dumps(config))
    try:
        found = GenerationConfig.from_dict(config)
        found.update(do_sample=True)
        found.to_json_string()
        hash(found)
    except Exception:  # noqa: BLE001 - whatever it says
        return False
    return True


@pytest.mark.filterwarnings("ignore:Passing ContinuousBatchingConfig:FutureWarning")
@pytest.mark.parametrize("some", first([slice(12), slice(12, None)]), ids=["first", "others"])
def test_a_field_is_left_out_where_transformers_cannot_read_it(some: slice) -> None:
    for field, value in product(_fields()[some], ODD):
        config = {"bos_token_id": 1, "eos_token_id": [2, 3], field: value}
        if not _is_read(config):
            assert unreadable_fields(config) == [field], value


@pytest.mark.parametrize(
    "config",
    [
        {"_from_model_config": True, "transformers_version": "4.30.1", "max_length": 4096, "temperature": 0.9},
        {"cache_implementation": "hybrid", "compile_config": None, "dtype": "float16", "of_ours": {"a": [1]}},
        {"early_stopping": "never", "max_new_tokens": 2048, "pad_token_id": -1, "assistant_ensemble_weight": 0.5},
        {"num_return_sequences": 3, "do_sample": True},
        {"num_return_sequences": 2, "num_beams": 4, "early_stopping": True},
        {"suppress_tokens": [1, 2], "forced_eos_token_id": [2, 3], "forced_bos_token_id": 3},
        {"watermarking_config": {"bias": 2.5, "seeding_scheme": "selfhash", "greenlist_ratio": 0.5}},
    ],
)
def test_what_transformers_reads_is_kept(config: dict[str, Any]) -> None:
    assert _is_read(config)
    assert unreadable_fields(config) == []


@pytest.mark.parametrize(
    ("config", "fields"),
    [
        ({"num_return_sequences": 3, "num_beams": 2}, ["num_return_sequences"]),
        ({"num_return_sequences": 3, "num_beams": "x", "do_sample": True}, ["num_return_sequences"]),
        ({"suppress_tokens": [1, 2], "forced_bos_token_id": 1}, ["forced_bos_token_id"]),
        ({"suppress_tokens": [1, 2], "forced_eos_token_id": [2, 1]}, ["forced_eos_token_id"]),
        ({"watermarking_config": {"seeding_scheme": "x"}}, ["watermarking_config"]),
        ({"watermarking_config": {"context_width": 0}}, ["watermarking_config"]),
        ({"watermarking_config": {"greenlist_ratio": "x"}, "streamer": None}, ["streamer", "watermarking_config"]),
    ],
)
def test_fields_that_contradict_each_other_are_left_out(config: dict[str, Any], fields: list[str]) -> None:
    assert not _is_read(config)
    assert unreadable_fields(config) == fields
    assert _is_read({name: value for name, value in config.items() if name not in fields})
