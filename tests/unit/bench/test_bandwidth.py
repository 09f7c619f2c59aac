"""What a decode step reads, and which share of the memory's bandwidth that is."""

from pathlib import Path

import gguf
import numpy as np
import pytest
from safetensors.numpy import save_file

from support.bench import bench_module

bandwidth = bench_module("bandwidth")
EMBEDDING, LAYER, OUTPUT = (np.zeros(shape, np.float16) for shape in ((10, 4), (4, 4), (10, 4)))


def test_tied_weights_are_read_whole_in_the_type_of_serving(tmp_path: Path) -> None:
    save_file({"model.embed_tokens.weight": EMBEDDING}, tmp_path / "model-1.safetensors")
    save_file({"model.layers.0.mlp.weight": LAYER}, tmp_path / "model-2.safetensors")
    assert bandwidth.weight_bytes_of_a_step(tmp_path, "float32") == 4 * (40 + 16)
    assert bandwidth.weight_bytes_of_a_step(tmp_path, "bfloat16") == 2 * (40 + 16)


def test_an_embedding_beside_an_output_is_looked_up(tmp_path: Path) -> None:
    names = {"model.embed_tokens.weight": EMBEDDING, "model.layers.0.mlp.weight": LAYER, "lm_head.weight": OUTPUT}
    save_file(names, tmp_path / "model.safetensors")
    assert bandwidth.weight_bytes_of_a_step(tmp_path, "bfloat16") == 2 * (16 + 40)


def test_a_folder_without_weights_is_told(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"has no \*\.safetensors; name an artifact"):
        bandwidth.weight_bytes_of_a_step(tmp_path, "bfloat16")


@pytest.mark.parametrize(("tied", "wanted"), [(True, 80 + 32), (False, 32 + 80)])
def test_weights_of_a_gguf_file_count_as_they_are_stored(tied: bool, wanted: int, tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "model.gguf", EMBEDDING, {} if tied else {"output.weight": OUTPUT})
    assert bandwidth.gguf_bytes_of_a_step(file) == wanted


def write_gguf(path: Path, embedding: np.ndarray, more: dict[str, np.ndarray]) -> Path:
    writer = gguf.GGUFWriter(path, "llama")
    for name, tensor in {"token_embd.weight": embedding, "blk.0.ffn_up.weight": LAYER, **more}.items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_batch_shares_one_reading_of_the_weights() -> None:
    # 80 tokens a second, 8 in a step: 10 steps, each reading 1 GB of the 40 GB a second
    assert bandwidth.share_of_bandwidth(80, 8, 10**9, 40e9) == pytest.approx(0.25)
    assert bandwidth.share_of_bandwidth(10, 1, 10**9, 40e9) == pytest.approx(0.25)


def test_the_bandwidth_is_in_bytes_per_second(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter(range(1000))
    monkeypatch.setattr(bandwidth, "BUFFER_BYTES", 2**20)
    monkeypatch.setattr(bandwidth.time, "perf_counter", lambda: next(times))
    assert bandwidth.read_bandwidth("cpu") == 2**20
