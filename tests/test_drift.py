"""What a person sees who edits a shared component and evaluates an old model again."""

import csv
import shutil

import pytest
import torch
from conftest import draw_toy, run_python, write_list
from PIL import Image

from utils.checkpoint import load_checkpoint, save_checkpoint
from utils.drift import Drift, Finding, compare_probes, is_same_list
from utils.provenance import describe_list_change
from utils.sources import compare_sources

RUN = 'checkpoints/base_model_first'


@pytest.fixture
def clone(trained_clone, tmp_path):
    """A project with a trained run, to edit."""
    return shutil.copytree(trained_clone, tmp_path / 'project')


def edit(path, old, new):
    text = path.read_text()
    assert text.count(old) == 1, f'{path} holds {old!r} {text.count(old)} times'
    path.write_text(text.replace(old, new))


def evaluate(clone, *options, path=f'{RUN}/best.pth', code=0):
    """The lines that eval.py prints."""
    process = run_python('eval.py', '--load_model_path', path, *options, cwd=clone)
    assert process.returncode == code, process.stderr
    return process.stdout.splitlines()


def get_training_scores(clone):
    """'miou 0.1234' and so on, as the end of training printed them."""
    metrics = load_checkpoint(clone / RUN / 'best.pth')['metrics']
    names = ('loss', 'miou', 'acc', 'mdice')
    return {name: f'{name} {metrics[f"val/{name}"]:.4f}' for name in names}


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


def test_a_renamed_run_answers_as_before(clone):
    (clone / RUN).rename(clone / 'checkpoints' / 'renamed')
    lines = evaluate(clone, '--strict_drift', path='checkpoints/renamed/best.pth')
    assert 'code: unchanged | probe: identical | data: unchanged' in lines


def test_a_checkpoint_alone_in_another_clone_answers_too(clone, trained_clone, tmp_path):
    shutil.move(clone / RUN / 'best.pth', clone / 'copied.pth')
    shutil.rmtree(clone / 'checkpoints')
    shutil.move(clone / 'lists', tmp_path / 'moved')
    edit(clone / 'model' / 'submodules.py', 'nn.ReLU(inplace=True)', 'nn.LeakyReLU(0.2)')
    options = ['--val_list', tmp_path / 'moved' / 'val.txt']
    lines = evaluate(clone, *options, path='copied.pth')
    assert '  model/submodules.py  +1 -1  (model)' in lines
    again = evaluate(clone, *options, '--use_snapshot', '--strict_drift', path='copied.pth')
    assert f'val | {" | ".join(get_training_scores(trained_clone).values())}' in again
    assert (clone / 'copied' / 'moved_val_pref' / 'result.txt').exists()


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


def test_files_that_an_evaluation_does_not_use_do_not_disturb(clone):
    (clone / 'model' / 'best' / 'mine.py').write_text('x = 1\n')
    edit(clone / 'train.py', 'MAX_PICTURES = 8', 'MAX_PICTURES = 9')
    lines = evaluate(clone, '--strict_drift')
    unchanged = 'code: unchanged, apart from 2 files not used here'
    assert f'{unchanged} | probe: identical | data: unchanged' in lines


def test_a_snapshot_may_be_asked_for_in_a_file_of_options(clone):
    edit(clone / 'metrics.py', "{'dice': (2 * found, ", "{'dice': (found, ")
    (clone / 'options.txt').write_text(f'--load_model_path {RUN}/best.pth\n--use_snapshot\n')
    process = run_python('eval.py', '@options.txt', '--strict_drift', cwd=clone)
    assert process.returncode == 0, process.stderr
    assert process.stdout.count('with the code in') == 1


def test_a_run_that_goes_on_says_what_changed_and_a_child_says_it_of_the_model(clone):
    edit(clone / 'model' / 'submodules.py', 'nn.ReLU(inplace=True)', 'nn.LeakyReLU(0.2)')
    options = ['train.py', f'@{RUN}/args.txt', '--epochs', 3]
    parent = ['--load_model_path', f'{RUN}/best.pth', '--save_prefix', 'child']
    child = run_python(*options, *parent, cwd=clone).stdout
    assert 'model/submodules.py  +1 -1' in child
    assert 'probe: differs by up to' in child
    assert 'option: epochs' not in child
    with (clone / 'lists' / 'list.txt').open('a') as file:
        file.write('0.png 0_label.png\n')
    resumed = run_python(*options, '--resume', cwd=clone).stdout.splitlines()
    start = resumed.index('code: 1 file changed')
    assert resumed[start + 1] == '  model/submodules.py  +1 -1  (model)'
    assert resumed[start + 2].startswith('probe: differs by up to')
    assert resumed[start + 3 : start + 6] == [
        'data: unchanged',
        'data: list.txt: it changed (4 -> 5 samples)',
        'option: epochs 2 -> 3',
    ]


def test_weights_that_fit_no_more_name_the_file_and_the_way_out(clone):
    edit(clone / 'model' / 'base' / 'unet.py', 'WIDTHS = (16,', 'WIDTHS = (24,')
    process = run_python('eval.py', '--load_model_path', f'{RUN}/best.pth', cwd=clone)
    assert process.returncode == 2
    assert len(process.stderr.splitlines()) == 1
    advice = '; changed since training: model/base/unet.py; --use_snapshot runs the code of then'
    assert process.stderr.rstrip().endswith(advice)
    assert any('equal)' in line for line in evaluate(clone, '--use_snapshot'))


def test_a_name_that_is_gone_names_the_file_and_the_way_out(clone):
    edit(clone / 'model' / 'submodules.py', 'def double_conv2d(', 'def two_convolutions(')
    process = run_python('eval.py', '--load_model_path', f'{RUN}/best.pth', cwd=clone)
    assert process.returncode == 2
    assert process.stderr.startswith("error: ImportError: cannot import name 'double_conv2d'")
    assert 'changed since training: model/submodules.py; --use_snapshot' in process.stderr
    assert process.stderr.count('\n') == 1


def test_a_run_that_may_not_be_written_to_is_scored_all_the_same(clone, tmp_path):
    shutil.move(clone / RUN / 'best.pth', clone / 'best.pth')
    (clone / '.results.csv.lock').mkdir()  # so that no line can be added
    process = run_python(
        'eval.py', '--load_model_path', 'best.pth', '--result_dir', tmp_path / 'mine', cwd=clone
    )
    assert process.returncode == 0
    assert 'warning: results.csv gets no line of this' in process.stderr
    assert 'equal)' in process.stdout


def test_plain_weights_say_that_nothing_is_known_of_them(clone):
    state = load_checkpoint(clone / RUN / 'best.pth')
    torch.save(state['model'], clone / 'plain.pth')
    options = '--val_list lists/val.txt --num_classes 3 --img_size 24 40 --num_workers 0'
    lines = evaluate(clone, *options.split(), '--strict_drift', path='plain.pth', code=3)
    assert 'drift: unknown, the checkpoint does not say how it was made' in lines
    process = run_python('eval.py', '--load_model_path', 'plain.pth', '--use_snapshot', cwd=clone)
    assert process.returncode == 2
    assert 'holds no code' in process.stderr


def test_a_snapshot_that_was_edited_is_not_what_runs(clone):
    edit(clone / RUN / 'code' / 'metrics.py', '2 * found', '3 * found')
    lines = evaluate(clone, '--use_snapshot', '--strict_drift')
    assert not any(line == f'with the code in {RUN}/code' for line in lines)
    assert any('equal)' in line for line in lines)


def test_added_and_removed_lines_are_counted():
    old = {'a.py': '1\n2\n3\n', 'same.py': 'x', 'gone.py': '1\n', 'notes.md': 'a'}
    new = {'a.py': '1\n4\n5\n3\n', 'same.py': 'x', 'new.py': '', 'notes.md': 'b'}
    assert compare_sources(old, new) == [('a.py', 2, 1, False), ('gone.py', 0, 1, False)]


@pytest.mark.parametrize(
    ('rows', 'change'),
    [
        ([1, 2, 2, 3], ''),
        ([1, 2, 2, 3, 4, 5], '2 lines added (4 -> 6 samples)'),
        ([9, 1, 2, 2, 3], '1 line added (4 -> 5 samples)'),
        ([1, 2, 3], '1 line removed (4 -> 3 samples)'),
        ([1, 2, 2, 8], '1 line added, 1 line removed (4 -> 4 samples)'),
        ([3, 2, 2, 1], 'its lines are in another order'),
    ],
)
def test_added_removed_and_moved_lines_of_a_list_are_counted(rows, change):
    old, new = {'samples': 4}, {'samples': len(rows)}
    old_rows, new_rows = ([(row, 7) for row in numbers] for numbers in ([1, 2, 2, 3], rows))
    assert describe_list_change(old, new, old_rows, new_rows) == change


def test_lines_whose_files_changed_are_counted_also_where_they_were_swapped():
    same = {'samples': 2}
    change = describe_list_change(same, same, [(1, 5), (2, 6)], [(1, 6), (2, 5)])
    assert change == '2 lines with other files'


def test_a_list_of_unknown_form_has_changed_with_its_digest():
    old, new = {'samples': 4, 'sha256': 'a'}, {'samples': 5, 'sha256': 'b'}
    assert describe_list_change(old, new, [], []) == 'it changed (4 -> 5 samples)'
    assert describe_list_change(old, old, [], []) == ''


def test_an_answer_that_rounding_explains_is_no_drift(clone):
    path = clone / RUN / 'best.pth'
    state = load_checkpoint(path)
    state['probe']['answer'][0, 0, 0, 0] *= 1 + 1e-6
    save_checkpoint(state, path)
    assert any('probe: equal up to rounding' in line for line in evaluate(clone, '--strict_drift'))


def test_every_reason_is_given_for_a_score_that_differs():
    findings = {
        'code': Finding([], ['metrics.py']),
        'probe': Finding([], ['probe'], is_certain=True),
        'versions': Finding([], ['torch 1 -> 2']),
    }
    drift = Drift(findings, {'miou': 0.93224, 'acc': 0.5}, 'miou')
    lines, has_drifted = drift.compare_scores({'miou': 0.93226, 'acc': 0.5})
    assert lines[0] == 'miou 0.9323 (training 0.9322, +0.0001)'
    assert lines[1] == 'changed since training: metrics.py, probe, torch 1 -> 2'
    assert '--use_snapshot' in lines[2]
    assert has_drifted


@pytest.mark.parametrize('has_probe_changed', [False, True])
def test_equal_scores_clear_everything_but_the_probe(has_probe_changed):
    probe = Finding([], ['probe'] * has_probe_changed, has_probe_changed)
    drift = Drift({'code': Finding([], ['a.py']), 'probe': probe}, {'miou': 0.5}, 'miou')
    lines, has_drifted = drift.compare_scores({'miou': 0.50001})
    changed = ['changed since training: a.py, probe', lines[-1]]
    assert lines[0] == 'miou 0.5000 (training 0.5000, equal)'
    assert lines[1:] == (changed if has_probe_changed else ['no effect on evaluation: a.py'])
    assert has_drifted == has_probe_changed


def make_probed(answer, **versions):
    """As much of a checkpoint as compare_probes looks at."""
    versions = {'torch': '1', 'cuda': '', 'pillow': '1'} | versions
    probe = {'answer': answer, 'device': 'CPU'}
    return {'probe': probe, 'provenance': {'versions': versions}, 'args': {'amp': 'off'}}


@pytest.mark.parametrize(
    ('change', 'versions', 'is_drift'),
    [
        (1e-6, {}, False),
        (1e-3, {}, True),
        (1e-3, {'pillow': '2'}, True),
        (1e-3, {'torch': '2'}, False),
        (1e-1, {'torch': '2'}, True),
    ],
)
def test_another_torch_explains_more_than_rounding_and_another_pillow_does_not(
    change, versions, is_drift
):
    old = make_probed(torch.ones(1, 2))
    new = make_probed(torch.ones(1, 2) + change, **versions)
    assert compare_probes(old, new).is_certain == is_drift


def test_a_model_that_answers_no_more_has_drifted_and_one_that_never_did_is_not_compared():
    answer, error = make_probed(torch.ones(1, 2)), make_probed('RuntimeError: x')
    assert compare_probes(answer, error).is_certain
    assert compare_probes(error, answer).lines == ['probe: not compared (RuntimeError: x)']
    assert not compare_probes(error, answer).is_certain
    assert compare_probes(answer, make_probed(torch.ones(1, 3))).is_certain
    assert compare_probes(answer, make_probed(None)).changes == []


def test_answers_that_are_no_numbers_in_the_same_places_are_identical():
    answer = torch.tensor([[1.0, -torch.inf, torch.nan]])
    old, same = make_probed(answer), make_probed(answer.clone())
    assert compare_probes(old, same).lines == ['probe: identical']
    for other in (2.0, torch.inf, torch.nan):
        new = make_probed(torch.tensor([[1.0, other, torch.nan]]))
        assert compare_probes(old, new).is_certain
    assert compare_probes(old, make_probed(torch.tensor([[1.0, -torch.inf, 0.0]]))).is_certain


def test_text_beside_a_model_counts_as_code_and_text_elsewhere_does_not():
    old = {'model/base/widths.json': '1\n', 'requirements.txt': 'a\n'}
    new = {'model/base/widths.json': '2\n', 'requirements.txt': 'b\n'}
    assert compare_sources(old, new) == [('model/base/widths.json', 1, 1, False)]


def test_a_list_is_the_same_from_another_directory():
    def known(directory, path):
        val = {'list': path, 'samples': 1, 'sha256': directory}
        return {'provenance': {'directory': directory, 'data': {'val': val}}}

    assert is_same_list(known('/a', 'lists/val.txt'), known('/a/model', '../lists/val.txt'))
    assert is_same_list(known('/a', 'lists/val.txt'), known('/b', 'lists/val.txt'))
    assert not is_same_list(known('/a', 'lists/val.txt'), known('/b', '../lists/val.txt'))


def test_a_score_that_nothing_explains_says_so():
    drift = Drift({'code': Finding([])}, {'miou': 0.5}, 'miou')
    lines, has_drifted = drift.compare_scores({'miou': 0.25})
    assert lines[1:] == ['changed since training: nothing that is recorded']
    assert has_drifted


def test_an_epoch_without_scores_says_so():
    lines, has_drifted = Drift({'code': Finding([])}, {}, 'miou').compare_scores({'miou': 0.25})
    assert lines == ['training kept no scores with this checkpoint']
    assert not has_drifted
