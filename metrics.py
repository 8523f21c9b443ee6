"""The metrics by name. To add one, write a function and add it to METRICS, at the end of this file.

A metric returns {score: (sum, count)}. Both are added up over all batches and divided at the end,
so that a score does not depend on the batch size. They are scalars, or (C,) with one number per
class: of 'iou' the mean over the classes that occur is reported too, as 'miou'. A third value,
(sum, count, transform), is applied to the ratio, such as torch.sqrt for RMSE. Labels are left out
as in loss.py.
"""

import math
from functools import cached_property

import numpy as np
import torch

from loss import find_valid, match
from utils.classes import count_classes
from utils.errors import UserError, choose, one_line

# Of every score that was computed: whether 'higher' or 'lower' is better; its transform, if any.
DIRECTIONS, TRANSFORMS = {}, {}


class Scored:
    """What a metric gets: `pred` (N,C,...), `batch` and `args`, and what several metrics share,
    computed once.
    """

    def __init__(self, pred, batch, args):
        self.pred, self.batch, self.args = pred, batch, args

    @cached_property
    def confusion(self):
        """(C,C) int64 pixel counts, rows: label, columns: prediction; without ignored pixels.

        One logit (N,1,...) means two classes; class 1 is predicted where it is positive.
        """
        num_classes, label = count_classes(self.args), self.batch['label']
        if not holds_classes(self.pred, self.batch):
            expected = 'class indices (N,...) for pred (N,C,...)'
            got = f'{label.dtype} {tuple(label.shape)} for {tuple(self.pred.shape)}'
            raise UserError(f'acc, miou and mdice: expected {expected}, got {got}; see --metrics')
        # Ignored pixels are counted in an extra row, which is cut off: faster than masking them.
        row = torch.where(find_valid(label, self.args), label.int(), num_classes)
        # max(1).indices, because argmax(1) takes nine times as long on a CPU
        column = self.pred[:, 0] > 0 if self.pred.shape[1] == 1 else self.pred.max(1).indices
        cell = (row * num_classes).add_(column).long().flatten()
        counts = torch.zeros((num_classes + 1) * num_classes, dtype=torch.long, device=cell.device)
        counts.scatter_add_(0, cell, torch.ones_like(cell))
        return counts.view(num_classes + 1, num_classes)[:-1]

    @cached_property
    def class_counts(self):
        """Three (C,) pixel counts per class: true positives, labels, predictions. All are 0 for a
        class that --ignore_index names, so that no mean includes it.
        """
        counts = self.confusion.diagonal(), self.confusion.sum(1), self.confusion.sum(0)
        kept = torch.arange(len(counts[0]), device=counts[0].device) != self.args.ignore_index
        return [count * kept for count in counts]


def holds_classes(pred, batch):
    """Whether labels are class indices (N,...) for pred (N,C,...)."""
    label = batch['label']
    return not label.is_floating_point() and label.ndim == pred.ndim - 1


def compute_metrics(pred, batch, args):
    """{score: (sum, count)} of every metric in --metrics."""
    scored, pairs = Scored(pred.detach(), batch, args), {}
    for name in args.metrics:
        function, direction = choose(METRICS, name, '--metrics', 'metrics.py')
        if direction not in ('higher', 'lower'):
            raise UserError(f"metrics.py: {name}: expected 'higher' or 'lower', got {direction!r}")
        scores = function(scored)
        for score, (total, count, *transform) in check_scores(scores, name, args, pairs).items():
            DIRECTIONS[score], TRANSFORMS[score] = direction, transform
            pairs[score] = total, count
    return pairs


def check_scores(scores, name, args, others):
    """What a metric's function returned; UserError if it is not what the top of this file says, or
    if the name of a score is one of `others`, or of a loss.
    """
    pairs = list(scores.values()) if isinstance(scores, dict) else [None]
    are_pairs = all(isinstance(pair, tuple) and len(pair) > 1 for pair in pairs)
    numbers = [number for pair in pairs for number in pair[:2]] if are_pairs else []
    shapes = (), (count_classes(args),)
    names = scores if are_pairs else ()
    taken = [n for n in names if n in others or '/' in n or n.split('_')[0] == 'loss']
    if taken:
        expected = 'expected a name that no other metric uses, without /, and none of a loss'
        raise UserError(f"--metrics {name} returns the score '{taken[0]}': {expected}")
    if not are_pairs or any(np.shape(number) not in shapes for number in numbers):
        expected = f'expected {{score: (sum, count)}}, each a scalar or ({count_classes(args)},)'
        raise UserError(f'--metrics {name}: {expected}, got {one_line(scores)[:80]}')
    return scores


def is_lower_better(score):
    """Whether lower is better: what METRICS says of the score's metric; yes for any loss."""
    name = score.split('/')[0]
    default = 'lower' if name.startswith('loss') else 'higher'
    return DIRECTIONS.get(name, DIRECTIONS.get(name.removeprefix('m'), default)) == 'lower'


def pixel_accuracy(scored):
    """Accuracy: the share of pixels (or images) whose class is right."""
    hits, labels, _ = scored.class_counts
    return {'acc': (hits.sum(), labels.sum())}


def mean_iou(scored):
    """Intersection over union of each class; 'miou' is their mean."""
    hits, labels, predictions = scored.class_counts
    return {'iou': (hits, labels + predictions - hits)}


def mean_dice(scored):
    """Dice coefficient (F1) of each class; 'mdice' is their mean."""
    hits, labels, predictions = scored.class_counts
    return {'dice': (2 * hits, labels + predictions)}


def l1_error(scored):
    """Mean absolute error."""
    pred, label, valid = match(scored.pred, scored.batch, scored.args)
    return {'l1': (((pred - label).abs() * valid).sum(), valid.sum())}


def root_mean_squared_error(scored):
    """Square root of the mean squared error over all images."""
    pred, label, valid = match(scored.pred, scored.batch, scored.args)
    return {'rmse': (((pred - label) ** 2 * valid).sum(), valid.sum(), torch.sqrt)}


def summarize(ratios, class_names):
    """{score: number} of {score: ratio, or a list of one ratio per class}.

    The list 'val/iou' becomes 'val/miou', the mean over the classes that occur (not nan), and
    'val/iou/<class>' for each class.
    """
    scores = {}
    for name, ratio in ratios.items():
        prefix, slash, own = name.rpartition('/')
        for transform in TRANSFORMS.get(own, []):
            ratio = transform(torch.tensor(ratio, dtype=torch.float64))
            ratio = torch.as_tensor(ratio).tolist()  # math.sqrt returns a float
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
