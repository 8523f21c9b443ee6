#!/usr/bin/env bash
# Trains every combination of the options and seeds below. Run it again, or on several machines that
# share one checkpoints/: finished runs are skipped, interrupted ones resume, running ones are left
# alone. Extra arguments are passed to every run; name them: NAME=ema bash scripts/sweep.sh --ema 0.99
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

name=${NAME:-sweep}
lrs=(${LRS:-1e-3 3e-3})
seeds=(${SEEDS:-0 1 2})
failed=()
if [ ! -f data/demo/classes.txt ]; then
    "$PYTHON" -m data.shapes data/demo
fi
trap 'exit 130' INT  # Ctrl-C ends the sweep, not just the run

# train_once RUN OPTIONS: trains a run unless it is finished or another process trains it (exit code 4).
train_once() {
    if grep -qs '"status": "finished"' "checkpoints/$1/run.json"; then
        echo "$1: finished before (for other options: NAME=other, or look at its args.txt)"
    else
        "$PYTHON" train.py "${@:2}" --model_dir "checkpoints/$1" --resume ||
            [ $? -eq 4 ] || failed+=("$1")
    fi
}

for lr in "${lrs[@]}"; do
    for seed in "${seeds[@]}"; do
        train_once "${name}_lr${lr}_seed$seed" \
            --train_list data/demo/train.txt \
            --val_list data/demo/val.txt \
            --num_classes 5 \
            --data_type mem_list \
            --num_workers 0 \
            --epochs 10 \
            --save_prefix "${name}_lr$lr" \
            --lr "$lr" \
            --seed "$seed" \
            "$@"
    done
done
"$PYTHON" scripts/runs.py best --group_by save_prefix || true  # no table if no run has a miou
if [ ${#failed[@]} -gt 0 ]; then
    echo "failed: ${failed[*]}"
    exit 1
fi
