"""The table of classes in result.txt and report.html."""

import math

import numpy as np

FROM_CONFUSION = ('share', 'iou', 'dice', 'precision', 'recall')


def make_class_rows(scores, confusion, names, ignore_index):
    """One dict per class, {'class': name, score: number}, and their mean; [] without such scores.

    `confusion` is (C,C) pixel or image counts, rows: label, columns: prediction, or None; it gives
    each class's share of the labels, IoU, Dice, precision and recall. Other scores of classes, such
    as those of a metric of yours, are taken from `scores`. nan: the class does not occur.
    """
    columns = {} if confusion is None else score_classes(confusion, ignore_index)
    kinds = dict.fromkeys(name.split('/')[0] for name in scores if '/' in name)
    for kind in kinds:
        if kind not in columns and all(f'{kind}/{name}' in scores for name in names):
            columns[kind] = [scores[f'{kind}/{name}'] for name in names]
    rows = [{'class': name} for name in names]
    for kind, values in columns.items():
        for row, value in zip(rows, values, strict=True):
            row[kind] = float(value)
    return [*rows, average(rows)] if columns else []


def score_classes(confusion, ignore_index):
    """{name: (C,) values} of (C,C) counts."""
    kept = np.where(np.arange(len(confusion)) == ignore_index, math.nan, 1.0)
    hits, labels, preds = confusion.diagonal(), confusion.sum(1) * kept, confusion.sum(0)
    with np.errstate(invalid='ignore', divide='ignore'):
        values = (
            confusion.sum(1) / confusion.sum(),
            hits / (labels + preds - hits),
            2 * hits / (labels + preds),
            hits * kept / preds,
            hits / labels,
        )
    return dict(zip(FROM_CONFUSION, values, strict=True))


def average(rows):
    """The mean row, over the classes that occur; its name says how many that are for each score."""
    mean, counts = {}, {}
    for kind in list(rows[0])[1:]:
        values = [row[kind] for row in rows if not math.isnan(row[kind])]
        counts[kind] = len(values)
        mean[kind] = sum(values) / len(values) if values else math.nan
    return {'class': 'mean'} | mean | {'classes': counts}


def format_table(rows):
    """The lines of the table, with the number of classes in each mean."""
    if not rows:
        return []
    kinds = [kind for kind in rows[0] if kind != 'class']
    width = max(len(row['class']) for row in [*rows, {'class': 'classes'}]) + 2
    lines = ['class'.ljust(width) + ''.join(f'{kind:>10}' for kind in kinds)]
    for row in rows:
        lines.append(row['class'].ljust(width) + ''.join(f'{row[kind]:10.4f}' for kind in kinds))
    counts = rows[-1]['classes']
    return [*lines, 'classes'.ljust(width) + ''.join(f'{counts[kind]:10}' for kind in kinds)]
