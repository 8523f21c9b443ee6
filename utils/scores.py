"""Scores, {name: number}, for people: a line of them, and the table of classes."""

import numpy as np


def get_headline(scores, prefix=''):
    """The scores that begin with prefix, named without it; not those of a class, as iou/road."""
    own = {k.removeprefix(prefix): v for k, v in scores.items() if k.startswith(prefix)}
    return {name: value for name, value in own.items() if '/' not in name}


def format_scores(scores, prefix=''):
    """'loss 0.4312 | miou 0.7312 | acc 0.9120': the headline."""
    texts = []
    for name, value in get_headline(scores, prefix).items():
        classes = [v for k, v in scores.items() if k.startswith(f'{prefix}{name[1:]}/')]
        num_seen = sum(v == v for v in classes)  # a class that never occurs is nan
        note = f' ({num_seen} of {len(classes)} classes)' if num_seen < len(classes) else ''
        texts.append(f'{name} {value:.4f}{note}')
    return ' | '.join(texts)


def score_classes(scores, confusion, names, ignore_index):
    """{kind: (C,) array} of the scores that each class has; nan: the class does not occur.

    `confusion` is (C,C) pixel or image counts, rows: label, columns: prediction, or None; it gives
    each class's share of the labels, IoU, Dice, precision and recall. Other scores of classes, such
    as those of a metric of yours, are taken from `scores`.
    """
    columns = {}
    if confusion is not None:
        kept = np.where(np.arange(len(confusion)) == ignore_index, np.nan, 1.0)
        hits, labels, preds = confusion.diagonal(), confusion.sum(1) * kept, confusion.sum(0)
        with np.errstate(invalid='ignore', divide='ignore'):
            columns = {
                'share': confusion.sum(1) / confusion.sum(),
                'iou': hits / (labels + preds - hits),
                'dice': 2 * hits / (labels + preds),
                'precision': hits * kept / preds,
                'recall': hits / labels,
            }
    for kind in dict.fromkeys(name.split('/')[0] for name in scores if '/' in name):
        own = [scores.get(f'{kind}/{name}', np.nan) for name in names]
        columns[kind] = np.array(own)
    return columns


def format_table(names, columns):
    """The lines of the table, with the mean over the classes that occur and how many those are."""
    known = [values[~np.isnan(values)] for values in columns.values()]
    rows = [('class', list(columns))]
    rows += [(n, [f'{v[i]:.4f}' for v in columns.values()]) for i, n in enumerate(names)]
    rows.append(('mean', [f'{values.mean() if len(values) else np.nan:.4f}' for values in known]))
    rows.append(('classes', [str(len(values)) for values in known]))
    width = max(len(name) for name, _ in rows) + 2
    return [name.ljust(width) + ''.join(f'{cell:>10}' for cell in cells) for name, cells in rows]
