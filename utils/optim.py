"""Optimizer, learning-rate schedule, gradient scaler and averaged weights (EMA)."""

import math
import warnings

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from utils.torch_utils import select_device
from utils.weights import unwrap


def select_optimizer(model, args):
    """The optimizer of --optimizer, for every parameter that requires a gradient."""
    weights = [p for p in model.parameters() if p.requires_grad]
    common = {'lr': args.lr, 'weight_decay': args.weight_decay}
    if args.optimizer == 'sgd':
        return torch.optim.SGD(weights, momentum=args.momentum, **common)
    kind = {'adam': torch.optim.Adam, 'adamw': torch.optim.AdamW}[args.optimizer]
    return kind(weights, betas=(args.momentum, args.beta), **common)


def select_scheduler(optimizer, args, steps_per_epoch):
    """The learning-rate scheduler of --scheduler, which is stepped once per optimizer step."""
    warmup_steps = round(args.warmup * steps_per_epoch)
    num_steps = max(args.epochs * steps_per_epoch - warmup_steps, 1)

    def lr_factor(step):
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        done = min((step - warmup_steps) / num_steps, 1)
        return {
            'none': 1.0,
            'cosine': (1 + math.cos(math.pi * done)) / 2,
            'poly': (1 - done) ** 0.9,
            'step': args.lr_decay ** (step // (args.lr_step * steps_per_epoch)),
        }[args.scheduler]

    return torch.optim.lr_scheduler.LambdaLR(optimizer, lr_factor)


def load_optimizer(optimizer, scheduler, state, num_steps):
    """Restores an optimizer's averages, and steps its scheduler `num_steps` times.

    Both were made with the current options, which stay: the learning rate is a function of the
    options and the step, and what a checkpoint says of it is only compared.
    """
    options = [{k: v for k, v in g.items() if k != 'params'} for g in optimizer.param_groups]
    optimizer.load_state_dict(state)
    stored_lr = optimizer.param_groups[0]['lr']
    for group, own in zip(optimizer.param_groups, options, strict=True):
        group.update(own)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # that no step of the optimizer came before
        for _ in range(num_steps):
            scheduler.step()
    lr = scheduler.get_last_lr()[0]
    if lr != stored_lr:
        print(f'learning rate of the next step: {stored_lr:.4g} -> {lr:.4g}')


def select_scaler(args):
    """The gradient scaler that fp16 needs; a no-op otherwise."""
    return torch.amp.GradScaler(select_device(args).type, enabled=args.amp == 'fp16')


def select_ema(model, args):
    """The averaged weights of --ema: `.module` is the network to evaluate.

    The decay is smaller in the first steps, so that a short run does not average random weights.
    """
    model = unwrap(model)
    if not args.ema:
        return NoEma(model)

    def average(averaged, current, num_averaged):
        is_float = averaged[0].is_floating_point()  # the tensors of a call have one dtype
        if is_float:
            decay = min(args.ema, (1 + int(num_averaged)) / (10 + int(num_averaged)))
            get_ema_multi_avg_fn(decay)(averaged, current, num_averaged)
        for mean, value in zip(averaged, current, strict=True):  # integers, and masks of -inf
            mean.copy_(torch.where(mean.isfinite(), mean, value) if is_float else value)

    return AveragedModel(model, multi_avg_fn=average, use_buffers=True)


class NoEma:
    """Stands for AveragedModel without --ema."""

    def __init__(self, module):
        self.module, self.n_averaged = module, torch.tensor(0)

    def update_parameters(self, model):
        pass
