"""The losses by name. To add one, write a function and add its line to LOSSES."""

import torch
import torch.nn.functional as F

from utils.errors import UserError, choose


def compute_loss(pred, batch, args):
    """{'loss': scalar to minimize, and its parts by name}, means over the batch."""
    return choose(LOSSES, args.loss, 'loss', 'loss.py')(pred, batch['label'], args)


def ce(pred, label, args):
    """Cross entropy of (N,C,...) logits and (N,...) classes, mean over the valid pixels."""
    weight = torch.tensor(args.class_weights, device=pred.device) if args.class_weights else None
    label = label.long()
    total = F.cross_entropy(pred, label, weight, ignore_index=args.ignore_index, reduction='sum')
    valid = label != args.ignore_index
    if weight is not None:
        valid = valid * weight[label.clamp(0, args.num_classes - 1)]
    # If every pixel is ignored the loss is 0, not 0 / 0.
    return {'loss': total / valid.sum().clamp(min=1e-6)}


def dice(pred, label, args):
    """One minus the soft Dice coefficient, mean over the classes that occur in the batch.

    Source: Milletari et al., "V-Net", 2016.
    """
    valid = (label != args.ignore_index).unsqueeze(1)  # (N,1,...)
    one_hot = F.one_hot(torch.where(valid[:, 0], label.long(), 0), args.num_classes)
    one_hot = one_hot.movedim(-1, 1) * valid  # (N,C,...)
    probs = pred.softmax(1) * valid
    dims = (0, *range(2, pred.ndim))
    overlap, sizes = (probs * one_hot).sum(dims), probs.sum(dims) + one_hot.sum(dims)
    occurs = one_hot.sum(dims) > 0
    coefficient = 2 * overlap / sizes.clamp(min=1e-6)
    return {'loss': ((1 - coefficient) * occurs).sum() / occurs.sum().clamp(min=1)}


def ce_dice(pred, label, args):
    """The sum of ce and dice, which are plotted too."""
    parts = {'loss_ce': ce(pred, label, args)['loss'], 'loss_dice': dice(pred, label, args)['loss']}
    return {'loss': sum(parts.values()), **parts}


def l1(pred, label, args):
    """Mean absolute error; label has pred's shape."""
    return {'loss': F.l1_loss(pred, match_label(pred, label))}


def mse(pred, label, args):
    """Mean squared error; label has pred's shape."""
    return {'loss': F.mse_loss(pred, match_label(pred, label))}


def match_label(pred, label):
    """The label as float; UserError if its shape is not pred's."""
    if pred.shape != label.shape:
        shapes = f'{tuple(pred.shape)}, got {tuple(label.shape)}'
        raise UserError(f'l1 and mse: expected a label of the shape of pred {shapes}; see --loss')
    return label.float()


LOSSES = {'ce': ce, 'dice': dice, 'ce_dice': ce_dice, 'l1': l1, 'mse': mse}
