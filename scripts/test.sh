#!/usr/bin/env bash
# Runs every test, on the CPU and without network. The quick ones only: bash scripts/test.sh -m 'not slow'
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

"$PYTHON" -m pytest "$@"
