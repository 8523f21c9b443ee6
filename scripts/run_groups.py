"""Groups of runs: mean and standard deviation over seeds; see runs.py."""

import math
import statistics
import sys
from collections import Counter

from options import list_options

NOT_COMPARED = list_options('name', 'action')
TRIALS = ('fast_dev_run', 'overfit')


def group_runs(runs, metric, names):
    """Rows, best first: mean and standard deviation of the best epochs' scores, for every group of
    runs that share the options `names` and the validation list.

    Groups on another list than most runs come last and say so. Trials are in no group.
    """
    groups, runs = {}, [run for run in runs if not describe_trial(run)]
    usual, lower_is_better = find_list(runs, metric), is_lower(runs, metric)
    for run in runs:
        values = tuple(format_value(run['args'].get(name)) for name in names)
        groups.setdefault((get_list(run) != usual, get_list(run), values), []).append(run)
    rows = []
    for (is_other, _, values), members in groups.items():
        scores = {run['name']: get_score(run, metric) for run in members}
        known = {name: score for name, score in scores.items() if math.isfinite(score)}
        if known:
            notes = describe_group(members, len(members) - len(known))
            notes = ([describe_list(members[0])] if is_other else []) + notes
            row = dict(zip(names, values, strict=True)) | summarize_group(known, lower_is_better)
            rows.append((is_other, statistics.mean(known.values()), row, ', '.join(notes)))
    rows.sort(key=lambda row: (row[0], row[1] if lower_is_better else -row[1]))
    return [row | {'notes': notes} for _, _, row, notes in rows]


def summarize_group(scores, lower_is_better):
    """A row of how many scores there are, their mean and deviation, and whose is the best."""
    best, values = (min if lower_is_better else max)(scores, key=scores.get), scores.values()
    row = {'runs': len(scores), 'mean': f'{statistics.mean(values):.4f}'}
    row |= {'std': f'{statistics.stdev(values):.4f}' if len(values) > 1 else ''}
    return row | {'best': f'{scores[best]:.4f}', 'run': best}


def describe_group(runs, num_lacking):
    """What to know about a mean over these runs, of which num_lacking have no score."""
    unfinished = sum(run['status'] != 'finished' for run in runs)
    names = [name for name in runs[0]['args'] if name not in ('seed', *NOT_COMPARED)]
    differing = [n for n in names if any(r['args'].get(n) != runs[0]['args'][n] for r in runs)]
    notes = [f'{unfinished} unfinished'] * bool(unfinished)
    notes += [f'{num_lacking} without a score'] * bool(num_lacking)
    return notes + [f'several {name}' for name in differing]


def describe_trial(run):
    """The option that makes a run a trial, whose scores mean nothing: '--overfit'; else ''."""
    names = [name for name in TRIALS if run['args'].get(name)]
    return f'--{names[0]}' if names else ''


def note_trials(runs):
    """Says on stderr how many runs no group counts."""
    if num := sum(bool(describe_trial(run)) for run in runs):
        print(f'note: without {num} of --fast_dev_run or --overfit', file=sys.stderr)


def describe_list(run):
    """That a run was validated on another list than most: scores of two lists do not compare."""
    return f'on another list, {run["args"].get("val_list") or "unknown"}'


def get_list(run):
    """What identifies a run's validation list: its content, else its path."""
    data = run['data'].get('val') or {}
    return data.get('sha256') or run['args'].get('val_list') or ''


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


def format_value(value):
    """An option's value for people."""
    return ' '.join(map(str, value)) if isinstance(value, list) else str(value) or 'blank'
