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

from run_groups import NOT_COMPARED, describe_trial, group_runs, write_runs_page
from run_records import PROJECT, find_run, load_runs

from options import list_options, parse_train_args
from utils.arg_parser import Parser, format_value
from utils.errors import UserError, one_line_errors

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
    if num_trials := sum(bool(describe_trial(run)) for run in runs):
        print(f'note: without {num_trials} of --fast_dev_run or --overfit', file=sys.stderr)
    unknown = [name for name in args.group_by if not any(name in run['args'] for run in runs)]
    if not rows or unknown:
        lacking = f"option '{unknown[0]}'" if rows else f"validation score '{args.metric}'"
        raise UserError(f'no run in {args.dir} has the {lacking}')
    print_rows(rows, args)


def diff_runs(args):
    """What differs between two runs."""
    one, two = runs = [find_run(args.dir, name) for name in args.runs]
    for run in runs:
        if run['status'].startswith('unreadable'):
            print(f'note: the run.json of {run["name"]} is {run["status"]}', file=sys.stderr)
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
    run = find_run(args.dir, args.runs[0])
    git, code = run['git'], run['path'] / 'code'
    state = f'{git["commit"][:12]} {git["branch"]}' if git['commit'] else 'without git'
    state += ' with uncommitted changes' if git['is_dirty'] else ''
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
        'parent': run['parent']['path'],
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
    run = find_run(args.dir, args.runs[0])
    if not (run['path'] / 'args.txt').exists():
        raise UserError(f'{run["path"]} has no args.txt: name a run directory')
    home, own = Path(run['directory'] or PROJECT), run['path'].resolve()
    is_copy = own.is_relative_to(PROJECT) and not own.is_relative_to(home)
    home = PROJECT if is_copy or not home.is_dir() else home  # its lists may be relative to that
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


def main():
    """Runs the command that the command line names."""
    commands = {'list': list_runs, 'best': best_runs, 'html': write_runs_page}
    commands |= {'diff': diff_runs, 'show': show_run, 'cmd': print_command}
    parser = Parser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add, root = parser.add_argument, Path(os.path.relpath(PROJECT / 'checkpoints'))
    add('command', choices=commands)
    add('runs', nargs='*', metavar='RUN', help='of diff, show, cmd: name or path; or X.pth')
    add('--dir', type=Path, default=root, help='where the runs are')
    add('--csv', action='store_true', help='list, best: comma-separated')
    add('--md', action='store_true', help='list, best: a Markdown table')
    add('--metric', default='miou', help='best: a validation score')
    add('--group_by', nargs='+', default=['save_prefix'], help='best, html: options')
    add('--output', type=Path, help='html: the page (default: DIR/runs.html)')
    args = parser.parse_args()
    num_runs = {'diff': 2, 'show': 1, 'cmd': 1}.get(args.command, 0)
    if len(args.runs) != num_runs:
        parser.error(f'{args.command}: expected {num_runs} runs, got {len(args.runs)}')
    commands[args.command](args)


if __name__ == '__main__':
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `list | head` ends quietly
    with one_line_errors():
        main()
