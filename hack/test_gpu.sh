#!/usr/bin/env bash
# What only a machine with a CUDA device can tell: tests, then the chat benchmark. It needs no network.
#   VICUNA_VLLM=FOLDER hack/test_gpu.sh [arguments for pytest]
# FOLDER holds the program vllm of an environment with vLLM for CUDA, such as VENV/bin. Without it the builtin engine is
# tested and measured alone. A step that fails does not keep the next ones from running.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${VENV:-.venv}/bin/python
failed=0
both=()

if [[ -z "${VICUNA_VLLM:-}" ]]; then
  echo "test-gpu: VICUNA_VLLM is not set, so the builtin engine is alone; name the folder of the program vllm"
elif [[ ! -x "$VICUNA_VLLM/vllm" ]]; then
  echo "test-gpu: VICUNA_VLLM is $VICUNA_VLLM, which has no program vllm; name its folder, such as VENV/bin" >&2
  exit 64
else
  both=(--vllm "$VICUNA_VLLM")
fi

"$python" -m pytest tests/component -m gpu "$@" || failed=1
# Tests start more than one vLLM on the same GPU.
VICUNA_VLLM_FLAGS="--gpu-memory-utilization 0.3" "$python" -m pytest tests/component/engines -m "not full" "$@" || failed=1

if "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
  pair=${VICUNA_DEMO_DIR:-.demo/pair}
  "$python" hack/demo_pair.py --output "$pair"
  "$python" bench/chat.py --random 1b --model "$pair/base" --device cuda --clients 1 8 32 128 "${both[@]}" || failed=1
else
  echo "test-gpu: no CUDA device here, so no benchmark"
fi
exit "$failed"
