"""Real photographs, where they are there."""

import pytest
from conftest import CAMVID, run_python

pytestmark = pytest.mark.skipif(not CAMVID.exists(), reason='the road scenes are not there')


@pytest.mark.slow
def test_road_scenes_train_and_evaluate_to_the_same_scores(tmp_path):
    options = (
        f'--train_list {CAMVID}/train.txt --val_list {CAMVID}/val.txt --num_classes 11 '
        '--ignore_index 11 --img_size 48 64 --fast_dev_run --batch_size 4 --num_workers 1'
    )
    trained = run_python('train.py', *options.split(), '--model_dir', tmp_path / 'run')
    assert trained.returncode == 0, trained.stderr
    scored = run_python(
        'eval.py', '--load_model_path', tmp_path / 'run_fast_dev_run' / 'best.pth', '--fast_dev_run'
    )
    assert scored.returncode == 0, scored.stderr
    expected = next(line for line in trained.stdout.splitlines() if ' val | ' in line)
    assert expected.removeprefix('epoch 1/1 ') in scored.stdout.splitlines()
