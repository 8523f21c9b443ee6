#!/usr/bin/env bash
# Trains on the demo dataset and evaluates the best checkpoint. Run again, it resumes or says that it
# is finished. Extra arguments are passed to train.py.
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

if [ ! -f data/demo/classes.txt ]; then
    "$PYTHON" -m data.shapes data/demo
fi

options=(
    --model_type base_model
    --data_type mem_list
    --train_list data/demo/train.txt
    --val_list data/demo/val.txt
    --class_names data/demo/classes.txt
    --num_classes 5
    --num_workers 0
    --epochs 10
    --channels_last
    --save_prefix demo
    "$@"
)
case " $* " in
    *' -h '* | *' --help '*) exec "$PYTHON" train.py --help ;;
    *' --overwrite '* | *' --load_model_path'*) ;; # a new run
    *) options+=(--resume) ;;
esac
run_dir=$("$PYTHON" options.py "${options[@]}")
"$PYTHON" train.py "${options[@]}"
"$PYTHON" eval.py --load_model_path "$run_dir/best.pth" --save_viz

cat <<EOF

Open report.html there in a browser. Then:
  python predict.py --load_model_path $run_dir/best.pth IMAGES...
  python scripts/runs.py html
EOF
