#!/usr/bin/env bash
# Runs every test: on the CPU, without network.
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

"$PYTHON" -m pytest "$@"
