"""The metrics by name. To add one, write a function and add its line to METRICS.

A metric is a ratio of two sums, so that it can be added up over batches of any size: the function
returns {score: (sum, count)}, both scalars or both (C,), one number per class; or (sum, count,
finish), where finish turns the ratio into the score, as a square root does for RMSE. Labels that
are ignore_index or nan count nowhere.
"""

import math
from functools import cached_property

import torch

from loss import find_valid, match
from utils.classes import count_classes
from utils.errors import UserError, choose

# Of every score that was computed: whether 'higher' or 'lower' is better, and its finish.
DIRECTIONS, FINISHES = {}, {}


class Scored:
    """A prediction and its batch, with what several metrics share computed once."""

    def __init__(self, pred, batch, args):
        self.pred, self.batch, self.args = pred, batch, args

    @cached_property
    def confusion(self):
        """(C,C) int64 pixel counts, rows: label, columns: prediction; without ignored pixels.

        One logit (N,1,...) means two classes: it is found where it is positive.
        """
        num_classes, label = count_classes(self.args), self.batch['label']
        if not holds_classes(self.pred, self.batch):
            expected = 'class indices (N,...) for pred (N,C,...)'
            got = f'{label.dtype} {tuple(label.shape)} for {tuple(self.pred.shape)}'
            raise UserError(f'acc, miou and mdice: expected {expected}, got {got}; see --metrics')
        # Ignored pixels go to a row of their own, cut off below: cheaper than selecting the others.
        row = torch.where(find_valid(label, self.args), label.int(), num_classes)
        # argmax(1) takes nine times as long on a CPU
        column = self.pred[:, 0] > 0 if self.pred.shape[1] == 1 else self.pred.max(1).indices
        cell = (row * num_classes).add_(column).long().flatten()
        counts = torch.zeros((num_classes + 1) * num_classes, dtype=torch.long, device=cell.device)
        counts.scatter_add_(0, cell, torch.ones_like(cell))
        return counts.view(num_classes + 1, num_classes)[:-1]

    @property
    def class_counts(self):
        """Three (C,) pixel counts per class: true positives, labels, predictions. All are 0 for a
        class that is ignored, which is so in no mean.
        """
        counts = self.confusion.diagonal(), self.confusion.sum(1), self.confusion.sum(0)
        kept = torch.arange(len(counts[0]), device=counts[0].device) != self.args.ignore_index
        return [count * kept for count in counts]


def holds_classes(pred, batch):
    """Whether a batch's labels are class indices (N,...) of pred (N,C,...)."""
    label = batch['label']
    return not label.is_floating_point() and label.ndim == pred.ndim - 1


def compute_metrics(pred, batch, args):
    """{score: (sum, count)} of every metric in --metrics."""
    scored, pairs = Scored(pred.detach(), batch, args), {}
    for name in args.metrics:
        function, direction = choose(METRICS, name, 'metrics', 'metrics.py')
        for score, (sum, count, *finish) in function(scored).items():
            DIRECTIONS[score], FINISHES[score] = direction, finish
            pairs[score] = sum, count
    return pairs


def is_lower_better(score):
    """Whether a score is better when lower: as its metric's line in METRICS says, and any loss."""
    name = score.split('/')[0]
    default = 'lower' if name.startswith('loss') else 'higher'
    return DIRECTIONS.get(name, DIRECTIONS.get(name.removeprefix('m'), default)) == 'lower'


def pixel_accuracy(scored):
    """The share of pixels, or of images, with the right class."""
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
    pred, label, valid = match(scored.pred, scored.batch, scored.args)
    return {'l1': (((pred - label).abs() * valid).sum(), valid.sum())}


def root_mean_squared_error(scored):
    """Root of the mean squared error."""
    pred, label, valid = match(scored.pred, scored.batch, scored.args)
    return {'rmse': (((pred - label) ** 2 * valid).sum(), valid.sum(), torch.sqrt)}


def summarize(ratios, class_names):
    """{name: number} from {name: number, or a list with one number per class}.

    The list 'val/iou' becomes 'val/miou', the mean over the classes that occur, and one
    'val/iou/<class>' each.
    """
    scores = {}
    for name, ratio in ratios.items():
        prefix, slash, own = name.rpartition('/')
        for finish in FINISHES.get(own, []):
            ratio = finish(torch.tensor(ratio, dtype=torch.float64)).tolist()
        if not isinstance(ratio, list):
            scores[name] = ratio
            continue
        occurring = [value for value in ratio if not math.isnan(value)]
        mean = sum(occurring) / len(occurring) if occurring else math.nan
        scores[f'{prefix}{slash}m{own}'] = mean
        scores |= {f'{name}/{c}': v for c, v in zip(class_names, ratio, strict=True)}
    return scores


METRICS = {
    'acc': (pixel_accuracy, 'higher'),
    'miou': (mean_iou, 'higher'),
    'mdice': (mean_dice, 'higher'),
    'l1': (l1_error, 'lower'),
    'rmse': (root_mean_squared_error, 'lower'),
}
