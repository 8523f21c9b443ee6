"""A run directory: the path of each file, and whose files these are.

Needs the standard library only, so that `--help` and scripts/runs.py do without torch.
"""

import json
import os
import re
from datetime import datetime
from pathlib import Path

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
        """Moves what is this run's own to .replaced, or nothing; if there is a run already, removes
        it, for it is one that was killed before its first step was saved.
        """
        if (self.replaced / 'run.json').exists():
            self.clear()
        try:
            for path in self.list_own():
                self.replaced.mkdir(exist_ok=True)
                path.rename(self.replaced / path.name)
        except OSError:
            self.restore()
            raise

    def restore(self):
        """Moves the run in .replaced back, in the place of the one that is here."""
        if not self.replaced.exists() or (self.replaced / 'run.json').exists():
            self.clear()  # else only a part of the old run was moved: the rest is still here
        for path in sorted(self.replaced.glob('*'), key=lambda p: p.name == 'run.json'):
            path.rename(self.path / path.name)
        if self.replaced.exists():
            self.replaced.rmdir()

    def discard_replaced(self):
        """Removes the run in .replaced; under another name, so that half of it is not restored."""
        removed = self.path / '.removed'
        if self.replaced.exists():
            remove(removed)
            self.replaced.rename(removed)
        remove(removed)

    def clear_half_written(self):
        """Removes what a save that was killed left behind."""
        for path in self.path.glob('.*.[0-9]*.tmp'):
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
    directory = path.with_suffix('')
    is_free = path.suffix and not (directory / '__init__.py').exists()  # model.pth beside model/
    return directory if is_free else path.with_name(f'{path.stem}_results')


def get_time():
    """The local time to the second, with its time zone."""
    return datetime.now().astimezone().isoformat(sep=' ', timespec='seconds')
