"""What old and foreign checkpoints can do: elsewhere, resumed, from their code, or not at all."""

import shutil

import pytest
import torch
from conftest import CALM, RUN, append, edit, evaluate, find_line, get_training_scores, run_python

from options import INHERITED, get_test_args, get_test_result_dir
from utils.checkpoint import load_checkpoint, save_checkpoint

BLOCK = 'model/base/toy_block.py'


@pytest.mark.slow
def test_a_renamed_run_scores_as_before(clone):
    (clone / RUN).rename(clone / 'checkpoints' / 'renamed')
    find_line(evaluate(clone, '--strict_drift', path='checkpoints/renamed/best.pth'), *CALM)


@pytest.mark.slow
def test_a_checkpoint_alone_in_another_clone_scores_too(clone, trained_clone, tmp_path):
    shutil.move(clone / RUN / 'best.pth', clone / 'copied.pth')
    shutil.rmtree(clone / 'checkpoints')
    shutil.move(clone / 'lists', tmp_path / 'moved')
    edit(clone / BLOCK, 'nn.ReLU()', 'nn.LeakyReLU(0.2)')
    options = ['--val_list', tmp_path / 'moved' / 'val.txt']
    find_line(evaluate(clone, *options, path='copied.pth'), BLOCK, '+1 -1', '(model)')
    again = evaluate(clone, *options, '--use_snapshot', '--strict_drift', path='copied.pth')
    find_line(again, f'val | {" | ".join(get_training_scores(trained_clone).values())}')
    assert (clone / 'copied' / 'moved_val_pref' / 'result.txt').exists()


@pytest.mark.slow
def test_files_that_an_evaluation_does_not_use_are_not_named(clone):
    (clone / 'model' / 'best' / 'mine.py').write_text('x = 1\n')
    append(clone / 'train.py', 'MORE = 1\n')
    find_line(evaluate(clone, '--strict_drift'), *CALM)


@pytest.mark.slow
def test_a_snapshot_may_be_asked_for_in_a_file_of_options(clone):
    edit(clone / 'metrics.py', '255 * scored', '250 * scored')
    (clone / 'options.txt').write_text(f'--load_model_path {RUN}/best.pth\n--use_snapshot\n')
    process = run_python('eval.py', '@options.txt', '--strict_drift', cwd=clone)
    assert process.returncode == 0, process.stderr
    find_line(process.stdout.splitlines(), f'code in {RUN}/code')


@pytest.mark.slow
def test_a_resumed_run_says_what_changed_and_a_child_says_it_of_the_model(clone):
    edit(clone / BLOCK, 'nn.ReLU()', 'nn.LeakyReLU(0.2)')
    options = ['train.py', f'@{RUN}/args.txt', '--epochs', 3]
    parent = ['--load_model_path', f'{RUN}/best.pth', '--save_prefix', 'child']
    child = run_python(*options, *parent, cwd=clone).stdout.splitlines()
    find_line(child, BLOCK, '+1 -1')
    find_line(child, 'probe: differs')
    assert not any('option: epochs' in line for line in child)
    append(clone / 'lists' / 'list.txt', '0.png 0_label.png\n')
    resumed = run_python(*options, '--resume', cwd=clone).stdout.splitlines()
    find_line(resumed, 'code: 1 file')
    find_line(resumed, BLOCK, '+1 -1', '(model)')
    find_line(resumed, 'probe: differs')
    assert 'data: unchanged' in resumed
    find_line(resumed, 'list.txt', '1 line added (4 -> 5 samples)')
    find_line(resumed, 'option: epochs 2 -> 3')


@pytest.mark.slow
def test_weights_that_do_not_fit_any_more_name_the_file_and_the_remedy(clone):
    edit(clone / 'model' / 'base' / 'toy_net.py', 'WIDTH = 8', 'WIDTH = 12')
    process = run_python('eval.py', '--load_model_path', f'{RUN}/best.pth', cwd=clone)
    assert process.returncode == 2
    error = find_line(process.stderr.splitlines(), 'changed since training: model/base/toy_net.py;')
    assert error.startswith('error: ')
    assert '--use_snapshot' in error
    find_line(evaluate(clone, '--use_snapshot'), 'equal)')


@pytest.mark.slow
def test_a_name_that_is_gone_names_the_file_and_the_remedy(clone):
    edit(clone / BLOCK, 'def toy_block(', 'def convolution(')
    process = run_python('eval.py', '--load_model_path', f'{RUN}/best.pth', cwd=clone)
    assert process.returncode == 2
    error = find_line(process.stderr.splitlines(), "ImportError: cannot import name 'toy_block'")
    assert f'changed since training: {BLOCK};' in error
    assert '--use_snapshot' in error
    assert process.stderr.count('\n') == 1


@pytest.mark.slow
def test_a_model_that_left_its_registry_names_the_file_and_a_mistyped_one_does_not(clone):
    edit(clone / 'model' / 'model_entry.py', "MODELS['toy']", "MODELS['toy_2']")
    options = ['eval.py', '--load_model_path', f'{RUN}/best.pth']
    process = run_python(*options, cwd=clone)
    assert process.returncode == 2
    error = find_line(process.stderr.splitlines(), "'toy'", 'model/model_entry.py; eval')
    assert '--use_snapshot' in error
    process = run_python(*options, '--model_type', 'toy_3', cwd=clone)
    assert process.returncode == 2
    assert '--use_snapshot' not in find_line(process.stderr.splitlines(), "'toy_3'")


@pytest.mark.slow
def test_a_run_that_may_not_be_written_to_is_evaluated_all_the_same(clone, tmp_path):
    shutil.move(clone / RUN / 'best.pth', clone / 'best.pth')
    (clone / '.results.csv.lock').mkdir()  # so that no line can be added
    options = ['--load_model_path', 'best.pth', '--result_dir', tmp_path / 'mine']
    process = run_python('eval.py', *options, cwd=clone)
    assert process.returncode == 0
    find_line(process.stderr.splitlines(), 'warning', 'append', 'results.csv')
    find_line(process.stdout.splitlines(), 'equal)')


@pytest.mark.slow
def test_plain_weights_say_that_nothing_is_known_of_them(clone):
    state = load_checkpoint(clone / RUN / 'best.pth')
    torch.save(state['model'], clone / 'plain.pth')
    toy = '--model_type toy --data_type toy --metrics toy_acc --num_classes 3 --img_size 24 40'
    options = [*toy.split(), '--val_list', 'lists/val.txt', '--num_workers', '0']
    lines = evaluate(clone, *options, '--strict_drift', path='plain.pth', code=3)
    find_line(lines, 'drift: unknown')
    process = run_python('eval.py', '--load_model_path', 'plain.pth', '--use_snapshot', cwd=clone)
    assert process.returncode == 2
    find_line(process.stderr.splitlines(), 'plain.pth', 'no code')


@pytest.mark.slow
def test_a_snapshot_that_was_edited_is_not_what_runs(clone):
    edit(clone / RUN / 'code' / 'metrics.py', '255 * scored', '250 * scored')
    lines = evaluate(clone, '--use_snapshot', '--strict_drift')
    assert not any(line.endswith(f'{RUN}/code') for line in lines)
    find_line(lines, 'equal)')


@pytest.mark.slow
def test_a_checkpoint_of_format_1_with_digests_of_rows_and_without_file_sizes_is_equal(clone):
    path = clone / RUN / 'best.pth'
    state = load_checkpoint(path)
    for facts in state['provenance']['data'].values():
        del facts['file_sizes']
    state['probe']['rows'] = torch.tensor([[1, 2], [3, 4], [5, 6]])
    state['args'] |= {'gone': 1}
    del state['args']['deterministic']
    save_checkpoint(state, path)
    find_line(evaluate(clone, '--strict_drift'), *CALM)


@pytest.mark.slow
def test_code_of_a_checkpoint_runs_with_use_snapshot_only(clone, tmp_path):
    path, canary = clone / RUN / 'best.pth', tmp_path / 'canary'
    state = load_checkpoint(path)
    lines = f"from pathlib import Path\nPath('{canary}').touch()\n"
    state['code'] = {name: lines + text for name, text in state['code'].items()}
    state['args'] |= {'use_snapshot': True, 'overwrite': True, 'no_such_option': 'x'}
    state['args'] |= {'load_model_path': '/nowhere', 'result_dir': str(tmp_path / 'x')}
    save_checkpoint(state, path)
    shutil.rmtree(clone / RUN / 'code')
    find_line(evaluate(clone), 'results in', f'{RUN}/best/lists_val_pref')
    assert not canary.exists()
    assert not (tmp_path / 'x').exists()
    evaluate(clone, '--use_snapshot')
    assert canary.exists()


@pytest.mark.slow
def test_code_whose_name_leads_out_of_its_directory_is_refused(clone):
    path = clone / RUN / 'best.pth'
    state = load_checkpoint(path)
    state['code']['../../x.py'] = 'x = 1\n'
    save_checkpoint(state, path)
    options = ['--load_model_path', f'{RUN}/best.pth', '--use_snapshot']
    process = run_python('eval.py', *options, cwd=clone)
    assert process.returncode == 2
    assert '../../x.py' in find_line(process.stderr.splitlines(), 'error: ')
    assert process.stderr.count('\n') == 1
    assert not list(clone.parent.rglob('x.py'))


STORED = {'num_classes': 3, 'model_type': 'toy', 'metrics': ['acc', 'miou'], 'img_size': [24, 40]}


@pytest.fixture
def make_stored(tmp_path, toy_val_list):
    """A function of options that returns a checkpoint's path, which contains no more than these."""

    def make(**args):
        args = STORED | {'val_list': str(toy_val_list)} | args
        save_checkpoint({'args': args}, tmp_path / 'stored.pth')
        return str(tmp_path / 'stored.pth')

    return make


def test_only_what_is_inherited_is_taken_over_and_what_is_typed_wins(make_stored, tmp_path):
    own = {'loss': 'dice', 'seed': 5, 'val_batch_size': 2, 'amp': 'bf16', 'deterministic': True}
    other = {
        'use_snapshot': True,
        'strict_drift': True,
        'load_not_strict': True,
        'save_viz': True,
        'load_model_path': '/nowhere.pth',
        'result_dir': '/nowhere',
        'save_prefix': '../../x',
        'gpus': [0, 1],
        'print_freq': 7,
        'no_such_option': 1,
        '__class__': 1,
    }
    path = make_stored(**own, **other)
    args, checkpoint = get_test_args(['--load_model_path', path, '--seed', '6'])
    assert {name: getattr(args, name) for name in own} == own | {'seed': 6}
    assert {name: getattr(args, name) for name in STORED} == STORED
    defaults = vars(get_test_args(['--load_model_path', make_stored()])[0])
    changed = {name for name, value in vars(args).items() if defaults[name] != value}
    assert changed <= set(INHERITED)
    assert not changed & set(other)
    assert (args.load_model_path, args.use_snapshot, args.result_dir) == (path, False, '')
    assert get_test_result_dir(args).is_relative_to(tmp_path)
    assert checkpoint['args']['seed'] == 5


@pytest.mark.parametrize(
    ('name', 'value'),
    [
        ('img_size', 224),
        ('img_size', [224]),
        ('img_size', [24, -1]),
        ('img_size', '--use_snapshot'),
        ('img_size', ['24', '--use_snapshot']),
        ('num_classes', '3 --use_snapshot'),
        ('num_classes', [3, 3]),
        ('num_classes', {'a': 1}),
        ('num_classes', 3.5),
        ('seed', -1),
        ('val_batch_size', 0),
        ('amp', True),
        ('deterministic', 'yes'),
        ('model_type', 'os:system'),
        ('model_type', '@file'),
        ('loss', '--use_snapshot'),
        ('metrics', ['@file']),
        ('metrics', ['--use_snapshot']),
        ('metrics', '--help'),
    ],
)
def test_a_stored_option_that_does_not_parse_ends_in_one_line(make_stored, capsys, name, value):
    with pytest.raises(SystemExit) as exit:
        get_test_args(['--load_model_path', make_stored(**{name: value})])
    assert exit.value.code == 2
    output = capsys.readouterr()
    assert output.out == ''
    assert output.err.count('\n') == 1
    assert name in output.err or 'checkpoint' in output.err


@pytest.mark.parametrize(
    'metrics',
    [
        ['acc', '@file'],
        ['acc', '--use_snapshot'],
        ['acc', '--use_snapshot', '--result_dir', '/nowhere'],
        ['acc', '--help'],
        ['acc', '--load_model_path=/nowhere'],
    ],
)
def test_a_word_that_hides_in_a_stored_list_gives_no_order(
    make_stored, capsys, monkeypatch, tmp_path, metrics
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'file').write_text('--use_snapshot\nSECRET\n')
    path = make_stored(metrics=metrics)
    try:
        args, _ = get_test_args(['--load_model_path', path])
    except SystemExit as exit:
        assert exit.code == 2
    else:
        assert (args.use_snapshot, args.result_dir, args.load_model_path) == (False, '', path)
    output = capsys.readouterr()
    assert output.out == ''
    assert output.err.count('\n') <= 1
    assert 'SECRET' not in output.err  # no file is opened because a checkpoint names it


@pytest.mark.parametrize('args', [None, [], 'x', 3, {'metrics': torch.zeros(3)}, {1: 2}])
def test_options_of_another_kind_are_no_traceback(toy_val_list, tmp_path, args):
    save_checkpoint({'args': args}, tmp_path / 'odd.pth')
    typed = f'--load_model_path {tmp_path}/odd.pth --val_list {toy_val_list} --num_classes 3'
    try:
        assert get_test_args(typed.split())[0].num_classes == 3
    except SystemExit as exit:
        assert exit.code == 2
