"""Reads run directories with the standard library alone; see runs.py."""

import fcntl
import json
import math
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the project

from utils.errors import UserError, nearest

PROJECT = Path(__file__).resolve().parent.parent
ANY = ''  # stands for every other name of a dict
# What a run.json lacks is taken from here, and what it contains must be of the same types.
BLANK = {
    'status': 'unknown', 'error': '', 'command': '', 'directory': '', 'host': '', 'devices': [''],
    'start': '', 'end': '', 'epoch': 0, 'epochs': 0, 'args': {}, 'versions': {},
    'best_metric': '', 'best': {'epoch': 0, 'score': math.nan, 'scores': {ANY: math.nan}},
    'lower_is_better': [''], 'git': {'commit': '', 'branch': '', 'is_dirty': False},
    'data': {ANY: {'list': '', 'samples': 0, 'sha256': ''}}, 'parent': {'path': ''},
    'earlier': [{'until_epoch': 0, 'changes': ['']}],
}  # fmt: skip


def fill(value, blank, name='run.json'):
    """The value, with what it lacks (None) as in `blank`; UserError if it is of another type."""
    if value is None:
        value = type(blank)() if isinstance(blank, dict | list) else blank
    kind = int | float if isinstance(blank, float) else object if blank is None else type(blank)
    if not isinstance(value, kind):
        expected = type(blank).__name__
        raise UserError(f'{name}: expected {expected}, got {str(value)[:40]!r}')
    if isinstance(blank, list):
        return [fill(part, blank[0], name) for part in value]
    if isinstance(blank, dict):
        names = [name for name in {**blank, **value} if name != ANY]
        return {n: fill(value.get(n), blank.get(n, blank.get(ANY)), n) for n in names}
    return value


def load_run(directory):
    """run.json as a dict with 'name' and 'path'; one that is missing or damaged is marked."""
    try:
        text = (directory / 'run.json').read_text(encoding='utf-8')
        run = fill(json.loads(text), BLANK)
    except (OSError, ValueError, RecursionError) as error:
        run = fill({'status': f'unreadable: {error}'}, BLANK)
    run['status'] = get_status(run['status'], directory / '.lock')
    return run | {'name': directory.name, 'path': directory}


def get_status(status, lock):
    """What run.json says, but 'killed' where no process has the lock of a running run."""
    if status != 'running':
        return status
    try:
        with lock.open() as file:
            fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return 'killed'
    except OSError:  # it is held, or nobody can tell
        return 'running'
    return 'killed'


def load_checkpoint(path):
    """A checkpoint that was copied without its run directory, as a run. Only this needs torch."""
    from utils import checkpoint

    state = checkpoint.load_checkpoint(path)
    args = state.get('args', {})
    facts = {name: state.get(name) for name in ('epoch', 'best')}
    facts |= {'args': args, 'epochs': args.get('epochs'), 'status': 'a checkpoint'}
    run = fill(state.get('provenance', {}) | facts, BLANK)
    return run | {'name': path.name, 'path': path, 'sources': state.get('code', {})}


def load_runs(root):
    """Every run in `root`: the directories that have a run.json or a checkpoint."""
    found = {path.parent for kind in ('*/run.json', '*/*.pth') for path in root.glob(kind)}
    return [load_run(directory) for directory in sorted(found)]


def find_run(root, name):
    """The run of that name or path, or a checkpoint."""
    if name.endswith('.pth'):
        return load_checkpoint(Path(name))
    for path in (root / name, Path(name)):
        if path.is_dir():
            return load_run(path)
    hint = nearest(name, [path.name for path in root.glob('*')])
    raise UserError(f"there is no run '{name}' in {root}{hint}; `list` shows them")
