"""One page of all runs; see runs.py."""

import csv
import math
import os
from collections import Counter
from pathlib import Path

from run_groups import (
    NOT_COMPARED,
    TRIALS,
    describe_list,
    describe_trial,
    find_list,
    format_value,
    get_list,
    group_runs,
    is_lower,
)
from run_records import die, load_runs

from utils.files import read_rows
from utils.html_report import quote_path, read_curves, write_page


def write_runs_page(args):
    """A page of all runs: sorted, filtered, their curves in one chart, means over seeds."""
    runs = load_runs(args.dir)
    output = args.output or args.dir / 'runs.html'
    names = dict.fromkeys(name for run in runs for name in run['best']['scores'])
    metrics = [name for name in names if '/' not in name]  # not those of a class
    favorites = Counter(run['best_metric'] for run in runs if run['best_metric'] in metrics)
    metrics.sort(key=lambda name: -favorites[name])
    usual = find_list([run for run in runs if not describe_trial(run)], (metrics or [''])[0])
    data = {
        'title': f'Runs in {args.dir}',
        'runs': [describe_run(run, output.parent, usual) for run in runs],
        'metrics': metrics,
        'lower_is_better': [name for name in metrics if is_lower(runs, name)],
        'group_by': args.group_by,
        'groups': {name: group_runs(runs, name, args.group_by) for name in metrics},
    }
    try:
        write_page(output, Path(__file__).with_name('runs.html'), data)
    except OSError as error:
        die(f'{output}: {error.strerror}')
    print(f'{len(runs)} runs in {output}')


def describe_run(run, home, usual):
    """A run for the page, which lies in the directory `home`."""
    path, scores = run['path'], run['best']['scores']
    hidden = (*NOT_COMPARED, *TRIALS)  # the notes name trials
    options = {k: format_value(v) for k, v in run['args'].items() if k not in hidden}
    trial, is_other = describe_trial(run), bool(scores) and get_list(run) != usual
    notes = [trial] * bool(trial) + [describe_list(run)] * (is_other and not trial)
    reports = sorted(p for p in path.glob('*/*/report.html') if p.parts[-3] != 'code')
    return {
        'name': run['name'],
        'link': link_to(path, home),
        'reports': [[f'{p.parts[-3]}/{p.parts[-2]}', link_to(p, home)] for p in reports],
        'status': run['status'],
        'error': run['error'],
        'epoch': run['epoch'] if isinstance(run['epoch'], int) else None,
        'epochs': f'{run["epoch"]}/{run["epochs"]}',
        'best_epoch': run['best']['epoch'] or None,
        'scores': {k: v for k, v in scores.items() if '/' not in k and math.isfinite(v)},
        'date': run['start'][:16],
        'options': options,
        'notes': ', '.join(notes),
        'curves': read_log(path / 'log.csv'),
    }


def link_to(path, home):
    """A file's or directory's address from the page."""
    return quote_path(os.path.relpath(path, home))


def read_log(path):
    """The curves of a log.csv; {} if it cannot be read."""
    try:
        return read_curves(read_rows(path))
    except (OSError, ValueError, csv.Error):
        return {}
