#!/usr/bin/env bash
# Evaluates a checkpoint, with pictures: bash scripts/eval.sh checkpoints/RUN/best.pth [options]
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

"$PYTHON" eval.py \
    --load_model_path "${1:?give the path of a checkpoint}" \
    --save_viz \
    "${@:2}"
