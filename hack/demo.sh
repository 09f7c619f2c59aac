#!/usr/bin/env bash
# Makes the demo pair, merges it, serves it and starts a chat, on this machine without a cluster.
#   hack/demo.sh              chat until Ctrl-D
#   hack/demo.sh "question"   ask this one question, print the answer, end
set -euo pipefail
cd "$(dirname "$0")/.."
bin=${VENV:-.venv}/bin
pair=${VICUNA_DEMO_DIR:-.demo/pair}
export VICUNA_ACCESS_LOG=off  # its lines would stand between those of the chat
"$bin/python" hack/demo_pair.py --output "$pair"
chat=("$bin/vicuna-server" chat)
# At temperature 1, the API's default, a model this small rambles.
if [[ -n "${1:-}" ]]; then chat+=(--prompt "$1" --temperature 0); else chat+=(--temperature 0.2); fi
exec "$bin/vicuna-operator" up examples/demo.yaml --data .demo --volume "demo-pair=$pair" --port "${PORT:-8000}" -- "${chat[@]}"
