"""The metrics by name. To add one, write a function and add its line to METRICS.

A metric is a ratio of two sums, so that it can be added up over batches of any size: the function
returns {name: (sum, count)}, both scalars or both (C,), one number per class.
"""

import math
from functools import cached_property

import torch

from loss import match_label
from utils.errors import choose

# The scores that are better when lower; best.pth takes the highest of any other.
LOWER_IS_BETTER = ('loss', 'l1')


class Scored:
    """A prediction and its batch, with what several metrics share computed once."""

    def __init__(self, pred, batch, args):
        self.pred, self.batch, self.args = pred, batch, args

    @cached_property
    def confusion(self):
        """(C,C) int64 pixel counts, rows: label, columns: prediction; without ignored pixels."""
        num_classes, label = self.args.num_classes, self.batch['label'].int()
        # Ignored pixels go to a row of their own, cut off below: cheaper than selecting the others.
        row = torch.where(label == self.args.ignore_index, num_classes, label)
        column = self.pred.max(1).indices  # argmax(1) takes nine times as long on a CPU
        cell = (row * num_classes).add_(column).long().flatten()
        counts = torch.zeros((num_classes + 1) * num_classes, dtype=torch.long, device=cell.device)
        counts.scatter_add_(0, cell, torch.ones_like(cell))
        return counts.view(num_classes + 1, num_classes)[:-1]

    @property
    def class_counts(self):
        """Three (C,) pixel counts per class: true positives, labels, predictions."""
        return self.confusion.diagonal(), self.confusion.sum(1), self.confusion.sum(0)


def compute_metrics(pred, batch, args):
    """{name: (sum, count)} of every metric in --metrics."""
    scored, pairs = Scored(pred.detach(), batch, args), {}
    for name in args.metrics:
        pairs |= choose(METRICS, name, 'metrics', 'metrics.py')(scored)
    return pairs


def pixel_accuracy(scored):
    """The share of pixels with the right class."""
    hits, labels, _ = scored.class_counts
    return {'acc': (hits.sum(), labels.sum())}


def mean_iou(scored):
    """Each class's intersection over union."""
    hits, labels, predictions = scored.class_counts
    return {'iou': (hits, labels + predictions - hits)}


def mean_dice(scored):
    """Each class's Dice coefficient."""
    hits, labels, predictions = scored.class_counts
    return {'dice': (2 * hits, labels + predictions)}


def l1_error(scored):
    """Mean absolute error."""
    label = match_label(scored.pred, scored.batch['label'])
    return {'l1': ((scored.pred - label).abs().sum(), label.numel())}


def summarize(ratios, class_names):
    """{name: number} from {name: number, or a list with one number per class}.

    The list 'val/iou' becomes 'val/miou', the mean over the classes that occur, and one
    'val/iou/<class>' each.
    """
    scores = {}
    for name, ratio in ratios.items():
        if not isinstance(ratio, list):
            scores[name] = ratio
            continue
        prefix, slash, own = name.rpartition('/')
        occurring = [value for value in ratio if not math.isnan(value)]
        mean = sum(occurring) / len(occurring) if occurring else math.nan
        scores[f'{prefix}{slash}m{own}'] = mean
        scores |= {f'{name}/{c}': v for c, v in zip(class_names, ratio, strict=True)}
    return scores


METRICS = {'acc': pixel_accuracy, 'miou': mean_iou, 'mdice': mean_dice, 'l1': l1_error}
