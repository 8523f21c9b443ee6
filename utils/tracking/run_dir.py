"""A run directory: the path of each file, whose files these are, and who trains there now.

Needs the standard library only, so that `--help` and scripts/runs.py do without torch.
"""

import fcntl
import json
import os
import re
import shutil
import socket
import sys
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from utils.errors import BusyError, UserError
from utils.files import remove

# What a run and its evaluations write. run.json is removed last, because it lists the others.
FILES = ('args.txt', 'log.csv', 'code', 'uncommitted.diff', 'last.pth', 'best.pth', 'run.json')
OTHERS = ('train.log', 'curves.png', 'results.csv', '.results.csv.lock')
EXPORTED = ('best.pt2', 'best.onnx', 'last.pt2', 'last.onnx')
NUMBERED = re.compile(r'\d{4,}_(\d{8,})\.pth')  # epoch and step
EVENTS = re.compile(r'events\.out\.tfevents\.[^/]*')


class RunDir:
    """The paths of a run's files; nothing is created."""

    def __init__(self, path):
        self.path, self.lock = Path(path), Path(path) / '.lock'
        self.replaced = self.path / '.replaced'  # the run before, until this one has a checkpoint
        self.train_log, self.curves = (self.path / name for name in OTHERS[:2])
        paths = (self.path / name for name in FILES)
        self.args, self.log, self.code, self.diff, self.last, self.best, self.run_json = paths

    def list_checkpoints(self):
        """The checkpoints that are here: last.pth, best.pth, the numbered ones newest first."""
        numbered = [p for p in self.path.glob('*.pth') if get_step(p.name)]
        numbered.sort(key=lambda path: -get_step(path.name))
        return [p for p in (self.last, self.best) if p.exists()] + numbered

    def prune(self, step, keep):
        """Of the numbered checkpoints that run.json lists, up to a step, only the newest `keep`
        stay; 0 keeps all.
        """
        names = [n for n in self.read_record().get('files', []) if 0 < get_step(n) <= step]
        for name in sorted(names, key=get_step)[:-keep] if keep else []:
            (self.path / name).unlink(missing_ok=True)

    def measure_events(self):
        """{name: bytes} of the TensorBoard files."""
        paths = [path for path in self.list_files() if EVENTS.fullmatch(path.name)]
        return {path.name: path.stat().st_size for path in paths}

    def trim_events(self, sizes):
        """Makes the TensorBoard files that run.json lists what `measure_events` returned; None
        changes nothing.
        """
        if sizes is None:
            return
        for name in set(self.measure_events()) & set(self.read_record().get('files', [])):
            if name not in sizes:
                (self.path / name).unlink()
            elif (self.path / name).stat().st_size > sizes[name]:
                os.truncate(self.path / name, sizes[name])

    def list_files(self):
        """The files that are here, hidden ones such as the lock left out."""
        return list(self.path.glob('[!.]*'))

    def list_written(self, foreign=()):
        """The names of what this run writes, for run.json, without those that others left here."""
        names = [path.name for path in self.list_files() if path.name not in foreign]
        own = [n for n in names if NUMBERED.fullmatch(n) or EVENTS.fullmatch(n)]
        return [*own, *OTHERS, *EXPORTED, *FILES]

    def read_record(self):
        """The content of run.json; {} if it is missing or damaged."""
        try:
            record = dict(json.loads(self.run_json.read_text(encoding='utf-8')))
        except (OSError, ValueError, TypeError):
            return {}
        if not isinstance(record.get('files', []), list):
            del record['files']
        return record

    def list_foreign(self):
        """The names of the files that are here and that run.json does not list."""
        listed = self.read_record().get('files', [])
        return {path.name for path in self.list_files() if path.name not in listed}

    def list_own(self):
        """The paths of what run.json lists and of the results of the checkpoints among it."""
        listed = self.read_record().get('files') or []
        names = [name for name in self.list_written() if name in listed]
        results = [Path(name).stem for name in names if name.endswith('.pth')]
        return [p for p in (self.path / n for n in [*results, *names]) if os.path.lexists(p)]

    def clear(self):
        """Removes what is this run's own; no more."""
        for path in self.list_own():
            remove(path)

    def set_aside(self):
        """Moves what is this run's own to .replaced; if there is a run already, removes it, for
        it is one that was killed before its first step was saved.
        """
        if (self.replaced / 'run.json').exists():
            self.clear()
        for path in self.list_own():
            self.replaced.mkdir(exist_ok=True)
            path.rename(self.replaced / path.name)

    def restore(self):
        """Moves the run in .replaced back, in the place of the one that is here."""
        self.clear()
        for path in sorted(self.replaced.glob('*'), key=lambda p: p.name == 'run.json'):
            path.rename(self.path / path.name)
        if self.replaced.exists():
            self.replaced.rmdir()

    def clear_half_written(self):
        """Removes what a save that was killed left behind."""
        for path in self.path.glob('.*.pth.*.tmp'):
            path.unlink()


def get_step(name):
    """The optimizer step in the name of a numbered checkpoint; 0 for any other name."""
    match = NUMBERED.fullmatch(str(name))
    return int(match[1]) if match else 0


def get_train_model_dir(args):
    """The run directory, as a Path; nothing is created."""
    suffix = '_fast_dev_run' if args.fast_dev_run else ''
    model_dir = args.model_dir or f'checkpoints/{args.model_type}_{args.save_prefix}'
    return Path(f'{Path(model_dir)}{suffix}')  # without a slash at the end


def get_test_result_dir(args):
    """The directory of an evaluation's files, as a Path; nothing is created."""
    val_list = Path(args.val_list).absolute()
    name = f'{val_list.parent.name}_{val_list.stem}_{args.save_prefix}'
    return Path(args.result_dir or get_results_dir(args) / name)


def get_results_dir(args):
    """The directory beside a checkpoint for all that is made with it."""
    path = Path(args.load_model_path)
    return path.with_suffix('') if path.suffix else path.with_name(f'{path.name}_results')


def get_time():
    """The local time to the second, with its time zone."""
    return datetime.now().astimezone().isoformat(sep=' ', timespec='seconds')


@contextmanager
def claim_run(args):
    """Locks the run directory while training; UserError if it must not be written to."""
    run_dir = RunDir(get_train_model_dir(args))
    check_unused(run_dir, args)  # before the lock leaves a file there
    with undo_on_error(run_dir.path), lock_run(run_dir):
        if run_dir.replaced.exists() and not run_dir.run_json.exists():
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
