"""The losses by name. To add one, write a function and add it to LOSSES, at the end of this file.

Labels that are ignore_index or nan are left out everywhere. In float labels 255, the default of
--ignore_index, is a number like any other.
"""

import torch
import torch.nn.functional as F

from utils.errors import UserError, choose, one_line

STRIP = 2**25  # elements of a prediction that a loss works on at once: 128 MB as float32


def compute_loss(pred, batch, args):
    """{'loss': scalar to minimize, 'loss_<part>': scalars that are only plotted}, of the batch."""
    if args.class_weights and args.loss in UNWEIGHTED:
        raise UserError(f'--class_weights has no effect on --loss {args.loss}: leave it out')
    losses = choose(LOSSES, args.loss, '--loss', 'loss.py')(pred, batch, args)
    loss = losses.get('loss') if isinstance(losses, dict) else None
    if not torch.is_tensor(loss) or loss.ndim:
        expected = "expected {'loss': tensor without dimensions} from the function"
        raise UserError(f'--loss {args.loss}: {expected}, got {one_line(losses)[:80]}')
    names = {n: n if n.startswith('loss') else f'loss_{n}' for n in losses}  # apart from scores
    return {names[name]: torch.as_tensor(value) for name, value in losses.items()}


def ce(pred, batch, args):
    """Cross entropy of (N,C,...) logits and (N,...) class indices: mean over the valid pixels, or
    with --class_weights the weighted mean, as in torch.nn.functional.cross_entropy.
    """
    check_shapes(pred, batch['label'], 'ce')
    label, valid = batch['label'].long(), find_valid(batch['label'], args)
    weight = torch.tensor(args.class_weights, device=pred.device) if args.class_weights else None
    options = {'ignore_index': args.ignore_index, 'reduction': 'sum'}
    total = sum(F.cross_entropy(*strip, weight, **options) for strip in cut_strips(pred, label))
    if weight is not None:
        valid = valid * weight[label.clamp(0, args.num_classes - 1)]
    # If every pixel is ignored the loss is 0, not 0 / 0.
    return {'loss': total / valid.sum().clamp(min=1e-6)}


def dice(pred, batch, args):
    """One minus the soft Dice coefficient, mean over the classes that occur in the batch's labels.

    After Milletari et al., "V-Net", 2016, but without squares in the denominator.
    """
    check_shapes(pred, batch['label'], 'dice')
    overlap, sizes, counts, dims = 0, 0, 0, (0, *range(2, pred.ndim))
    for logits, label in cut_strips(pred, batch['label']):
        valid = find_valid(label, args).unsqueeze(1)  # (N,1,...)
        one_hot = F.one_hot(torch.where(valid[:, 0], label.long(), 0), args.num_classes)
        one_hot = one_hot.movedim(-1, 1) * valid  # (N,C,...)
        probs = logits.softmax(1) * valid
        overlap, counts = overlap + (probs * one_hot).sum(dims), counts + one_hot.sum(dims)
        sizes = sizes + probs.sum(dims) + one_hot.sum(dims)
    coefficient, occurs = 2 * overlap / sizes.clamp(min=1e-6), counts > 0
    return {'loss': ((1 - coefficient) * occurs).sum() / occurs.sum().clamp(min=1)}


def ce_dice(pred, batch, args):
    """The sum of ce and dice, which are plotted too."""
    parts = {'loss_ce': ce(pred, batch, args)['loss'], 'loss_dice': dice(pred, batch, args)['loss']}
    return {'loss': sum(parts.values()), **parts}


def bce(pred, batch, args):
    """Binary cross entropy of logits and labels 0 or 1: one logit (N,1,...) for labels (N,...), or
    several for labels of the same shape.
    """
    pred, label, valid = match(pred, batch, args)
    losses = F.binary_cross_entropy_with_logits(pred, label, reduction='none')
    return {'loss': average(losses, valid)}


def l1(pred, batch, args):
    """Mean absolute error."""
    pred, label, valid = match(pred, batch, args)
    return {'loss': average((pred - label).abs(), valid)}


def mse(pred, batch, args):
    """Mean squared error."""
    pred, label, valid = match(pred, batch, args)
    return {'loss': average((pred - label) ** 2, valid)}


def cut_strips(pred, label):
    """[(pred, label)] in strips of rows of at most STRIP elements: it limits the memory of what a
    loss computes on the way. What the backward pass needs is kept for all strips.
    """
    if pred.ndim != 4:
        return [(pred, label)]
    num_rows = max(1, STRIP // pred[:, :, 0].numel())
    return list(zip(pred.split(num_rows, 2), label.split(num_rows, 1), strict=True))


def find_valid(label, args):
    """(N,...) bool: where a label is neither ignore_index nor nan."""
    if not label.is_floating_point():
        return label != args.ignore_index
    return ~label.isnan() & ((label != args.ignore_index) | (args.ignore_index == 255))


def match(pred, batch, args):
    """(pred, label, valid) of one shape, float, float and bool; label is 0 where it is not valid.

    pred may be (N,1,...) for a label (N,...). UserError if the shapes differ otherwise.
    """
    label, valid = batch['label'], find_valid(batch['label'], args)
    if pred.ndim == label.ndim + 1 and pred.shape[1] == 1:
        pred = pred.squeeze(1)
    if pred.shape != label.shape:
        shapes = f'{tuple(pred.shape)}, got {tuple(label.shape)}'
        raise UserError(f'expected a label of the shape of pred {shapes}; see --loss and --metrics')
    return pred, torch.where(valid, label, 0).float(), valid


def average(losses, valid):
    """The mean over the valid places; 0 if there are none."""
    return (losses * valid).sum() / valid.sum().clamp(min=1)


def check_shapes(pred, label, loss):
    """UserError for one channel, whose softmax is always 1, or a label that is not (N,...)."""
    if pred.shape[1] == 1:
        advice = 'count the background (--num_classes 2), or use --loss bce for one logit'
        raise UserError(f'--loss {loss} with --num_classes 1 learns nothing: {advice}')
    if label.shape != (len(pred), *pred.shape[2:]):
        shapes = f'(N,...) for pred {tuple(pred.shape)}, got {tuple(label.shape)}'
        raise UserError(f'--loss {loss}: expected class indices {shapes}; see read_label')


LOSSES = {'ce': ce, 'dice': dice, 'ce_dice': ce_dice, 'bce': bce, 'l1': l1, 'mse': mse}
UNWEIGHTED = {'dice', 'bce', 'l1', 'mse'}  # these do not use --class_weights
REGRESSION = {'l1', 'mse'}  # with these the output is numbers, not logits: see predict.py
