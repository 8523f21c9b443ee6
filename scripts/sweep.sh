#!/usr/bin/env bash
# Trains every combination of options and seeds below. Run it again, or on several machines that see
# one checkpoints/: finished runs are skipped, stopped ones go on, running ones are left alone.
# Options behind it go to every run; give them a name: NAME=deep bash scripts/sweep.sh --ema 0.99
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

name=${NAME:-sweep}
lrs=(${LRS:-1e-3 3e-3})
seeds=(${SEEDS:-0 1 2})
failed=()
mkdir -p checkpoints
if [ ! -f data/demo/classes.txt ]; then
    "$PYTHON" -m data.shapes data/demo
fi
trap 'exit 130' INT  # Ctrl-C ends the sweep, not just the run

# train_once RUN OPTIONS: trains a run unless it is finished or somebody else has its lock, which the
# system takes back when a process ends, however it ends.
train_once() {
    if grep -qs '"status": "finished"' "checkpoints/$1/run.json"; then
        echo "$1: finished before (for other options: NAME=other, or look at its args.txt)"
    elif ! flock --nonblock 9; then
        echo "$1: another process trains it"
    else
        "$PYTHON" train.py "${@:2}" --model_dir "checkpoints/$1" --resume || failed+=("$1")
    fi 9> "checkpoints/.$1.lock"
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
"$PYTHON" scripts/runs.py best --group_by save_prefix
if [ ${#failed[@]} -gt 0 ]; then
    echo "failed: ${failed[*]}"
    exit 1
fi
