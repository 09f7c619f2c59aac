"""Whatever a small file says, a merge and `inspect` end with an answer, never with a fault of ours."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from support.adapters import adapter_config, low_rank_weights, write_adapter
from support.checkpoints import delta_weights, model_weights, write_checkpoint
from vicuna_server.cli import main

ODD: list[Any] = [
    *(None, True, 0, -1, 2**70, 1.5, float("inf"), float("nan"), "", "x", "\x00", "9" * 50),
    *([], [1], ["a"], [[]], [None], {}, {"a": 1}, {"content": 5}, [{"name": "default", "template": "x"}]),
]
FIELDS = {
    "config.json": ("rope_scaling", "quantization_config", "auto_map", "layer_types", "sliding_window", "head_dim"),
    "tokenizer_config.json": ("chat_template", "added_tokens_decoder", "extra_special_tokens", "auto_map", "legacy"),
    "generation_config.json": ("pad_token_id", "cache_implementation", "early_stopping", "suppress_tokens", "streamer"),
    "special_tokens_map.json": ("additional_special_tokens", "pad_token"),
    "adapter_config.json": ("rank_pattern", "alpha_pattern", "modules_to_save", "ensure_weight_tying"),
    "tokenizer.json": ("model", "added_tokens"),
}


@pytest.mark.parametrize("seed", range(4))
def test_odd_fields_end_with_an_answer(tmp_path: Path, seed: int, capsys: pytest.CaptureFixture[str]) -> None:
    base = write_checkpoint(tmp_path / "base", model_weights(1))
    delta = write_checkpoint(tmp_path / "delta", delta_weights(2))
    adapter = write_adapter(tmp_path / "lora", low_rank_weights(3), adapter_config())
    for folder in (base, delta):
        (folder / "generation_config.json").write_text(json.dumps({"bos_token_id": 1, "eos_token_id": 2}))
        (folder / "special_tokens_map.json").write_text(
            json.dumps({"bos_token": "<s>", "eos_token": {"content": "</s>"}})
        )
    merge = ["merge", "--base", str(base), "--output", str(tmp_path / "out"), "--chat-template", "alpaca"]
    runs = [merge, [*merge, "--delta", str(delta)], [*merge, "--delta", str(delta), "--adapter", str(adapter)]]
    draw = random.Random(seed)
    for _ in range(25):
        folder = draw.choice([base, delta, adapter])
        path = draw.choice(sorted(path for path in folder.iterdir() if path.name in FIELDS))
        sound = path.read_bytes()
        content = json.loads(sound)
        field = draw.choice([*content, *FIELDS[path.name]])
        path.write_text(json.dumps(content | {field: draw.choice(ODD)}))
        for words in (draw.choice(runs), ["inspect", str(folder)]):
            assert main(words) in (0, 65), f"{path.name}: {field}: {path.read_text()[:500]} {capsys.readouterr().err}"
        path.write_bytes(sound)
