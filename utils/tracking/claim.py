"""Who trains in a run directory: one process at a time, and never over somebody else's files."""

import fcntl
import os
import shutil
import socket
import sys
from contextlib import contextmanager

from utils.errors import BusyError, UserError
from utils.tracking.run_dir import RunDir, get_time, get_train_model_dir


@contextmanager
def claim_run(args):
    """Locks the run directory while training; UserError if it must not be written to."""
    run_dir = RunDir(get_train_model_dir(args))
    check_unused(run_dir, args)  # before the lock leaves a file there
    with undo_on_error(run_dir.path), lock_run(run_dir):
        records = run_dir.replaced / 'run.json', run_dir.run_json
        if run_dir.replaced.exists() and not all(path.exists() for path in records):
            run_dir.restore()  # an --overwrite was killed while it moved files
        check_unused(run_dir, args)
        yield


def check_unused(run_dir, args):
    """UserError if the directory contains somebody else's files, or a run that must be kept."""
    has_run, record = bool(run_dir.list_checkpoints()), run_dir.read_record()
    is_foreign = run_dir.list_files() and 'files' not in record
    if is_foreign and (args.overwrite or not (has_run or run_dir.run_json.exists())):
        advice = 'choose another --model_dir or --save_prefix, or delete them yourself'
        path = run_dir.path.absolute()
        raise UserError(f'{path} contains files that no run.json lists: {advice}')
    if has_run and not (args.resume or args.overwrite):
        advice = '--resume continues it, another --save_prefix keeps it, --overwrite deletes it'
        raise UserError(f'{run_dir.path} already contains a run: {advice}')


@contextmanager
def lock_run(run_dir):
    """Keeps other processes from training in run_dir; BusyError says which one does already.

    The system releases the lock when a process ends, however it ends. lockf, not flock: DataLoader
    workers inherit a flock, and may outlive this process. Nothing else in this process may open
    .lock, because closing it releases the lock.
    """
    try:
        run_dir.path.mkdir(parents=True, exist_ok=True)
        lock = run_dir.lock.open('a+', encoding='utf-8')
    except (FileExistsError, NotADirectoryError) as error:
        raise UserError(f'cannot write to {run_dir.path}: {error.strerror}') from error
    with lock as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:  # which of them, depends on the system
            file.seek(0)
            advice = 'wait for it or start a new run with another --save_prefix'
            raise BusyError(f'{run_dir.path} is trained by {file.read()}: {advice}') from error
        except OSError as error:  # a file system without locks
            print(f'warning: {run_dir.path} cannot be locked: {error.strerror}', file=sys.stderr)
        file.truncate(0)
        file.write(f'process {os.getpid()} on {socket.gethostname()} since {get_time()}')
        file.flush()
        yield


@contextmanager
def undo_on_error(directory):
    """Removes a new directory again when an error leaves it empty, or when it is a UserError that
    comes before the first checkpoint.
    """
    is_new = not directory.exists()
    try:
        yield
    except BusyError:
        raise  # another process has made it since
    except BaseException as error:
        is_mistake = isinstance(error, UserError) and not list(directory.glob('*.pth'))
        if is_new and (is_mistake or not list(directory.glob('[!.]*'))):
            shutil.rmtree(directory, ignore_errors=True)
        raise
