"""Lists, compares and explains the runs in checkpoints/. Needs nothing but Python.

python scripts/runs.py list                  every run: status, epochs, best score, date, options
python scripts/runs.py diff A B              what differs: options, code, data, versions
python scripts/runs.py show A                how a run was made
python scripts/runs.py cmd A                 the command that makes it again
python scripts/runs.py best --metric miou --group_by save_prefix     mean and deviation
"""

import argparse
import csv
import difflib
import json
import math
import os
import shlex
import socket
import statistics
import sys
from pathlib import Path

NOT_SHOWN = ('save_prefix', 'model_dir', 'train_list', 'val_list', 'class_names', 'resume')


def load_run(directory):
    """run.json as a dict with 'name' and 'path'; one that is missing or broken is marked."""
    directory = Path(directory)
    try:
        run = json.loads((directory / 'run.json').read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        run = {'status': f'unreadable: {error}' if directory.is_dir() else 'missing'}
    return run | {'name': directory.name, 'path': directory, 'status': get_status(run)}


def get_status(run):
    """What run.json says, but 'killed' where the process is gone; another host is believed."""
    if run['status'] == 'running' and run['host'] != socket.gethostname():
        return f'running on {run["host"]}'
    try:
        if run['status'] == 'running':
            os.kill(run['pid'], 0)
    except ProcessLookupError:
        return 'killed'
    except PermissionError:
        pass  # somebody else's, but alive
    return run['status']


def load_runs(root):
    """Every run in a directory: what has a run.json or a checkpoint."""
    found = {path.parent for pattern in ('*/run.json', '*/*.pth') for path in root.glob(pattern)}
    return [load_run(directory) for directory in sorted(found)]


def find_run(root, name):
    """The run of that name, path or unambiguous beginning; exit code 2 when there is none."""
    exact = [path for path in (Path(name), root / name) if (path / 'run.json').exists()]
    found = exact[:1] or sorted(path.parent for path in root.glob(f'{name}*/run.json'))
    if len(found) != 1:
        names = ', '.join(path.name for path in found) or 'none'
        sys.exit(fail(f"'{name}' names {names} of the runs in {root}; `list` shows them"))
    return load_run(found[0])


def fail(message):
    """Prints one line; the exit code of a user's mistake."""
    print(f'error: {message}', file=sys.stderr)
    return 2


def list_runs(args):
    """A row a run."""
    rows = []
    for run in load_runs(args.dir):
        best = run.get('best', {})
        is_scored = best.get('epoch')
        score = f'{run["best_metric"]} {best["score"]:.4f} @{best["epoch"]}' if is_scored else ''
        changed = [(k, v) for k, v in run.get('changed', {}).items() if k not in NOT_SHOWN]
        row = {'run': run['name'], 'status': run['status']}
        row |= {'epochs': f'{run.get("epoch", "?")}/{run.get("epochs", "?")}', 'best': score}
        row |= {'date': run.get('start', '')[:16]}
        rows.append(row | {'options': ' '.join(f'{k}={format_value(v)}' for k, v in changed)})
    print_rows(rows, args)


def best_runs(args):
    """A row a group of runs: mean and standard deviation of their best epochs' scores."""
    groups = {}
    for run in load_runs(args.dir):
        score = run.get('best', {}).get('scores', {}).get(args.metric, math.nan)
        if not math.isnan(score):
            key = tuple(format_value(run['args'].get(name)) for name in args.group_by)
            groups.setdefault(key, []).append((score, run))
    if not groups:
        return fail(f"no run in {args.dir} has a validation score '{args.metric}'")
    rows = []
    for key, members in groups.items():
        scores = [score for score, _ in members]
        lower_is_better = args.metric in members[0][1].get('lower_is_better', ())
        best, run = sorted(members, key=lambda m: m[0], reverse=not lower_is_better)[0]
        unfinished = sum(run['status'] != 'finished' for _, run in members)
        rows.append(
            dict(zip(args.group_by, key, strict=True))
            | {'runs': len(scores), 'unfinished': unfinished or ''}
            | {'mean': f'{statistics.mean(scores):.4f}'}
            | {'std': f'{statistics.stdev(scores):.4f}' if len(scores) > 1 else ''}
            | {'best': f'{best:.4f}', 'run': run['name']}
        )
    rows.sort(key=lambda row: float(row['mean']), reverse=not lower_is_better)
    print_rows(rows, args)
    return 0


def diff_runs(args):
    """What differs between two runs, in four parts."""
    one, two = (find_run(args.dir, name) for name in (args.a, args.b))
    print_changes('options', one.get('args', {}), two.get('args', {}))
    print_changes('data', flatten(one.get('data', {})), flatten(two.get('data', {})))
    print_changes('versions', one.get('versions', {}), two.get('versions', {}))
    sources = [read_code(run['path'] / 'code') for run in (one, two)]
    names = sorted(sources[0].keys() | sources[1].keys())
    names = [name for name in names if sources[0].get(name) != sources[1].get(name)]
    print(f'code: {", ".join(names)}' if names else 'code: equal')
    for name in names:
        before, after = (source.get(name, '').splitlines() for source in sources)
        lines = difflib.unified_diff(before, after, f'a/{name}', f'b/{name}', lineterm='', n=1)
        print(*lines, sep='\n')


def show_run(args):
    """How a run was made, and how it ended."""
    run = find_run(args.dir, args.a)
    git = run.get('git')
    state = f'{git["commit"][:12]} on {git["branch"]}' if git else 'no git'
    dirty = ', with uncommitted changes' if git and git['is_dirty'] else ''
    best = run.get('best', {})
    facts = {
        'run': run['path'],
        'status': f'{run["status"]} {run.get("error", "")}'.strip(),
        'epochs': f'{run.get("epoch")} of {run.get("epochs")}',
        'best': ', '.join(
            f'{k} {v:.4f}' for k, v in best.get('scores', {}).items() if '/' not in k
        ),
        'time': f'{run.get("start")} to {run.get("end", "-")}',
        'command': run.get('command'),
        'directory': run.get('directory'),
        'code': f'{state}{dirty}; a copy in {run["path"] / "code"}',
        'host': f'{run.get("host")}: {", ".join(run.get("devices", []))}',
        'versions': ', '.join(f'{k} {v}' for k, v in run.get('versions', {}).items() if v),
        'parent': (run.get('parent') or {}).get('path', ''),
        'resumed': f'{len(run["earlier"])} times' if run.get('earlier') else '',
    }
    for split, data in run.get('data', {}).items():
        facts[split] = f'{data["list"]}, {data["samples"]} samples'
    for name, value in run.get('changed', {}).items():
        facts[f'--{name}'] = format_value(value)
    facts = {name: value for name, value in facts.items() if value}
    width = max(map(len, facts))
    print(*(f'{name:<{width}}  {value}' for name, value in facts.items()), sep='\n')


def print_command(args):
    """The command that makes a run again: that day's code and options, beside the old run."""
    run = find_run(args.dir, args.a)
    home = Path(run['directory'])  # its lists may be relative to that
    if not run['path'].resolve().is_relative_to(home):  # another place, or a copy of the project
        home = Path.cwd()
    path = os.path.relpath(run['path'], home)
    command = ['python', f'{path}/code/train.py', f'@{path}/args.txt']
    line = shlex.join([*command, '--model_dir', f'{path}_again'])
    print(line if home == Path.cwd() else f'cd {shlex.quote(str(home))} && {line}')


def read_code(directory):
    """{path: text} of a run's code/."""
    return {
        path.relative_to(directory).as_posix(): path.read_text(encoding='utf-8')
        for path in directory.rglob('*.py')
    }


def flatten(table):
    """{'train list': ...} of {'train': {'list': ...}}."""
    return {f'{a} {b}': value for a, row in table.items() for b, value in row.items()}


def print_changes(title, one, two):
    """The names whose values differ, a line each."""
    names = [name for name in one | two if one.get(name) != two.get(name)]
    print(f'{title}:' if names else f'{title}: equal')
    for name in names:
        print(f'  {name:<16}{format_value(one.get(name))} -> {format_value(two.get(name))}')


def format_value(value):
    """An option's value as it would be typed."""
    return ' '.join(map(str, value)) if isinstance(value, list) else str(value) or 'blank'


def print_rows(rows, args):
    """Rows, dicts with the same keys, as a text, CSV or Markdown table."""
    if not rows:
        print(f'no runs in {args.dir}')
        return
    table = [list(rows[0]), *([str(value) for value in row.values()] for row in rows)]
    if args.csv:
        csv.writer(sys.stdout, lineterminator='\n').writerows(table)
        return
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = [[v.ljust(w) for v, w in zip(row, widths, strict=True)] for row in table]
    if args.md:
        lines.insert(1, ['-' * width for width in widths])
        print(*(f'| {" | ".join(line)} |' for line in lines), sep='\n')
        return
    print(*('  '.join(line).rstrip() for line in lines), sep='\n')


def parse_args():
    """The command line; `args.run` is the function to call."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    root = Path(os.path.relpath(Path(__file__).resolve().parent.parent / 'checkpoints'))
    parser.add_argument('--dir', type=Path, default=root, help='where the runs are')
    commands = parser.add_subparsers(required=True, metavar='command')
    for name, run, runs in (
        ('list', list_runs, ''),
        ('best', best_runs, ''),
        ('diff', diff_runs, 'ab'),
        ('show', show_run, 'a'),
        ('cmd', print_command, 'a'),
    ):
        command = commands.add_parser(name, help=run.__doc__)
        command.set_defaults(run=run)
        for letter in runs:
            command.add_argument(letter, metavar=letter.upper(), help='a run: name or path')
        if not runs:
            command.add_argument('--csv', action='store_true', help='comma-separated')
            command.add_argument('--md', action='store_true', help='a Markdown table')
        if name == 'best':
            command.add_argument('--metric', default='miou', help='a validation score')
            command.add_argument('--group_by', nargs='+', default=['save_prefix'], help='options')
    return parser.parse_args()


if __name__ == '__main__':
    ARGS = parse_args()
    sys.exit(ARGS.run(ARGS))
