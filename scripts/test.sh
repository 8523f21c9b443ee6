#!/usr/bin/env bash
# Runs every test, on the CPU and without network, one process per core. The quick ones only, in
# under a minute on two cores: bash scripts/test.sh -m 'not slow'
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

"$PYTHON" -m pytest -n auto --maxprocesses 8 "$@"
