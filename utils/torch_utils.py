"""Seeds, devices, batches and weights: what every task needs of torch."""

import random
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from utils.errors import UserError

# ImageNet's statistics, RGB, for images in 0..1; torchvision's pretrained backbones want them.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


def mix_seed(*numbers):
    """A 32-bit seed that differs wherever one of the whole numbers differs."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def seed_generators(seed):
    """Seeds random, numpy and torch's CPU generator."""
    random.seed(seed)
    np.random.seed(seed)
    # torch.manual_seed would queue one call a time for a CUDA that has not started: 0.4 ms each.
    torch.default_generator.manual_seed(seed)


def seed_step(seed, step):
    """Seeds what the model draws (dropout) in optimiser step `step`, whatever came before."""
    seed = mix_seed(seed, step)
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)


def set_up_torch(args):
    """Seeds the generators and chooses between fast and repeatable kernels."""
    seed_generators(args.seed)
    torch.cuda.manual_seed_all(args.seed)
    torch.backends.cudnn.benchmark = not args.deterministic
    if args.deterministic != torch.are_deterministic_algorithms_enabled():  # a call costs a second
        torch.use_deterministic_algorithms(args.deterministic, warn_only=True)


@contextmanager
def repeatable_kernels():
    """Convolutions by fixed algorithms: the same score again on one GPU, whatever was timed."""
    cudnn = torch.backends.cudnn
    before = cudnn.benchmark, cudnn.deterministic
    cudnn.benchmark, cudnn.deterministic = False, True
    try:
        yield
    finally:
        cudnn.benchmark, cudnn.deterministic = before


def select_device(args):
    """The device of --gpus: its first GPU, the first there is when blank, else the CPU."""
    num_gpus = torch.cuda.device_count()
    missing = [i for i in args.gpus or [] if i >= num_gpus]
    if missing:
        raise UserError(f'--gpus {missing[0]}: this machine has {num_gpus}, counted from 0')
    wanted = args.gpus if args.gpus is not None else range(min(1, num_gpus))
    return torch.device('cuda', wanted[0]) if wanted else torch.device('cpu')


def name_device(device):
    """What computes: the GPU's name, or the processor's instructions that torch uses."""
    if device.type == 'cuda':
        return torch.cuda.get_device_name(device)
    return f'CPU {torch.backends.cpu.get_cpu_capability()}'


def to_device(batch, device):
    """The batch with its tensors on `device`; the copy overlaps where memory is pinned."""
    return {
        key: value.to(device, non_blocking=True) if torch.is_tensor(value) else value
        for key, value in batch.items()
    }


def slice_batch(batch, start, stop):
    """Samples start..stop of a batch, as a batch."""
    return {key: value[start:stop] for key, value in batch.items()}


def split_batch(batch, num_parts):
    """Yields (part, share): the batch in equal parts and each one's share of its samples."""
    num_samples = len(batch['name'])
    size = -(-num_samples // num_parts)
    for start in range(0, num_samples, size):
        part = slice_batch(batch, start, start + size)
        yield part, len(part['name']) / num_samples


def normalize(img):
    """(N,3,H,W) uint8 RGB -> float32 around 0; a float image is normalised already."""
    if img.is_floating_point():
        return img
    mean = torch.tensor(MEAN, device=img.device).view(3, 1, 1) * 255
    std = torch.tensor(STD, device=img.device).view(3, 1, 1) * 255
    return (img - mean) / std


def denormalize(img):
    """(3,H,W) image of a batch -> uint8: the inverse of normalize."""
    if not img.is_floating_point():
        return img
    mean = torch.tensor(MEAN, device=img.device).view(3, 1, 1)
    std = torch.tensor(STD, device=img.device).view(3, 1, 1)
    return ((img * std + mean) * 255).round().clamp(0, 255).to(torch.uint8)


def unwrap(model):
    """The network itself, out of DataParallel and its kind."""
    return model.module if isinstance(model, nn.DataParallel) else model


def strip_prefixes(state):
    """The state dict without the 'module.' and '_orig_mod.' that wrappers put before names."""
    return {
        name.replace('_orig_mod.', '').removeprefix('module.'): value
        for name, value in state.items()
    }


def load_match_dict(model, state):
    """Loads every tensor that fits by name and shape; returns one line that says what did not.

    UserError when nothing fits. `state` may come from DataParallel or a compiled model.
    """
    fitting, report = match_state(model, state)
    if not fitting:
        raise UserError(f'none of its {len(state)} tensors has a name and shape of this model')
    unwrap(model).load_state_dict(fitting, strict=False)
    return report


def load_strict(model, state):
    """Loads every tensor and returns one line; UserError, nothing loaded, when one does not fit."""
    fitting, report = match_state(model, state)
    if not len(fitting) == len(state) == len(unwrap(model).state_dict()):
        raise UserError(f'another model made these weights ({report}); see --load_not_strict')
    unwrap(model).load_state_dict(fitting)
    return f'loaded {len(fitting)} tensors'


def match_state(model, state):
    """The part of a state dict that fits the model by name and shape, and one line about all."""
    own, state = unwrap(model).state_dict(), strip_prefixes(state)
    fitting = {k: v for k, v in state.items() if k in own and own[k].shape == v.shape}
    other_shape = [
        f'{k} {tuple(state[k].shape)} -> {tuple(own[k].shape)}'
        for k in state
        if k in own and k not in fitting
    ]
    missing = [k for k in own if k not in state]
    unexpected = [k for k in state if k not in own]
    return fitting, (
        f'loaded {len(fitting)} tensors, {first_names(other_shape)} of another shape, '
        f'{first_names(missing)} missing, {first_names(unexpected)} unexpected'
    )


def first_names(names, most=10):
    """'2 (a, b)': how many, and the first of them."""
    more = ', ...' if len(names) > most else ''
    return f'{len(names)} ({", ".join(names[:most])}{more})' if names else '0'
