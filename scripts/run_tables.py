"""Groups of runs, and what tables of runs show; see runs.py."""

import math
import statistics
import sys

from run_records import PROJECT

sys.path.insert(0, str(PROJECT))
from options import list_options

NOT_COMPARED = list_options('name', 'action')
NOT_LISTED = NOT_COMPARED + list_options('file')  # too long for a table


def split_trials(runs):
    """(runs, trials): those of --fast_dev_run and --overfit are no results."""
    is_trial = [bool(r['args'].get('fast_dev_run') or r['args'].get('overfit')) for r in runs]
    pairs = list(zip(runs, is_trial, strict=True))
    return [run for run, trial in pairs if not trial], [run for run, trial in pairs if trial]


def group_runs(runs, metric, group_by):
    """One row per group of runs with equal options `group_by`, the best first: mean and standard
    deviation of their best epochs' scores. Runs on several validation lists are groups of their
    own.
    """
    lists = {run['args'].get('val_list') for run in runs if run['args']}
    names = [*group_by, *(['val_list'] if len(lists) > 1 and 'val_list' not in group_by else [])]
    groups, rows = {}, []
    for run in runs:
        key = tuple(format_value(run['args'].get(name)) for name in names)
        groups.setdefault(key, []).append(run)
    lower_is_better = any(metric in run['lower_is_better'] for run in runs)
    for key, members in groups.items():
        scores = {run['name']: run['best']['scores'].get(metric, math.nan) for run in members}
        known = {name: score for name, score in scores.items() if math.isfinite(score)}
        if known:
            best = (min if lower_is_better else max)(known, key=known.get)
            row = dict(zip(names, key, strict=True)) | {'runs': len(known)}
            row |= {'mean': f'{statistics.mean(known.values()):.4f}'}
            row |= {'std': f'{statistics.stdev(known.values()):.4f}' if len(known) > 1 else ''}
            row |= {'best': f'{known[best]:.4f}', 'run': best}
            rows.append(row | {'notes': describe_group(members, len(members) - len(known))})
    return sorted(rows, key=lambda row: float(row['mean']), reverse=not lower_is_better)


def describe_group(runs, num_lacking):
    """What to know about a mean over these runs, of which num_lacking have no score."""
    unfinished = sum(run['status'] != 'finished' for run in runs)
    names = [name for name in runs[0]['args'] if name not in ('seed', *NOT_COMPARED)]
    differing = [n for n in names if any(r['args'].get(n) != runs[0]['args'][n] for r in runs)]
    notes = [f'{unfinished} unfinished'] * bool(unfinished)
    notes += [f'{num_lacking} without a score'] * bool(num_lacking)
    return ', '.join(notes + [f'several {name}' for name in differing])


def format_value(value):
    """An option's value for people."""
    return ' '.join(map(str, value)) if isinstance(value, list) else str(value) or 'blank'
