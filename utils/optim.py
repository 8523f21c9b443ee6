"""Optimizer, learning-rate schedule, gradient scaler and averaged weights (EMA)."""

import copy
import math
import warnings

import torch
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim.swa_utils import get_ema_multi_avg_fn

from utils.errors import UserError
from utils.torch_utils import select_device

# fp16 begins with skipped steps; the schedule counts them too.
warnings.filterwarnings('ignore', r'Detected call of `lr_scheduler\.step')


def select_optimizer(model, args):
    """The optimizer of --optimizer, for every parameter that requires a gradient."""
    weights = [p for p in model.parameters() if p.requires_grad]
    if not weights:
        raise UserError(f'{args.model_type} has no parameter that requires a gradient')
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
        if args.scheduler == 'step':
            return args.lr_decay ** (step // (args.lr_step * steps_per_epoch))
        cosine, poly = (1 + math.cos(math.pi * done)) / 2, (1 - done) ** 0.9
        return {'none': 1.0, 'cosine': cosine, 'poly': poly}[args.scheduler]

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
    for _ in range(num_steps):
        scheduler.step()
    lr = scheduler.get_last_lr()[0]
    if lr != stored_lr:
        print(f'learning rate of the next step: {stored_lr:.4g} -> {lr:.4g}')


def clip_gradients(model, max_norm):
    """The norm of the gradients before they are clipped to `max_norm`; 0: they are not."""
    weights = [p for p in model.parameters() if p.grad is not None]
    norm = get_total_norm([p.grad for p in weights])
    if max_norm:
        clip_grads_with_norm_(weights, max_norm, norm)
    return norm


def select_scaler(args):
    """The gradient scaler that fp16 needs; a no-op otherwise."""
    return torch.amp.GradScaler(select_device(args).type, enabled=args.amp == 'fp16')


class Ema:
    """`.module` is the network to evaluate: averaged weights or, without --ema, the network itself.

    The decay is smaller in the first steps, so that a short run does not average random weights.
    """

    def __init__(self, model, decay):
        self.decay, self.num_steps = decay, 0
        self.module = copy.deepcopy(model) if decay else model

    @torch.no_grad()
    def update_parameters(self, model):
        """Moves the average towards the model's weights; integers are copied."""
        number, self.num_steps = self.num_steps, self.num_steps + 1
        if not self.decay:
            return
        decay = min(self.decay, (1 + number) / (10 + number)) if number else 0.0
        names = {name for name, _ in (*model.named_parameters(), *model.named_buffers())}
        own, current = self.module.state_dict(), model.state_dict()
        own = {name: value for name, value in own.items() if name in names}  # tied weights once
        floats = [name for name, value in own.items() if value.is_floating_point()]
        pairs = [own[name] for name in floats], [current[name] for name in floats]
        get_ema_multi_avg_fn(decay)(*pairs, None)
        for name in own.keys() - {*floats}:
            own[name].copy_(current[name])
