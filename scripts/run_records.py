"""Reads run directories with the standard library alone; see runs.py."""

import fcntl
import json
import math
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
BLANK = {  # for a run.json that lacks something
    'status': 'unknown', 'host': '', 'error': '', 'epoch': '?', 'epochs': '?', 'best_metric': '',
    'best': {'epoch': 0, 'score': math.nan, 'scores': {}}, 'lower_is_better': [],
    'args': {}, 'command': '', 'directory': '', 'git': None, 'versions': {},
    'devices': [], 'start': '', 'end': '', 'data': {}, 'parent': None, 'earlier': [],
}  # fmt: skip


def load_run(directory):
    """run.json as a dict with 'name' and 'path'; one that is missing or broken is marked."""
    try:
        run = BLANK | json.loads((directory / 'run.json').read_text(encoding='utf-8'))
    except (OSError, ValueError, TypeError) as error:
        run = BLANK | {'status': f'unreadable: {error}'}
    run['best'] = BLANK['best'] | run['best']
    return run | {'name': directory.name, 'path': directory, 'status': get_status(run, directory)}


def get_status(run, directory):
    """What run.json says, but 'killed' where no process has the lock of a running run."""
    lock = directory / '.lock'
    if run['status'] != 'running':
        return run['status']
    if not lock.exists():
        return 'killed'
    try:
        with lock.open() as file:
            fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return 'killed'
    except OSError:  # it is held, or nobody can tell
        return 'running'


def load_checkpoint(path):
    """A checkpoint that was copied without its run directory, as a run. Only this needs torch."""
    from utils import checkpoint

    try:
        state = checkpoint.load_checkpoint(path)
    except ValueError as error:
        die(error)
    args = state.get('args', {})
    facts = {name: state[name] for name in ('epoch', 'best') if name in state}
    facts |= {'args': args, 'epochs': args.get('epochs', '?')}
    facts |= {'name': path.name, 'path': path, 'status': 'a checkpoint'}
    facts |= {'sources': state.get('code', {})}
    return BLANK | state.get('provenance', {}) | facts


def load_runs(root):
    """Every run in `root`: the directories that have a run.json or a checkpoint."""
    found = {path.parent for kind in ('*/run.json', '*/*.pth') for path in root.glob(kind)}
    return [load_run(directory) for directory in sorted(found)]


def find_run(root, name):
    """The run of that name, path or unambiguous beginning, or a checkpoint; else exit code 2."""
    if name.endswith('.pth'):
        return load_checkpoint(Path(name))
    for path in (Path(name), root / name):
        if (path / 'run.json').exists():
            return load_run(path)
    runs = load_runs(root)
    found = [run for run in runs if run['name'] == name]
    found = found or [run for run in runs if run['name'].startswith(name)]
    if len(found) != 1:
        names = ', '.join(run['name'] for run in found) or 'none'
        die(f"'{name}' names {names} of the runs in {root}; `list` shows them")
    return found[0]


def die(message):
    """One line and exit code 2."""
    print(f'error: {message}', file=sys.stderr)
    sys.exit(2)
