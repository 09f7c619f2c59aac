"""The command line that the operator renders, and every flag that users may add, as a real vLLM reads them."""

import json
import os
import subprocess
from typing import Any

import pytest

from support.engines import real_vllm, running_real
from vicuna_contract.vllm_arguments import ALLOWED_FLAGS, EngineArguments

READ = """
import json, sys
from vllm.entrypoints.cli.serve import cmd_init
from vllm.utils.argparse_utils import FlexibleArgumentParser

parser = FlexibleArgumentParser(prog="vllm")
commands = parser.add_subparsers()
for command in cmd_init():
    command.subparser_init(commands)
print(json.dumps([vars(parser.parse_args(words)) for words in json.load(sys.stdin)], default=str))
"""
VALUES = {
    "--block-size": "16",
    "--cpu-offload-gb": "1.5",
    "--gpu-memory-utilization": ".85",
    "--kv-cache-dtype": "fp8",
    "--kv-cache-memory-bytes": "1g",
    "--kv-offloading-size": "2",
    "--long-prefill-token-threshold": "128",
    "--max-cudagraph-capture-size": "64",
    "--max-num-batched-tokens": "8k",
    "--optimization-level": "0",
    "--performance-mode": "throughput",
    "--quantization": "fp8_per_tensor",
    "--safetensors-load-strategy": "prefetch",
}
SEPARATE = [[flag, *([VALUES[flag]] if form is not None else [])] for flag, form in ALLOWED_FLAGS.items()]
JOINED = [["=".join(words)] for words in SEPARATE if len(words) == 2]


@pytest.mark.timeout(300)
def test_a_real_vllm_reads_what_is_rendered_and_each_flag_that_is_allowed() -> None:
    if not real_vllm() or running_real():
        pytest.skip("VICUNA_VLLM does not name the bin folder of an environment with vLLM")
    added = [*SEPARATE, *JOINED]
    for words in added:
        EngineArguments.check(words)
    lines = [EngineArguments("/m", "lmsys/vicuna-7b.v1", num_gpus=2, added=words).to_argv() for words in ([], *added)]
    plain, *others = read(lines)
    assert (plain["host"], plain["port"], plain["served_model_name"]) == ("127.0.0.1", 8001, ["lmsys/vicuna-7b.v1"])
    assert (plain["tensor_parallel_size"], plain["max_num_seqs"], plain["generation_config"]) == (2, 32, "vllm")
    assert "backend='guidance'" in str(plain["structured_outputs_config"])
    for words, found in zip(added, others, strict=True):
        changed = {name for name, value in found.items() if value != plain[name]}
        name = words[0].partition("=")[0].removeprefix("--").removeprefix("no-").replace("-", "_")
        assert changed == {name}, f"{words} sets {changed}"


def read(lines: list[list[str]]) -> list[dict[str, Any]]:
    """Return what vLLM makes of each command line."""
    inherited = {name: text for name, text in os.environ.items() if name not in ("PYTHONPATH", "OMP_NUM_THREADS")}
    done = subprocess.run(
        [f"{real_vllm()}/python", "-c", READ],
        input=json.dumps(lines),
        env={**inherited, "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return found
