"""Whose a run directory is: its lock, what is refused, and what --overwrite removes."""

import json
import os
import signal
import socket
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest
from conftest import ROOT, RUN, read_record, run_python, train

from train import Trainer, main
from utils.checkpoint import load_checkpoint
from utils.errors import BusyError, UserError, one_line_errors
from utils.tracking.claim import claim_run, lock_run, undo_on_error
from utils.tracking.run_dir import RunDir, get_results_dir


def read_tree(directory):
    """{path: content, or None for a directory} of everything in a directory."""
    paths = [path for path in directory.rglob('*') if path.name != '.lock']
    return {path: path.read_bytes() if path.is_file() else None for path in paths}


@pytest.mark.slow
def test_a_run_that_is_being_trained_is_left_alone_and_the_error_says_by_whom(
    trained_clone, tmp_path
):
    options, run = trained_clone / RUN / 'args.txt', tmp_path / 'run'
    with lock_run(RunDir(run)):
        process = run_python('train.py', f'@{options}', '--model_dir', run, cwd=trained_clone)
    assert process.returncode == 4  # so that a sweep goes on to the next run
    for word in ('error: ', str(run), f'process {os.getpid()} on {socket.gethostname()} since'):
        assert word in process.stderr
    assert process.stderr.count('\n') == 1
    assert [path.name for path in run.iterdir()] == ['.lock']


def test_a_run_directory_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / 'file').touch()
    with (
        pytest.raises(UserError, match='cannot write to .*/file'),
        lock_run(RunDir(tmp_path / 'file')),
    ):
        pass


def test_a_killed_process_gives_its_lock_back_though_its_children_live(tmp_path):
    script = """
import os, sys, time
from utils.tracking.claim import lock_run
from utils.tracking.run_dir import RunDir
with lock_run(RunDir(sys.argv[1])):
    child = os.fork()
    if child:
        print(child, flush=True)
    time.sleep(100)
"""
    run_dir = RunDir(tmp_path / 'run')
    command = [sys.executable, '-c', script, run_dir.path]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        child = int(process.stdout.readline())
        with pytest.raises(UserError, match=f'process {process.pid} on'), lock_run(run_dir):
            pass
        process.kill()
        process.wait()
        with lock_run(run_dir):
            os.kill(child, signal.SIGKILL)  # fails if it is gone already


def test_a_directory_that_holds_a_run_is_not_written_over(make_args):
    main(make_args('--epochs', 1))
    with pytest.raises(UserError, match='contains a run') as error:
        main(make_args('--epochs', 1))
    for word in ('--resume', '--save_prefix', '--overwrite'):
        assert word in str(error.value)
    main(make_args('--epochs', 1, '--overwrite'))


def test_an_error_before_the_run_leaves_no_directory(make_args, monkeypatch, tmp_path):
    monkeypatch.setattr('conftest.ToyNet.__init__', None)
    with pytest.raises(TypeError):
        main(make_args())
    assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize(
    ('error', 'name', 'is_kept'),
    [
        (UserError('x'), 'log.csv', False),
        (UserError('x'), 'last.pth', True),
        (RuntimeError('x'), 'log.csv', True),
        (RuntimeError('x'), '.lock', False),
        (KeyboardInterrupt(), '.lock', False),
        (KeyboardInterrupt(), 'log.csv', True),
    ],
)
def test_a_new_directory_is_removed_after_a_mistake_or_if_it_is_empty(
    tmp_path, error, name, is_kept
):
    for directory in (tmp_path / 'new', tmp_path / 'old'):
        if directory.name == 'old':
            directory.mkdir()
        with pytest.raises(type(error)), undo_on_error(directory):
            directory.mkdir(exist_ok=True)
            (directory / name).touch()
            raise error
    assert (tmp_path / 'new').exists() == is_kept
    assert (tmp_path / 'old' / name).exists()


def fill_with_own_files(directory):
    """What somebody may have in a directory, under names that a run uses as well."""
    for name in ('code/mine.py', 'best/model.txt', '2024_photos/1.jpg', 'log.csv'):
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text('mine\n')


@pytest.mark.parametrize('option', ['', '--overwrite', '--resume', '--fast_dev_run'])
def test_somebodys_directory_is_refused_in_one_line_and_stays_as_it_is(
    make_args, tmp_path, capsys, option
):
    fill_with_own_files(tmp_path / 'run')
    fill_with_own_files(tmp_path / 'run_fast_dev_run')
    before = read_tree(tmp_path)
    with pytest.raises(SystemExit) as exit, one_line_errors():
        main(make_args('--epochs', 1, *option.split()))
    assert exit.value.code == 2
    error = capsys.readouterr().err
    assert error.count('\n') == 1
    assert str(tmp_path / 'run') in error
    assert read_tree(tmp_path) == before
    assert not list(tmp_path.rglob('.lock'))


@pytest.mark.parametrize('name', ['weights.pth', 'best.pth', 'last.pth', '0001_00000001.pth'])
@pytest.mark.parametrize('option', ['', '--overwrite', '--resume'])
def test_somebodys_weights_and_code_stay_as_they_are(make_args, tmp_path, option, name):
    fill_with_own_files(tmp_path / 'run')
    (tmp_path / 'run' / name).write_text('mine\n')
    before = read_tree(tmp_path)
    with pytest.raises(UserError):
        main(make_args('--epochs', 1, *option.split()))
    assert read_tree(tmp_path) == before


@pytest.mark.slow
def test_an_old_run_whose_record_lists_no_files_is_not_overwritten(make_args, tmp_path):
    trainer = train(make_args('--epochs', 1))
    record = read_record(trainer)
    del record['files']
    (trainer.model_dir / 'run.json').write_text(json.dumps(record))
    before = read_tree(tmp_path)
    with pytest.raises(UserError, match='run.json'):
        main(make_args('--epochs', 1, '--overwrite'))
    assert read_tree(tmp_path) == before
    main(make_args('--epochs', 2, '--resume'))
    assert load_checkpoint(trainer.model_dir / 'last.pth')['epoch'] == 2


@pytest.mark.slow
def test_overwrite_removes_the_run_and_keeps_what_is_not_the_runs(make_args, tmp_path):
    run = tmp_path / 'run'
    main(make_args('--epochs', 2, '--save_freq', 1))
    old = {path.name for path in run.iterdir()}
    own = ('notes.md', '2024_photos/1.jpg', 'mine.pth', '0001_mine.pth')
    runs = ('best/list_pref/result.txt', '0001_00000002/list_pref/result.txt')
    runs += ('results.csv', 'best.pt2', 'best.onnx')
    for name in (*own, *runs):
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text('old\n')
    main(make_args('--epochs', 1, '--overwrite'))
    assert all((run / name).read_text() == 'old\n' for name in own)
    assert not any((run / name).exists() for name in runs)
    gone = {name for name in old if name.startswith(('0', 'events.'))}
    assert len(gone) == 3
    assert not gone & {path.name for path in run.iterdir()}
    assert load_checkpoint(run / 'last.pth')['epoch'] == 1


@pytest.mark.slow
@pytest.mark.parametrize('options', [['--overwrite'], ['--epochs', 3, '--resume']])
def test_a_link_named_code_is_removed_and_not_followed(make_args, tmp_path, options):
    main(make_args('--epochs', 1))
    run, outside = tmp_path / 'run', tmp_path / 'outside'
    (run / 'code').rename(tmp_path / 'was_code')
    outside.mkdir()
    (outside / 'mine.py').write_text('mine\n')
    (run / 'code').symlink_to(outside)
    main(make_args('--epochs', 1, *options))
    assert [path.name for path in outside.iterdir()] == ['mine.py']
    assert (run / 'code' / 'train.py').exists()
    assert not (run / 'code').is_symlink()


@pytest.mark.parametrize(
    'name', ['../x', '../x.pth', '{outside}', '', '.', '..', '..pth', '...pth', 'a/../../x', 'a/b']
)
def test_a_record_that_lists_names_outside_removes_nothing(tmp_path, name):
    run_dir = RunDir(tmp_path / 'runs' / 'run')
    for path in (tmp_path / 'runs' / 'x', tmp_path / 'x', run_dir.path / 'a' / 'b'):
        path.mkdir(parents=True)
        (path / 'file').touch()
    (tmp_path / 'runs' / 'x.pth').touch()
    name = name.format(outside=tmp_path / 'x')
    run_dir.run_json.write_text(json.dumps({'files': [name, 'last.pth']}))
    run_dir.last.touch()
    before = read_tree(tmp_path)
    run_dir.clear()
    assert before.pop(run_dir.last) == b''
    assert read_tree(tmp_path) == before


@pytest.mark.parametrize('files', ['"last.pth"', '{"a": 1}', '[1, null, ["a"]]', 'null', '3'])
def test_a_record_whose_files_are_no_list_of_names_removes_nothing(tmp_path, files):
    run_dir = RunDir(tmp_path)
    run_dir.run_json.write_text(f'{{"files": {files}}}')
    run_dir.last.touch()
    run_dir.clear()
    assert run_dir.last.exists()


def test_a_run_lists_exactly_what_it_wrote(make_args):
    trainer = train(make_args('--epochs', 2, '--save_freq', 1))
    (trainer.model_dir / 'notes.md').touch()
    listed = set(read_record(trainer)['files'])
    written = {path.name for path in trainer.model_dir.glob('[!.]*')} - {'notes.md'}
    assert written <= listed
    assert 'notes.md' not in listed
    assert {'best.pth', 'last.pth', '0001_00000002.pth', '0002_00000004.pth'} <= listed


@pytest.mark.slow
def test_what_a_killed_save_left_is_removed_when_the_run_resumes(make_args, tmp_path):
    main(make_args('--epochs', 1))
    left, own = (tmp_path / 'run' / name for name in ('.last.pth.123.tmp', '.own.tmp'))
    left.touch(), own.touch()
    main(make_args('--epochs', 2, '--resume'))
    assert not left.exists()
    left.touch()
    main(make_args('--epochs', 2, '--resume'))  # a finished run, killed in its last save
    assert not left.exists()
    assert own.exists()


@pytest.mark.slow
@pytest.mark.parametrize('option', ['', '--resume', '--overwrite'])
def test_a_run_that_was_killed_while_its_code_was_copied_may_start_again(
    make_args, monkeypatch, tmp_path, option
):
    def copy_half(code, directory):
        directory.mkdir(parents=True)
        (directory / 'train.py').touch()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr('utils.tracking.sources.write_sources', copy_half)
        main(make_args())
    main(make_args('--epochs', 1, *option.split()))
    assert load_checkpoint(tmp_path / 'run' / 'last.pth')['epoch'] == 1


class Killed(BaseException):
    """Ends a test's run as a kill would, without any of the run's own handling of exceptions."""


@pytest.mark.slow
@pytest.mark.parametrize('name', ['best', 'best.pth', 'run.json'])
def test_an_overwrite_that_was_killed_while_it_moved_files_may_be_repeated(
    make_args, monkeypatch, tmp_path, name
):
    rename = Path.rename

    def stop_at(path, target):
        if path.name == name and path.parent.name == 'run':
            raise Killed
        return rename(path, target)

    main(make_args('--epochs', 1))
    (tmp_path / 'run' / 'best' / 'list_pref').mkdir(parents=True)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Path, 'rename', stop_at)
        main(make_args('--overwrite'))
    main(make_args('--epochs', 1, '--overwrite'))
    assert not (tmp_path / 'run' / 'best').exists()
    assert not (tmp_path / 'run' / '.replaced').exists()


def make_run(tmp_path):
    """A run directory with a few files, as run.json lists them."""
    run = RunDir(tmp_path / 'run')
    run.code.mkdir(parents=True)
    for path in (run.log, run.last, run.best, run.code / 'train.py'):
        path.write_text(path.name)
    run.run_json.write_text(json.dumps({'files': run.list_written(), 'run': 'old'}))
    return run


@pytest.mark.parametrize('name', ['code', 'last.pth', 'best.pth', 'run.json'])
def test_a_run_that_cannot_be_moved_aside_stays_as_it_was(tmp_path, monkeypatch, name):
    run, rename = make_run(tmp_path), Path.rename
    before = read_tree(run.path)

    def refuse(path, target):
        if path.name == name and path.parent == run.path:
            raise PermissionError(13, 'Permission denied', str(path))
        return rename(path, target)

    monkeypatch.setattr(Path, 'rename', refuse)
    with pytest.raises(PermissionError):
        run.set_aside()
    assert read_tree(run.path) == before


@pytest.mark.parametrize('name', ['code', 'last.pth', 'best.pth', 'run.json'])
def test_what_a_killed_overwrite_had_moved_is_moved_back_first(tmp_path, monkeypatch, name):
    run, rename = make_run(tmp_path), Path.rename
    before = read_tree(run.path)

    def stop_at(path, target):
        if path.name == name:
            raise Killed
        return rename(path, target)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Path, 'rename', stop_at)
        run.set_aside()
    args = Namespace(model_dir=str(run.path), fast_dev_run=False, resume=True, overwrite=False)
    with claim_run(args):
        assert read_tree(run.path) == before


def test_half_of_a_run_that_was_replaced_is_not_restored(tmp_path, monkeypatch):
    run = make_run(tmp_path)
    run.set_aside()
    make_run(tmp_path).last.write_text('new')
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr('utils.files.shutil.rmtree', stop_removing)
        run.discard_replaced()
    args = Namespace(model_dir=str(run.path), fast_dev_run=False, resume=True, overwrite=False)
    with claim_run(args):
        assert run.last.read_text() == 'new'
    run.discard_replaced()
    assert not list(run.path.glob('.re*'))


def stop_removing(path):
    """Removes one file of a directory, and is killed."""
    (path / 'run.json').unlink()
    raise Killed


@pytest.mark.slow
@pytest.mark.parametrize('error', [UserError('a bad label'), RuntimeError('a bug'), SystemExit(1)])
def test_an_overwrite_that_fails_before_its_first_saved_step_loses_nothing(
    make_args, monkeypatch, tmp_path, error
):
    def fail(self, batch):
        raise error

    run = tmp_path / 'run'
    main(make_args('--epochs', 2, '--save_freq', 1))
    (run / 'best' / 'list_pref').mkdir(parents=True)
    (run / 'notes.md').write_text('mine')
    before = read_tree(run)
    with monkeypatch.context() as patch, pytest.raises(type(error)):
        patch.setattr(Trainer, 'step', fail)
        main(make_args('--overwrite'))
    assert read_tree(run) == before
    with monkeypatch.context() as patch, pytest.raises(Killed):
        error = Killed()
        patch.setattr(Trainer, 'step', fail)
        patch.setattr(RunDir, 'restore', lambda self: None)  # no time for that
        main(make_args('--overwrite'))
    assert read_tree(run / '.replaced').keys() == {
        run / '.replaced' / path.relative_to(run) for path in before if path.name != 'notes.md'
    }
    main(make_args('--epochs', 1, '--overwrite'))
    assert not (run / '.replaced').exists()
    assert (run / 'notes.md').exists()


@pytest.mark.slow
@pytest.mark.parametrize(('keep', 'left'), [(2, [4, 5]), (0, [3, 4, 5])])
def test_only_the_newest_numbered_checkpoints_of_the_run_stay(make_args, tmp_path, keep, left):
    theirs = tmp_path / 'run' / '0001_00000001.pth'
    train(make_args('--epochs', 2, '--keep', 1, '--save_freq', 3))
    theirs.touch()
    train(make_args('--epochs', 5, '--keep', keep, '--save_freq', 1, '--resume'))
    own = sorted(int(p.name[:4]) for p in theirs.parent.glob('0*.pth') if p != theirs)
    assert own == left
    assert theirs.exists()


def test_a_directory_that_another_process_has_made_meanwhile_stays(tmp_path):
    with pytest.raises(BusyError), undo_on_error(tmp_path / 'run'):
        (tmp_path / 'run').mkdir()  # by the other one
        (tmp_path / 'run' / 'args.txt').touch()
        raise BusyError('is trained by another process')
    assert (tmp_path / 'run' / 'args.txt').exists()


def test_results_are_not_written_among_the_source_code(tmp_path):
    (tmp_path / 'model').mkdir()
    args = Namespace(load_model_path=str(tmp_path / 'model.pth'))
    assert get_results_dir(args) == tmp_path / 'model'
    (tmp_path / 'model' / '__init__.py').touch()
    assert get_results_dir(args) == tmp_path / 'model_results'
