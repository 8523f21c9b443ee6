"""What a person sees who edits a shared component and evaluates an old model again."""

import csv

import pytest
from conftest import (
    CALM,
    RUN,
    append,
    draw_toy,
    edit,
    evaluate,
    find_line,
    get_training_scores,
    write_list,
)
from PIL import Image

from utils.checkpoint import load_checkpoint, save_checkpoint

pytestmark = pytest.mark.slow
BLOCK, AUGMENT = 'model/base/toy_block.py', 'data/toy_augment.py'


def test_untouched_code_is_one_calm_line_and_an_equal_score(clone):
    lines = evaluate(clone, '--strict_drift')
    score = get_training_scores(clone)['toy_acc']
    find_line(lines, *CALM)
    assert f'{score} (training {score.split()[1]}, equal)' in lines
    assert sum('unchanged' in line or 'training' in line for line in lines) == 2


@pytest.mark.parametrize(
    ('old', 'new'),
    [("'zeros'", "'replicate'"), ('nn.ReLU()', 'nn.LeakyReLU(0.2)')],
    ids=['another padding', 'another activation'],
)
def test_a_changed_block_is_named_and_the_snapshot_gives_the_score_back(clone, old, new):
    edit(clone / BLOCK, old, new)
    lines = evaluate(clone)
    training = get_training_scores(clone)
    find_line(lines, 'code:', '1 file')
    find_line(lines, BLOCK, '+1 -1', '(model)')
    find_line(lines, 'probe:', 'differs')
    find_line(lines, 'data: unchanged')
    loss = find_line(lines, 'loss ', f'(training {training["loss"].split()[1]}, ')
    assert 'equal' not in loss
    assert find_line(lines, 'changed since training').endswith(f': {BLOCK}, probe')
    assert f'--load_model_path {RUN}/best.pth' in find_line(lines, '--use_snapshot')
    again = evaluate(clone, '--use_snapshot', '--strict_drift')
    find_line(again, f'code in {RUN}/code')
    find_line(again, f'val | {" | ".join(training.values())}')
    find_line(again, *CALM)
    assert not list((clone / RUN / 'code').rglob('__pycache__'))
    with (clone / RUN / 'results.csv').open(newline='') as file:
        rows = list(csv.DictReader(file))
    assert [row['code'] for row in rows] == ['changed', 'unchanged']
    assert [row['changes'] for row in rows] == [f'{BLOCK}; probe', '']
    assert 'code: unchanged' in (clone / RUN / 'best' / 'lists_val_pref' / 'result.txt').read_text()


def test_a_changed_metric_is_named_and_the_probe_stays(clone):
    edit(clone / 'metrics.py', '255 * scored', '250 * scored')
    lines = evaluate(clone, '--strict_drift', code=3)
    find_line(lines, 'metrics.py', '+1 -1', '(metric)')
    find_line(lines, 'probe: identical')
    scores = [line for line in lines if '(training ' in line]
    # The one that selects best.pth, and the one that differs.
    assert [line.split()[0] for line in scores] == ['toy_acc', 'toy_light']
    assert ['equal' in line for line in scores] == [True, False]
    assert find_line(lines, 'changed since training').endswith(': metrics.py')
    text = (clone / RUN / 'best' / 'lists_val_pref' / 'result.txt').read_text()
    assert all(line in text for line in lines if 'metrics.py' in line)


def test_a_changed_augmentation_has_no_effect_and_that_is_said(clone):
    edit(clone / AUGMENT, 'random.random() < 0.5', 'random.random() < 0.9')
    lines = evaluate(clone, '--strict_drift')
    find_line(lines, AUGMENT, '+1 -1', '(data)')
    find_line(lines, 'probe: identical')
    find_line(lines, 'data: unchanged')
    find_line(lines, 'equal)')
    find_line(lines, 'no effect', AUGMENT)


def test_a_changed_preprocessing_is_noticed(clone):
    edit(clone / AUGMENT, 'Resampling.BOX', 'Resampling.NEAREST')
    lines = evaluate(clone, '--strict_drift', code=3)
    find_line(lines, AUGMENT, '+1 -1', '(data)')
    find_line(lines, 'probe: identical')
    find_line(lines, 'val.txt', 'first sample')


def test_a_longer_val_list_is_counted(clone):
    write_list(clone / 'lists', 2, first=60, name='more.txt')
    append(clone / 'lists' / 'val.txt', (clone / 'lists' / 'more.txt').read_text())
    lines = evaluate(clone, '--strict_drift', code=3)
    find_line(lines, 'val.txt', '2 lines added (3 -> 5 samples)')
    assert find_line(lines, 'changed since training').endswith(': data')
    assert not any('--use_snapshot' in line for line in lines)  # that code would say the same


def test_another_image_under_the_same_name_is_noticed(clone):
    Image.fromarray(draw_toy(7)[0]).save(clone / 'lists' / '51.png')  # not the list's first
    lines = evaluate(clone, '--strict_drift', code=3)
    find_line(lines, 'val.txt', 'files', 'sizes')


def test_another_list_is_not_compared(clone):
    lines = evaluate(clone, '--val_list', 'lists/list.txt', '--strict_drift')
    assert not any('training ' in line and 'equal' in line for line in lines)
    find_line(lines, 'data:', 'lists/list.txt is not the list')


def test_a_typed_option_is_a_reason(clone):
    lines = evaluate(clone, '--img_size', 32, 48, '--strict_drift', code=3)
    change = 'img_size [24, 40] -> [32, 48]'
    find_line(lines, f'option: {change}')
    assert change in find_line(lines, 'changed since training')
    find_line(evaluate(clone, '--seed', 7, '--strict_drift'), 'option: seed 0 -> 7')


def test_a_comment_is_no_change(clone):
    edit(clone / 'metrics.py', 'def toy_accuracy(scored):', 'def toy_accuracy(scored):  # all')
    append(clone / 'metrics.py', '\n\n# A remark.\n')
    find_line(evaluate(clone, '--strict_drift'), *CALM)


def test_a_block_that_the_old_model_does_not_use_is_no_drift(clone):
    append(clone / BLOCK, '\n\ndef new_block():\n    return nn.Identity()\n')
    lines = evaluate(clone, '--strict_drift')
    find_line(lines, BLOCK, '+4 -0', '(model)')
    find_line(lines, 'probe: identical')
    find_line(lines, 'no effect', BLOCK)
    # On another list no score speaks for it, and the probe alone may miss something.
    evaluate(clone, '--val_list', 'lists/list.txt', '--strict_drift', code=3)


def test_a_new_metric_is_no_drift_if_scores_are_equal_but_is_if_none_are_known(clone):
    append(clone / 'metrics.py', "METRICS['new'] = (toy_accuracy, 'higher')\n")
    find_line(evaluate(clone, '--strict_drift'), 'metrics.py', '+1 -0', '(metric)')
    evaluate(clone, '--val_list', 'lists/list.txt', '--strict_drift', code=3)


def test_an_output_that_rounding_explains_is_no_drift(clone):
    path = clone / RUN / 'best.pth'
    state = load_checkpoint(path)
    state['probe']['answer'][0, 0, 0, 0] *= 1 + 1e-6
    save_checkpoint(state, path)
    find_line(evaluate(clone, '--strict_drift'), 'probe:', 'rounding')
