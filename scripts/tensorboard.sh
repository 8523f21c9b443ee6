#!/usr/bin/env bash
# Serves the curves and pictures of every run on http://localhost:6006.
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

exec "$PYTHON" -m tensorboard.main \
    --logdir checkpoints \
    --samples_per_plugin images=100 \
    "$@"
