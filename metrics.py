"""The metrics by name. To add one, write a function and add its line to METRICS.

A metric is a ratio of two sums, so that it can be added up over batches of any size: the function
returns {name: (sum, count)}, both scalars or both (C,), one number a class.
"""

import math
from functools import cached_property

import torch

from loss import match_label
from utils.errors import choose

# Scores of which less is better, for best.pth; all others are better when higher.
LOWER_IS_BETTER = ('loss', 'l1')


class Scored:
    """A prediction beside its batch, with what several metrics share, computed once."""

    def __init__(self, pred, batch, args):
        self.pred, self.batch, self.args = pred, batch, args

    @cached_property
    def confusion(self):
        """(C,C) int64 pixel counts, row: label, column: prediction; ignored pixels left out."""
        num_classes, label = self.args.num_classes, self.batch['label'].int()
        # Ignored pixels go to a row of their own, cut off below: cheaper than picking pixels out.
        row = torch.where(label == self.args.ignore_index, num_classes, label)
        column = self.pred.max(1).indices  # argmax(1) takes nine times as long on a CPU
        cell = (row * num_classes).add_(column).long().flatten()
        counts = torch.zeros((num_classes + 1) * num_classes, dtype=torch.long, device=cell.device)
        counts.scatter_add_(0, cell, torch.ones_like(cell))
        return counts.view(num_classes + 1, num_classes)[:-1]

    @property
    def class_counts(self):
        """Three (C,): pixels that are the class and found, that are the class, that are found."""
        return self.confusion.diagonal(), self.confusion.sum(1), self.confusion.sum(0)


def compute_metrics(pred, batch, args):
    """{name: (sum, count)} of every metric in --metrics."""
    scored, pairs = Scored(pred.detach(), batch, args), {}
    for name in args.metrics:
        pairs |= choose(METRICS, name, 'metrics', 'metrics.py')(scored)
    return pairs


def pixel_accuracy(scored):
    """The share of pixels whose class was found."""
    found, is_class, _ = scored.class_counts
    return {'acc': (found.sum(), is_class.sum())}


def mean_iou(scored):
    """Each class's intersection over union."""
    found, is_class, predicted = scored.class_counts
    return {'iou': (found, is_class + predicted - found)}


def mean_dice(scored):
    """Each class's Dice coefficient."""
    found, is_class, predicted = scored.class_counts
    return {'dice': (2 * found, is_class + predicted)}


def l1_error(scored):
    """Mean absolute error."""
    label = match_label(scored.pred, scored.batch['label'])
    return {'l1': ((scored.pred - label).abs().sum(), label.numel())}


def summarize(ratios, class_names):
    """{name: number} from {name: number or one number a class}.

    `iou` a class becomes `miou`, the mean over the classes that were seen, and `iou/<class>`.
    """
    scores = {}
    for name, ratio in ratios.items():
        if not isinstance(ratio, list):
            scores[name] = ratio
            continue
        seen = [value for value in ratio if not math.isnan(value)]
        scores[f'm{name}'] = sum(seen) / len(seen) if seen else math.nan
        scores |= {f'{name}/{c}': v for c, v in zip(class_names, ratio, strict=True)}
    return scores


METRICS = {'acc': pixel_accuracy, 'miou': mean_iou, 'mdice': mean_dice, 'l1': l1_error}
