#!/usr/bin/env bash
# Kills, damages and starves training runs and checks that nothing is lost: one line per fault.
# Full counts take about ten minutes on two cores; for a quick look: bash scripts/test_faults.sh --count 2
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

"$PYTHON" -m scripts.faults "$@"
