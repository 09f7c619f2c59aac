"""What is fetched before the preflight, and what stays where it lies."""

from pathlib import Path

import pytest

from support.hub import Hub
from vicuna_contract.sources import HubSource
from vicuna_server.errors import InputError
from vicuna_server.run.control import Control
from vicuna_server.weights.hub.listing import list_repository
from vicuna_server.weights.small_files import fetch_small_files, weights_elsewhere

SOURCE = HubSource("me/model", "main")
SMALL = {"config.json", "tokenizer.model", "model.safetensors.index.json", "adapter_config.json"}
ADAPTERS = {"adapter_model.safetensors", "adapter_model.bin"}
WEIGHTS = {"model-00001-of-00001.safetensors", "pytorch_model.bin", "consolidated.00.pth"}


def test_small_files_are_fetched_weights_are_not_and_others_are_not_asked_for(
    hub: Hub, tmp_path: Path, control: Control
) -> None:
    for name in (*SMALL, *ADAPTERS, *WEIGHTS, "README.md", "training_args.py"):
        (tmp_path / "model" / name).write_bytes(name.encode())
    there = list_repository(SOURCE, control).files
    fetch_small_files(there, tmp_path / "here", control.cancellation, adapter=False)
    fetched = {path.name: path.read_text() for path in (tmp_path / "here").iterdir()}
    assert fetched == {name: name for name in SMALL}
    assert {asked.name for asked in hub.asked} == {"", *SMALL}
    assert weights_elsewhere(there).keys() == WEIGHTS


@pytest.mark.parametrize(("adapter", "names"), [(True, {"config.json"}), (False, set())])
def test_an_adapters_weights_come_where_one_is_wanted_or_nothing_else_is_there(
    hub: Hub, tmp_path: Path, control: Control, adapter: bool, names: set[str]
) -> None:
    names = names | ADAPTERS | {"adapter_config.json"}
    for name in names:
        (tmp_path / "model" / name).write_bytes(name.encode())
    fetch_small_files(list_repository(SOURCE, control).files, tmp_path / "here", control.cancellation, adapter=adapter)
    assert {path.name for path in (tmp_path / "here").iterdir()} == names - {"adapter_model.bin"}


def test_a_config_as_large_as_a_model_is_none(hub: Hub, tmp_path: Path, control: Control) -> None:
    with (tmp_path / "model" / "config.json").open("wb") as file:
        file.truncate(64 * 1024 * 1024 + 1)
    with pytest.raises(InputError, match=r"hf://me/model@main/config\.json has 67108865 bytes") as caught:
        fetch_small_files(
            list_repository(SOURCE, control).files, tmp_path / "here", control.cancellation, adapter=False
        )
    assert caught.value.reason == "NotACheckpoint"
    assert not hub.served["config.json"]
