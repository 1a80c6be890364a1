#!/usr/bin/env bash
# Test on the GPUs (or CPU processes) of one node, or of several with torchrun's usual variables:
#   bash tools/dist_test.sh CONFIG CHECKPOINT PROCESSES [test.py options]
# CHECKPOINT "" tests the config's pretrained weights.
set -euo pipefail
if [ $# -lt 3 ]; then
    echo "usage: bash tools/dist_test.sh CONFIG CHECKPOINT PROCESSES [test.py options]" >&2
    echo "       (CHECKPOINT \"\" tests the config's pretrained weights)" >&2
    exit 2
fi
exec "${PYTHON:-python}" "$(dirname "$0")/launch.py" \
    --nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}" --nproc_per_node="$3" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${MASTER_PORT:-29500}" \
    "$(dirname "$0")/test.py" "$1" "$2" --launcher pytorch "${@:4}"
