#!/usr/bin/env bash
# Trains every combination of options and seeds below. Run it again, or on several machines that see
# one checkpoints/: finished runs are skipped, stopped ones go on, running ones are left alone.
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

lrs=(${LRS:-1e-3 3e-3})
seeds=(${SEEDS:-0 1 2})
if [ ! -f data/demo/classes.txt ]; then
    "$PYTHON" -m data.shapes data/demo
fi
trap 'exit 130' INT  # Ctrl-C ends the sweep, not just the run

# True when the lock in $1 was made here, by a process that is gone.
is_left_over() {
    local host pid
    read -r host pid < "$1/owner" && [ "$host" = "$(hostname)" ] && ! kill -0 "$pid"
} 2>/dev/null

# Trains one run unless somebody else does: of several mkdir of one directory only one succeeds.
train_once() {
    local name=$1 lock=checkpoints/.$1.lock
    mkdir -p checkpoints
    if is_left_over "$lock"; then
        rm -r "$lock"
    fi
    if grep -qs '"status": "finished"' "checkpoints/$name/run.json"; then
        echo "$name: finished before"
    elif ! mkdir "$lock" 2>/dev/null; then
        echo "$name: left to $(cat "$lock/owner"); if that process is dead: rm -r $lock"
    else
        trap "rm -rf '$lock'" EXIT
        echo "$(hostname) $$" > "$lock/owner"
        "$PYTHON" train.py "${@:2}" --model_dir "checkpoints/$name" --resume || echo "$name: failed"
        rm -rf "$lock"
        trap - EXIT
    fi
}

for lr in "${lrs[@]}"; do
    for seed in "${seeds[@]}"; do
        train_once "sweep_lr${lr}_seed$seed" \
            --train_list data/demo/train.txt \
            --val_list data/demo/val.txt \
            --num_classes 5 \
            --data_type mem_list \
            --num_workers 0 \
            --epochs 10 \
            --save_prefix "lr$lr" \
            --lr "$lr" \
            --seed "$seed" \
            "$@"
    done
done
"$PYTHON" scripts/runs.py best --group_by save_prefix
