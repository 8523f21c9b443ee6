"""What a person sees who edits a shared component and evaluates an old model again."""

import csv

import pytest
from conftest import RUN, draw_toy, edit, evaluate, get_training_scores, write_list
from PIL import Image

from utils.checkpoint import load_checkpoint, save_checkpoint


def test_untouched_code_is_one_calm_line_and_an_equal_score(clone):
    lines = evaluate(clone, '--strict_drift')
    miou = get_training_scores(clone)['miou']
    assert 'code: unchanged | probe: identical | data: unchanged' in lines
    assert f'{miou} (training {miou[5:]}, equal)' in lines
    assert sum('unchanged' in line or 'training' in line for line in lines) == 2


@pytest.mark.parametrize(
    ('old', 'new'),
    [
        ('padding, bias=False)', "padding, bias=False, padding_mode='replicate')"),
        ('nn.ReLU(inplace=True)', 'nn.LeakyReLU(0.2)'),
    ],
    ids=['another padding', 'another activation'],
)
def test_a_changed_block_is_named_and_the_snapshot_gives_the_score_back(clone, old, new):
    edit(clone / 'model' / 'submodules.py', old, new)
    lines = evaluate(clone)
    training = get_training_scores(clone)
    assert 'code: 1 file changed' in lines
    assert '  model/submodules.py  +1 -1  (model)' in lines
    assert any(line.startswith('probe: differs by up to') for line in lines)
    assert 'data: unchanged' in lines
    loss = next(line for line in lines if line.startswith('loss '))
    assert f'(training {training["loss"][5:]}, ' in loss
    assert 'equal' not in loss
    assert lines[-3] == 'changed since training: model/submodules.py, probe'
    assert lines[-2].endswith(f'--load_model_path {RUN}/best.pth --use_snapshot')
    again = evaluate(clone, '--use_snapshot', '--strict_drift')
    assert f'with the code in {RUN}/code' in again
    assert f'val | {" | ".join(training.values())}' in again
    assert 'code: unchanged | probe: identical | data: unchanged' in again
    assert not list((clone / RUN / 'code').rglob('__pycache__'))
    with (clone / RUN / 'results.csv').open(newline='') as file:
        rows = list(csv.DictReader(file))
    assert [row['code'] for row in rows] == ['changed', 'unchanged']
    assert [row['changes'] for row in rows] == ['model/submodules.py; probe', '']
    assert 'code: unchanged' in (clone / RUN / 'best' / 'lists_val_pref' / 'result.txt').read_text()


def test_a_changed_metric_is_named_and_the_probe_stays(clone):
    edit(clone / 'metrics.py', "{'dice': (2 * found, ", "{'dice': (found, ")
    lines = evaluate(clone, '--strict_drift', code=3)
    assert '  metrics.py  +1 -1  (metric)' in lines
    assert 'probe: identical' in lines
    scores = [line for line in lines if '(training ' in line]
    assert [line.split()[0] for line in scores] == ['miou', 'mdice']  # the main one, what differs
    assert scores[0].endswith('equal)')
    assert 'changed since training: metrics.py' in lines
    text = (clone / RUN / 'best' / 'lists_val_pref' / 'result.txt').read_text()
    assert all(line in text for line in lines if 'metrics.py' in line)


def test_a_changed_augmentation_has_no_effect_and_that_is_said(clone):
    edit(clone / 'data' / 'augment.py', 'random.random() < 0.5', 'random.random() < 0.9')
    lines = evaluate(clone, '--strict_drift')
    change = next(line for line in lines if 'augment.py' in line)
    assert change == '  data/augment.py  +1 -1  (data: the first sample comes out the same)'
    assert 'probe: identical' in lines
    assert any('equal)' in line for line in lines)
    assert 'no effect on evaluation: data/augment.py' in lines


def test_a_changed_preprocessing_is_noticed(clone):
    edit(clone / 'data' / 'augment.py', 'cv2.INTER_AREA if shrinks', 'cv2.INTER_NEAREST if shrinks')
    lines = evaluate(clone, '--strict_drift', code=3)
    assert '  data/augment.py  +1 -1  (data)' in lines
    assert 'data: val.txt: its first sample is read or preprocessed in another way' in lines


def test_a_longer_val_list_is_counted(clone):
    write_list(clone / 'lists', 2, first=60, name='more.txt')
    val_list = clone / 'lists' / 'val.txt'
    val_list.write_text(val_list.read_text() + (clone / 'lists' / 'more.txt').read_text())
    lines = evaluate(clone, '--strict_drift', code=3)
    assert 'data: val.txt: 2 lines added (3 -> 5 samples)' in lines
    assert 'changed since training: data' in lines
    assert not any('--use_snapshot' in line for line in lines)  # that code would say the same


def test_another_image_under_the_same_name_is_noticed(clone):
    Image.fromarray(draw_toy(7)[0]).save(clone / 'lists' / '51.png')
    lines = evaluate(clone, '--strict_drift', code=3)
    assert 'data: val.txt: 1 line with other files' in lines


def test_another_list_is_not_compared(clone):
    lines = evaluate(clone, '--val_list', 'lists/list.txt', '--strict_drift')
    assert not any('training ' in line and 'equal' in line for line in lines)
    assert any('lists/list.txt is not the list that training validated on' in x for x in lines)


def test_a_typed_option_is_a_reason(clone):
    lines = evaluate(clone, '--img_size', 32, 48, '--strict_drift', code=3)
    assert 'option: img_size [24, 40] -> [32, 48]' in lines


def test_a_comment_is_no_drift(clone):
    edit(clone / 'metrics.py', '    @cached_property\n', '    @cached_property  # once\n\n')
    lines = evaluate(clone, '--strict_drift')
    assert '  metrics.py  +2 -1  (metric: comments or layout only)' in lines


def test_a_block_that_the_old_model_does_not_use_is_no_drift(clone):
    with (clone / 'model' / 'submodules.py').open('a') as file:
        file.write('\n\ndef new_block():\n    return nn.Identity()\n')
    lines = evaluate(clone, '--strict_drift')
    assert '  model/submodules.py  +4 -0  (model: the probe comes out the same)' in lines
    assert 'no effect on evaluation: model/submodules.py' in lines
    # On another list no score speaks for it, and the probe alone may overlook something.
    evaluate(clone, '--val_list', 'lists/list.txt', '--strict_drift', code=3)


def test_a_new_metric_is_no_drift_where_the_scores_are_equal_but_is_where_none_are_known(clone):
    edit(clone / 'metrics.py', "METRICS = {'acc'", "METRICS = {'new': mean_dice, 'acc'")
    assert '  metrics.py  +1 -1  (metric)' in evaluate(clone, '--strict_drift')
    evaluate(clone, '--val_list', 'lists/list.txt', '--strict_drift', code=3)


def test_an_answer_that_rounding_explains_is_no_drift(clone):
    path = clone / RUN / 'best.pth'
    state = load_checkpoint(path)
    state['probe']['answer'][0, 0, 0, 0] *= 1 + 1e-6
    save_checkpoint(state, path)
    assert any('probe: equal up to rounding' in line for line in evaluate(clone, '--strict_drift'))
