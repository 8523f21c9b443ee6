"""Groups of runs, with means over seeds, and the page of all runs; see runs.py."""

import math
import os
import statistics
from collections import Counter
from pathlib import Path

from run_records import load_runs

from options import list_options
from utils.arg_parser import format_value
from utils.errors import UserError, plural
from utils.html_report import quote_path, read_log, write_page

NOT_COMPARED = list_options('name', 'action')
TRIALS = ('fast_dev_run', 'overfit')


def group_runs(runs, metric, names):
    """Rows, best first: mean and standard deviation of the best epochs' scores, for every group of
    runs that share the options `names` and the validation list.

    Groups on another list than most runs come last and say so. Trials are in no group.
    """
    groups, rows, runs = {}, [], [run for run in runs if not describe_trial(run)]
    usual, sign = find_list(runs, metric), 1 if is_lower(runs, metric) else -1
    for run in runs:
        values = [format_value(run['args'].get(name)) for name in names]
        groups.setdefault((get_list(run), *values), []).append(run)
    for (val_list, *values), members in groups.items():
        scored = [run for run in members if math.isfinite(get_score(run, metric))]
        if not scored:
            continue
        scored.sort(key=lambda run: sign * get_score(run, metric))
        scores = [get_score(run, metric) for run in scored]
        mean, notes = statistics.mean(scores), list_notes(members, scored, usual)
        row = dict(zip(names, values, strict=True)) | {'runs': len(scores), 'mean': f'{mean:.4f}'}
        row['std'] = f'{statistics.stdev(scores):.4f}' if len(scores) > 1 else ''
        row |= {'best': f'{scores[0]:.4f}', 'run': scored[0]['name'], 'notes': ', '.join(notes)}
        rows.append((val_list != usual, sign * mean, row))
    return [row for *_, row in sorted(rows, key=lambda row: row[:2])]


def list_notes(runs, scored, usual):
    """What to know about a mean over these runs, of which only those `scored` have a score."""
    unfinished = sum(run['status'] != 'finished' for run in runs)
    notes = {describe_list(runs[0]): get_list(runs[0]) != usual}
    notes |= {f'{unfinished} unfinished': unfinished}
    notes |= {f'{len(runs) - len(scored)} without a score': len(scored) < len(runs)}
    options = {}  # {name: its values}, where a run has it: older runs lack newer options
    for run in runs:
        for name, value in run['args'].items():
            options.setdefault(name, set()).add(format_value(value))
    compared = options.keys() - {'seed', *NOT_COMPARED}
    notes |= {f'several {name}': len(options[name]) > 1 for name in sorted(compared)}
    return [note for note, holds in notes.items() if holds]


def describe_trial(run):
    """The option that makes a run a trial, whose scores mean nothing: '--overfit'; else ''."""
    return next((f'--{name}' for name in TRIALS if run['args'].get(name)), '')


def describe_list(run):
    """That a run was validated on another list than most: scores of two lists do not compare."""
    return f'on another list, {run["args"].get("val_list") or "unknown"}'


def get_list(run):
    """What identifies a run's validation list: its content, else its path."""
    return run['data'].get('val', {}).get('sha256') or str(run['args'].get('val_list') or '')


def find_list(runs, metric):
    """The validation list that most of the runs with this score have."""
    lists = Counter(get_list(run) for run in runs if math.isfinite(get_score(run, metric)))
    return lists.most_common(1)[0][0] if lists else ''


def get_score(run, metric):
    """The score of a run's best epoch; nan without one."""
    return run['best']['scores'].get(metric, math.nan)


def is_lower(runs, metric):
    """Whether less of a score is better."""
    names = {name for run in runs for name in run['lower_is_better']}
    return metric.startswith('loss') or bool(names & {metric, metric.removeprefix('m')})


def write_runs_page(args):
    """A page of all runs: sorted, filtered, their curves in one chart, means over seeds."""
    runs = load_runs(args.dir)
    output = args.output or args.dir / 'runs.html'
    names = dict.fromkeys(name for run in runs for name in run['best']['scores'])
    favorites = Counter(run['best_metric'] for run in runs)
    # Without those of a class; what most runs are best in comes first.
    metrics = sorted((n for n in names if '/' not in n), key=lambda name: -favorites[name])
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
        raise UserError(f'{output}: {error.strerror}') from error
    print(f'{plural(len(runs), "run")} in {output}')


def describe_run(run, home, usual):
    """A run for the page, which lies in the directory `home`."""
    path, best, notes = run['path'], run['best'], describe_trial(run)
    if best['scores'] and get_list(run) != usual:
        notes = notes or describe_list(run)
    hidden = (*NOT_COMPARED, *TRIALS)  # the notes name trials
    reports = sorted(p for p in path.glob('*/*/report.html') if p.parts[-3] != 'code')
    return {
        'name': run['name'],
        'link': link_to(path, home),
        'reports': [[f'{p.parts[-3]}/{p.parts[-2]}', link_to(p, home)] for p in reports],
        'status': run['status'],
        'error': run['error'],
        'epoch': run['epoch'],
        'epochs': f'{run["epoch"]}/{run["epochs"]}',
        'best_epoch': best['epoch'] or None,
        'scores': {k: v for k, v in best['scores'].items() if '/' not in k and math.isfinite(v)},
        'date': run['start'][:16],
        'options': {k: format_value(v) for k, v in run['args'].items() if k not in hidden},
        'notes': notes,
        'curves': read_log(path / 'log.csv'),
    }


def link_to(path, home):
    """A file's or directory's address from the page."""
    return quote_path(os.path.relpath(path, home))
