"""What changes the weights: optimizer, learning-rate schedule, gradient scaler, average."""

import math

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from utils.checkpoint import unwrap
from utils.torch_utils import select_device


def select_optimizer(model, args):
    """The optimizer of --optimizer over every parameter that requires a gradient."""
    weights = [p for p in model.parameters() if p.requires_grad]
    common = {'lr': args.lr, 'weight_decay': args.weight_decay}
    if args.optimizer == 'sgd':
        return torch.optim.SGD(weights, momentum=args.momentum, **common)
    kind = {'adam': torch.optim.Adam, 'adamw': torch.optim.AdamW}[args.optimizer]
    return kind(weights, betas=(args.momentum, args.beta), **common)


def select_scheduler(optimizer, args, steps_per_epoch):
    """A learning-rate scheduler that is stepped once per optimizer step."""
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


def select_scaler(args):
    """The gradient scaler that fp16 needs; a no-op otherwise."""
    return torch.amp.GradScaler(select_device(args).type, enabled=args.amp == 'fp16')


def select_average(model, args):
    """The averaged weights of --ema: `.module` is the network to evaluate.

    The decay is smaller in the first steps, so that a short run does not average random weights.
    """
    model = unwrap(model)
    if not args.ema:
        return NoAverage(model)

    def average(averaged, current, num_averaged):
        decay = min(args.ema, (1 + int(num_averaged)) / (10 + int(num_averaged)))
        get_ema_multi_avg_fn(decay)(averaged, current, num_averaged)

    return AveragedModel(model, multi_avg_fn=average, use_buffers=True)


class NoAverage:
    """No-op replacement of AveragedModel if no weights are averaged."""

    def __init__(self, module):
        self.module = module
        self.n_averaged = torch.tensor(0)

    def update_parameters(self, model):
        pass
