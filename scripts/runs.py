"""Lists, compares and explains the runs in checkpoints/. Needs only Python; torch too for an X.pth.

python scripts/runs.py list                  every run: status, epochs, best score, date, options
python scripts/runs.py diff A B              what differs: options, code, data, versions
python scripts/runs.py show A                how a run, or a checkpoint A.pth, was made
python scripts/runs.py cmd A                 the command that reproduces it
python scripts/runs.py best --metric miou --group_by save_prefix     mean and standard deviation
python scripts/runs.py html                  one page of all runs, with their curves: runs.html
"""

import argparse
import csv
import difflib
import os
import shlex
import signal
import sys
from pathlib import Path

from run_records import PROJECT, die, find_run, load_runs

sys.path.insert(0, str(PROJECT))
from run_groups import NOT_COMPARED, format_value, group_runs, note_trials
from runs_page import write_runs_page

from options import list_options, parse_train_args
from utils.arg_parser import Parser

NOT_LISTED = NOT_COMPARED + list_options('file')  # too long for a table


def list_runs(args):
    """One row per run."""
    rows = []
    for run in load_runs(args.dir):
        best = run['best']
        score = f'{run["best_metric"]} {best["score"]:.4f} @{best["epoch"]}'
        changed = parse_train_args(Parser()).get_changed(run['args']).items()
        row = {'run': run['name'], 'status': run['status']}
        row |= {'epochs': f'{run["epoch"]}/{run["epochs"]}', 'best': score if best['epoch'] else ''}
        options = ' '.join(f'{k}={format_value(v)}' for k, v in changed if k not in NOT_LISTED)
        rows.append(row | {'date': run['start'][:16], 'options': options})
    print_rows(rows, args)


def best_runs(args):
    """One row per group of runs: mean and standard deviation of their best epochs' scores."""
    runs = load_runs(args.dir)
    rows = group_runs(runs, args.metric, args.group_by)
    unknown = [name for name in args.group_by if not any(name in run['args'] for run in runs)]
    note_trials(runs)
    if not rows or unknown:
        lacking = f"option '{unknown[0]}'" if rows else f"validation score '{args.metric}'"
        die(f'no run in {args.dir} has the {lacking}')
    print_rows(rows, args)


def diff_runs(args):
    """What differs between two runs."""
    one, two = runs = [find_run(args.dir, name) for name in (args.a, args.b)]
    print_changes('options', one['args'], two['args'])
    for split in one['data'] | two['data']:
        print_changes(f'{split} data', *(run['data'].get(split, {}) for run in runs))
    print_changes('versions', one['versions'], two['versions'])
    before, after = map(read_code, runs)
    if not before or not after:
        print(f'code: {(two if before else one)["name"]} has no copy of it')
        return
    names = [n for n in sorted(before | after) if before.get(n) != after.get(n)]
    print(f'code: {", ".join(names)}' if names else 'code: equal')
    for name in names:
        texts = (code.get(name, '').splitlines() for code in (before, after))
        lines = difflib.unified_diff(*texts, f'a/{name}', f'b/{name}', lineterm='', n=1)
        print(*lines, sep='\n')


def show_run(args):
    """How a run was made, and how it ended."""
    run = find_run(args.dir, args.a)
    git = run['git'] or {'commit': 'without git', 'branch': '', 'is_dirty': False}
    state = f'{git["commit"][:12]} {git["branch"]}{" with uncommitted changes" * git["is_dirty"]}'
    code = run['path'] / 'code'
    facts = {
        'status': f'{run["status"]} {run["error"]}'.strip(),
        'epochs': f'{run["epoch"]} of {run["epochs"]}',
        'best': ', '.join(f'{k} {v:.4f}' for k, v in run['best']['scores'].items()),
        'time': f'{run["start"]} to {run["end"] or "-"}',
        'command': run['command'],
        'directory': run['directory'],
        'code': f'{state}; a copy in {code}' if code.is_dir() else state,
        'host': f'{run["host"]}: {", ".join(run["devices"])}',
        'versions': ', '.join(f'{k} {v}' for k, v in run['versions'].items() if v),
        'parent': (run['parent'] or {}).get('path', ''),
    }
    for earlier in run['earlier']:
        facts[f'after epoch {earlier["until_epoch"]}'] = '; '.join(earlier['changes'])
    facts |= {k: f'{data["list"]}, {data["samples"]} samples' for k, data in run['data'].items()}
    changed = parse_train_args(Parser()).get_changed(run['args'])
    facts |= {f'--{name}': format_value(value) for name, value in changed.items()}
    facts = {name: value for name, value in facts.items() if value}
    width = max(map(len, facts))
    print(*(f'{name:<{width}}  {value}' for name, value in facts.items()), sep='\n')


def print_command(args):
    """The command that reproduces a run: its own code and options, in a new directory beside it."""
    run = find_run(args.dir, args.a)
    if not (run['path'] / 'args.txt').exists():
        die(f'{run["path"]} has no args.txt: name a run directory')
    home = Path(run['directory'])  # its lists may be relative to that
    home = home if run['path'].resolve().is_relative_to(home) else PROJECT
    path = os.path.relpath(run['path'], home)
    for earlier in run['earlier']:
        print(f'note: resumed after epoch {earlier["until_epoch"]}; see `show`', file=sys.stderr)
    command = ['python', f'{path}/code/train.py', f'@{path}/args.txt']
    line = shlex.join([*command, '--model_dir', f'{path}_again'])
    print(line if home == Path.cwd() else f'cd {shlex.quote(str(home))} && {line}')


def read_code(run):
    """{path: text} of the code in a run's code/, or in a checkpoint."""
    directory = run['path'] / 'code'
    files = [p for p in directory.rglob('*') if p.is_file() and p.suffix != '.pyc']
    return run.get('sources') or {
        str(p.relative_to(directory)): p.read_text('utf-8', 'replace') for p in files
    }


def print_changes(title, one, two):
    """The names whose values differ, one line each."""
    names = [name for name in one | two if one.get(name) != two.get(name)]
    print(f'{title}:' if names else f'{title}: equal')
    for name in names:
        print(f'  {name:<16}{format_value(one.get(name))} -> {format_value(two.get(name))}')


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
    start, gap, end = ('| ', ' | ', ' |') if args.md else ('', '  ', '')
    print(*(f'{start}{gap.join(line)}{end}'.rstrip() for line in lines), sep='\n')


def parse_args():
    """The command line; `args.run` is the function to call."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    root = Path(os.path.relpath(PROJECT / 'checkpoints'))
    commands = parser.add_subparsers(required=True, metavar='command')
    tables = ('list', list_runs, ''), ('best', best_runs, ''), ('html', write_runs_page, '')
    others = ('diff', diff_runs, 'ab'), ('show', show_run, 'a'), ('cmd', print_command, 'a')
    for name, run, runs in tables + others:
        command = commands.add_parser(name, help=run.__doc__)
        command.set_defaults(run=run)
        command.add_argument('--dir', type=Path, default=root, help='where the runs are')
        for letter in runs:
            command.add_argument(
                letter, metavar=letter.upper(), help='a run: name or path; or X.pth'
            )
        if name in ('list', 'best'):
            command.add_argument('--csv', action='store_true', help='comma-separated')
            command.add_argument('--md', action='store_true', help='a Markdown table')
        if name == 'best':
            command.add_argument('--metric', default='miou', help='a validation score')
        if name == 'html':
            command.add_argument('--output', type=Path, help='the page (default: DIR/runs.html)')
        if name in ('best', 'html'):
            command.add_argument('--group_by', nargs='+', default=['save_prefix'], help='options')
    return parser.parse_args()


if __name__ == '__main__':
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `list | head` ends quietly
    ARGS = parse_args()
    ARGS.run(ARGS)
