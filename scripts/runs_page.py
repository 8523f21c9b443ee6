"""`runs.py html`: a page of all runs."""

import os
from collections import Counter

from run_records import load_runs
from run_tables import NOT_LISTED, format_value, group_runs, split_trials

from utils.files import read_rows
from utils.html_report import write_page


def write_runs_page(root, path):
    """Writes the page of the runs in `root`, with links relative to its own place."""
    runs, trials = split_trials(load_runs(root))
    names = {name for run in runs for name in run['args']} - set(NOT_LISTED)
    differing = sorted(n for n in names if len({format_value(r['args'].get(n)) for r in runs}) > 1)
    metrics = Counter(run['best_metric'] for run in runs if run['best_metric'])
    metric = metrics.most_common(1)[0][0] if metrics else ''
    data = {
        'title': f'Runs in {root}',
        'metric': metric,
        'options': differing,
        'runs': [describe_run(run, path) for run in runs],
        'trials': [describe_run(run, path) for run in trials],
        'groups': group_runs(runs, metric, ['save_prefix']),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_page(path, 'runs.html', data)


def describe_run(run, page):
    """What the page shows of a run."""
    directory, best = run['path'], run['best']
    return {
        'name': run['name'],
        'status': run['status'],
        'epochs': f'{run["epoch"]}/{run["epochs"]}',
        'best_metric': run['best_metric'],
        'best': best['score'] if best['epoch'] else None,
        'best_epoch': best['epoch'],
        'date': run['start'][:16],
        'list': run['args'].get('val_list', ''),
        'args': {name: format_value(value) for name, value in run['args'].items()},
        'link': link(directory, page),
        'reports': [link(report, page) for report in sorted(directory.glob('*/*/report.html'))],
        'curves': read_rows(directory / 'log.csv'),
    }


def link(path, page):
    """The path as a link of a page, relative to it."""
    return os.path.relpath(path, page.parent).replace(os.sep, '/')
