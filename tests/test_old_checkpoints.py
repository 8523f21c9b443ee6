"""What old checkpoints can still do: elsewhere, resumed, from their snapshot, or not at all."""

import shutil

import torch
from conftest import RUN, edit, evaluate, get_training_scores, run_python

from utils.checkpoint import load_checkpoint


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
