"""What the machine lacks ends in one line with the remedy and exit code 1; a bug in a traceback."""

import errno
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from conftest import ROOT, read_record, train, write_list
from test_stop import start_training, wait_for

from train import Trainer, main
from utils.checkpoint import load_checkpoint, save_checkpoint
from utils.errors import explain_lack, one_line_errors
from utils.files import replace_file


def end_in_one_line(capsys, call):
    """The line with which `call` ends the program, with exit code 1."""
    with pytest.raises(SystemExit) as exit, one_line_errors():
        call()
    error = capsys.readouterr().err
    assert exit.value.code == 1, error
    lines = [line for line in error.splitlines() if not line.startswith('warning: ')]
    assert len(lines) == 1, error
    assert lines[0].startswith('error: ')
    return lines[0]


@pytest.mark.parametrize(
    ('error', 'words'),
    [
        (OSError(errno.ENOSPC, 'No space left on device', '/x/last.pth'), ['last.pth', 'MB free']),
        (OSError(errno.EDQUOT, 'Disk quota exceeded', '/x/a'), ['quota', 'MB free']),
        (OSError(errno.EFBIG, 'File too large', '/x/a'), ['/x/a', 'ulimit -f']),
        (OSError(errno.EROFS, 'Read-only file system', '/x/a'), ['/x/a', '--model_dir']),
        (OSError(errno.ENOTDIR, 'Not a directory', '/x/a'), ['/x/a', '--result_dir']),
        (PermissionError(errno.EACCES, 'Permission denied', '/x/a'), ['/x/a', '--result_dir']),
        (OSError(errno.EMFILE, 'Too many open files'), ['ulimit -n 4096', '--num_workers']),
        (RuntimeError('received 0 items of ancdata'), ['ulimit -n', '--num_workers']),
        (RuntimeError('DataLoader worker (pid 7) is killed by signal: Killed.'), ['MB free']),
        (RuntimeError('DataLoader worker (pid(s) 7) exited unexpectedly'), ['--num_workers 0']),
        (RuntimeError('DataLoader worker (pid 7) is killed by signal: Bus error.'), ['/dev/shm']),
        (RuntimeError('unable to write to file </torch_7_1>: No space left (28)'), ['shm-size']),
        (OSError(errno.EIO, 'Input/output error', '/x/a'), ['/x/a', 'disk']),
        (RuntimeError("can't start new thread"), ['ulimit -u', '--num_workers']),
        (FileNotFoundError(errno.ENOENT, 'No usable temporary directory found'), ['TMPDIR']),
        (MemoryError('Unable to allocate 9 GiB'), ['memory is short', '--batch_size']),
        (RuntimeError("can't allocate memory: you tried; not enough memory"), ['--val_batch_size']),
        (torch.OutOfMemoryError('CUDA out of memory. Tried 2 GiB'), ['--accum']),
        (OSError('Caught OSError in worker\nTraceback\nOSError: Too many open files'), ['ulimit']),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_the_machine_lacks_is_named_with_the_remedy(capsys, error, words):
    def fail():
        raise error

    line = end_in_one_line(capsys, fail)
    assert all(word in line for word in words), line


@pytest.mark.parametrize(
    'error',
    [
        RuntimeError('mat1 and mat2 shapes cannot be multiplied'),
        ValueError('No space left'),
        KeyError('out of memory'),
        FileNotFoundError(errno.ENOENT, 'No such file', str(ROOT / 'x.png')),
        UnicodeEncodeError('ascii', 'x', 0, 1, 'y'),
        ZeroDivisionError('x'),
    ],
    ids=repr,
)
def test_a_bug_keeps_its_traceback(error):
    with pytest.raises(type(error)), one_line_errors():
        raise error


def test_every_remedy_can_be_filled_in(tmp_path):
    assert 'ulimit -n' in explain_lack(OSError(errno.EMFILE, 'Too many open files'))
    line = explain_lack(FileNotFoundError(errno.ENOENT, 'No such file', str(tmp_path / 'a' / 'b')))
    assert 'is gone' in line


def test_a_file_that_could_not_be_written_leaves_nothing_beside_the_old_one(tmp_path):
    path = tmp_path / 'log.csv'
    path.write_text('old')
    with pytest.raises(OSError, match=r'log\.csv') as error, replace_file(path) as file:
        file.write('half')
        raise OSError(errno.ENOSPC, 'No space left on device')
    assert error.value.errno == errno.ENOSPC
    assert path.read_text() == 'old'
    assert list(tmp_path.iterdir()) == [path]


@contextmanager
def limit_file_size(num_bytes):
    """As `ulimit -f` does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_checkpoint_that_does_not_fit_is_named_with_its_size(tmp_path, capsys):
    path = tmp_path / 'last.pth'
    save_checkpoint({'model': {'w': torch.ones(10)}}, path)
    state = {'model': {'w': torch.zeros(1_000_000)}}
    with limit_file_size(100_000):
        line = end_in_one_line(capsys, lambda: save_checkpoint(state, path))
    assert 'last.pth' in line
    assert '4.0 MB' in line
    assert load_checkpoint(path)['model']['w'].sum() == 10
    assert list(tmp_path.iterdir()) == [path]


def test_a_run_whose_first_checkpoint_does_not_fit_ends_before_its_first_step(
    make_args, capsys, monkeypatch
):
    monkeypatch.setattr(Trainer, 'step', None)
    with limit_file_size(20_000):
        end_in_one_line(capsys, lambda: main(make_args('--skip_check', '--metrics', 'acc')))


def is_failed(trainer, words):
    record = read_record(trainer)
    assert record['status'] == 'failed'
    assert words in record['error']


@pytest.mark.slow
def test_a_run_whose_disk_fills_up_keeps_its_older_checkpoint(make_args, capsys, monkeypatch):
    trainer = train(make_args('--epochs', 1))
    longer = Trainer(make_args('--epochs', 2, '--resume'))
    save, calls = torch.save, []

    def fill_disk(state, file):
        calls.append(1)
        file.write(b'half')
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr('utils.checkpoint.torch.save', fill_disk)
    line = end_in_one_line(capsys, longer.train)
    assert 'No space left' in line
    assert '.pth' in line
    monkeypatch.setattr('utils.checkpoint.torch.save', save)
    is_failed(trainer, 'No space left')
    assert load_checkpoint(trainer.model_dir / 'last.pth')['epoch'] == 1
    assert not list(trainer.model_dir.glob('.*tmp'))
    assert train(make_args('--epochs', 2, '--resume')).state.epoch == 2


def test_a_run_whose_directory_is_removed_is_one_line(make_args, capsys, monkeypatch):
    trainer = Trainer(make_args('--epochs', 3))
    validate = trainer.val_per_epoch

    def remove_and_validate(epoch):
        shutil.rmtree(trainer.model_dir)
        validate(epoch)

    monkeypatch.setattr(trainer, 'val_per_epoch', remove_and_validate)
    assert 'gone' in end_in_one_line(capsys, trainer.train)


def test_the_first_cause_is_kept_though_writing_it_fails(make_args, capsys, monkeypatch):
    trainer = Trainer(make_args())

    def fail(batch):
        monkeypatch.setattr(trainer.tracker, 'update', fail_too)
        raise OSError(errno.EMFILE, 'Too many open files')

    def fail_too(*args, **kwargs):
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(trainer, 'step', fail)
    assert 'Too many open files' in end_in_one_line(capsys, trainer.train)


class DyingDataset:
    """Sample 5 ends the worker that reads it."""

    def __init__(self, args, list_path, is_train):
        from data.list_dataset import ListDataset

        self.samples, self.is_train = ListDataset(args, list_path, is_train), is_train

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, i):
        if self.is_train and i == 5:
            os._exit(1)
        return self.samples[i]


@pytest.mark.slow
def test_a_worker_that_dies_is_one_line(make_args, capsys, monkeypatch):
    monkeypatch.setitem(
        sys.modules['data.data_entry'].DATASETS, 'dying', 'test_system_faults:DyingDataset'
    )
    trainer = Trainer(make_args('--data_type', 'dying', '--num_workers', 2))
    line = end_in_one_line(capsys, trainer.train)
    assert 'DataLoader worker' in line
    is_failed(trainer, 'DataLoader worker')


def start(lists, run, *options, prefix='', **kwargs):
    """A short training through a shell, as a person would; returns the finished process."""
    train_list, val_list = lists
    options = f'--train_list {train_list} --val_list {val_list} --num_classes 3 ' + ' '.join(
        options
    )
    quick = '--img_size 32 48 --batch_size 2 --epochs 1 --metrics acc'
    command = f'{prefix} {sys.executable} train.py {options} {quick} --model_dir {run}'
    kwargs = {'capture_output': True, 'text': True, 'timeout': 200} | kwargs
    return subprocess.run(['bash', '-c', command], cwd=ROOT, **kwargs)


def check_one_line(process, *words):
    lines = [x for x in process.stderr.splitlines() if not x.startswith(('warning: ', 'bash: '))]
    assert process.returncode == 1, process.stderr
    assert len(lines) == 1, process.stderr
    assert all(word in lines[0] for word in words), lines


@pytest.mark.slow
def test_a_directory_that_is_removed_while_it_trains_is_one_line(toy_list, toy_val_list, tmp_path):
    run = tmp_path / 'run'
    with start_training(toy_list, toy_val_list, run, '--epochs', 1000) as process:
        wait_for(run / 'log.csv', process)
        run.rename(tmp_path / 'moved')  # at once, while files in it are written
        _, errors = process.communicate(timeout=1000)
    assert process.returncode == 1
    assert errors.count('\n') == 1, errors


@pytest.mark.slow
def test_few_file_handles_are_enough_or_one_line(toy_list, toy_val_list, tmp_path):
    lists = toy_list, toy_val_list
    for number in (96, 64, 40):
        run, limit = tmp_path / f'{number}', f'ulimit -n {number};'
        process = start(lists, run, '--num_workers 2', prefix=limit)
        if process.returncode:
            check_one_line(process, 'ulimit -n')
            assert json.loads((run / 'run.json').read_text())['status'] == 'failed'


@pytest.mark.slow
def test_a_long_tmpdir_is_one_line_and_without_workers_no_matter(toy_list, toy_val_list, tmp_path):
    tmpdir = tmp_path / ('x' * 130)
    tmpdir.mkdir()
    lists = toy_list, toy_val_list
    process = start(lists, tmp_path / 'run', '--num_workers 2', prefix=f'TMPDIR={tmpdir}')
    assert (process.returncode, process.stderr.count('\n')) == (2, 1)
    assert 'TMPDIR' in process.stderr
    process = start(lists, tmp_path / 'run', '--num_workers 0', prefix=f'TMPDIR={tmpdir}')
    assert process.returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize('redirect', ['2>&-', '>&-', '>&- 2>&-', '<&- >&- 2>&-'])
def test_closed_streams_change_nothing(toy_list, toy_val_list, tmp_path, redirect):
    process = start((toy_list, toy_val_list), tmp_path / 'run', prefix=f'exec {redirect};')
    assert process.returncode == 0
    assert load_checkpoint(tmp_path / 'run' / 'last.pth')['epoch'] == 1


@pytest.mark.slow
def test_output_that_nobody_reads_is_one_line(toy_list, toy_val_list, tmp_path):
    options = f'--train_list {toy_list} --val_list {toy_val_list} --num_classes 3 --epochs 50'
    command = f'{sys.executable} train.py {options} --model_dir {tmp_path / "run"} --img_size 32 48'
    script = f'{command} 2>{tmp_path / "errors"} | head -n 1; exit ${{PIPESTATUS[0]}}'
    process = subprocess.run(['bash', '-c', script], cwd=ROOT, capture_output=True, timeout=1000)
    assert process.returncode == 1
    assert (tmp_path / 'errors').read_text().count('\n') == 1
    assert 'Broken pipe' in (tmp_path / 'errors').read_text()


@pytest.mark.slow
def test_a_locale_without_utf8_works_or_is_one_line(tmp_path):
    lists = [write_list(tmp_path / '数据', 4), write_list(tmp_path / '验证', 2)]
    prefix = 'export LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0;'
    process = start(lists, tmp_path / 'run', prefix=prefix)
    if process.returncode:
        check_one_line(process, 'PYTHONUTF8=1')
    else:
        assert process.stderr == ''


@contextmanager
def mount_small(path, size='8m'):
    """A file system of a few MB; skips where none may be mounted."""
    path.mkdir()
    command = ['mount', '-t', 'tmpfs', '-o', f'size={size}', 'tmpfs', path]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip('no file system may be mounted here')
    try:
        yield path
    finally:
        subprocess.run(['umount', '-l', path], check=True)


@pytest.mark.slow
def test_a_full_disk_is_one_line_with_sizes(toy_list, toy_val_list, tmp_path):
    with mount_small(tmp_path / 'disk') as disk:
        process = start((toy_list, toy_val_list), disk / 'run', '--model_type base_model')
        check_one_line(process, 'No space left', '.pth', 'a checkpoint of ', 'MB free')
        assert not list(disk.rglob('*.tmp'))


@pytest.mark.slow
def test_an_evaluation_where_nothing_can_be_written_is_one_line(toy_list, toy_val_list, tmp_path):
    with mount_small(tmp_path / 'disk', '64m') as disk:
        assert start((toy_list, toy_val_list), disk / 'run').returncode == 0
        subprocess.run(['mount', '-o', 'remount,ro', disk], check=True)
        command = [sys.executable, 'eval.py', '--load_model_path', disk / 'run' / 'last.pth']
        pipes = {'capture_output': True, 'text': True}
        check_one_line(subprocess.run(command, cwd=ROOT, **pipes), 'Read-only', '--result_dir')
        elsewhere = [*command, '--result_dir', tmp_path / 'results']
        assert subprocess.run(elsewhere, cwd=ROOT, **pipes).returncode == 0
        check_one_line(start((toy_list, toy_val_list), disk / 'other'), 'Read-only')


@pytest.mark.slow
def test_little_shared_memory_is_enough_without_workers_and_else_one_line(
    toy_list, toy_val_list, tmp_path
):
    if subprocess.run(['unshare', '-m', 'true'], capture_output=True).returncode:
        pytest.skip('no file system may be mounted here')
    lists, run = (toy_list, toy_val_list), tmp_path / 'run'
    mount = 'mount -t tmpfs -o size=100k tmpfs /dev/shm && exec "$0" "$@"'
    mounted = f"unshare -m bash -c '{mount}'"
    process = start(lists, run, '--num_workers 0 --data_type mem_list', prefix=mounted)
    assert process.returncode == 0, process.stderr
    process = start(lists, tmp_path / 'other', '--num_workers 2 --val_batch_size 4', prefix=mounted)
    check_one_line(process, '/dev/shm')


@pytest.fixture
def other_user():
    """Somebody who may read and not write; without root, this user without the permissions."""
    directory = Path(tempfile.mkdtemp())  # pytest's own may not be entered by others
    directory.chmod(0o755)
    yield directory
    if os.getuid() == 0:
        os.seteuid(0)
    for path in (directory, *directory.rglob('*')):
        if path.is_dir():
            path.chmod(0o755)
    shutil.rmtree(directory)


def become_other(path, mode):
    """Lets a directory have no more than `mode` for who runs now."""
    path.chmod(mode)
    if os.getuid() == 0:
        os.seteuid(65534)


@pytest.mark.parametrize(('mode', 'options'), [(0o555, ['--resume']), (0o555, []), (0o500, [])])
def test_a_directory_of_another_user_is_one_line(make_args, other_user, capsys, mode, options):
    lists = [write_list(other_user / name, 4) for name in ('train', 'val')]
    names = ['--train_list', lists[0], '--val_list', lists[1], '--model_dir', other_user / 'run']
    if options:
        train(make_args(*names, '--epochs', 1))
    else:
        (other_user / 'run').mkdir()
    args = make_args(*names, '--epochs', 2, *options)
    become_other(other_user / 'run', mode)
    line = end_in_one_line(capsys, lambda: main(args))
    assert 'Permission denied' in line
    assert '--model_dir' in line


def test_a_lack_of_memory_is_said_where_free_memory_is_unknown(monkeypatch):
    names = {name: i for name, i in os.sysconf_names.items() if name != 'SC_AVPHYS_PAGES'}
    monkeypatch.setattr(os, 'sysconf_names', names)
    monkeypatch.setattr(os, 'sysconf', lambda name: names[name])
    assert '--batch_size' in explain_lack(MemoryError('Unable to allocate'))
