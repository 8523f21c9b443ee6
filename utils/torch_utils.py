"""Seeds, devices and batches: what every task needs of torch."""

import os
import random
from contextlib import contextmanager, nullcontext

import numpy as np
import torch

from utils.errors import UserError

# ImageNet's statistics, RGB, for images in 0..1, as torchvision's pretrained backbones expect.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


def mix_seed(*numbers):
    """A 32-bit hash of integers, to seed with."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def seed_generators(seed):
    """Seeds random, numpy and torch's CPU generator."""
    random.seed(seed)
    np.random.seed(seed)
    # torch.manual_seed would queue a call for a CUDA that has not started, 0.4 ms each time.
    torch.default_generator.manual_seed(seed)


def seed_step(seed, step):
    """Seeds what is random in optimizer step `step` (dropout), whatever came before."""
    seed = mix_seed(seed, step)
    seed_generators(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)


def set_up_torch(args):
    """Seeds the generators and chooses fast or deterministic kernels."""
    seed_generators(args.seed)
    torch.cuda.manual_seed_all(args.seed)
    device = select_device(args)
    if device.type == 'cuda':
        torch.cuda.set_device(device)  # else pinned memory and statistics are those of GPU 0
    torch.backends.cudnn.benchmark = not args.deterministic
    if args.deterministic:
        os.environ.setdefault('CUBLAS_WORKSPACE_CONFIG', ':4096:8')  # for matrix products
    if args.deterministic != torch.are_deterministic_algorithms_enabled():  # setting takes 1 s
        torch.use_deterministic_algorithms(args.deterministic, warn_only=True)


@contextmanager
def repeatable_kernels():
    """Fixed convolution algorithms: equal scores on one GPU, whatever the benchmark mode chose."""
    cudnn = torch.backends.cudnn
    previous = cudnn.benchmark, cudnn.deterministic
    cudnn.benchmark, cudnn.deterministic = False, True
    try:
        yield
    finally:
        cudnn.benchmark, cudnn.deterministic = previous


def eager_mode(is_compiled):
    """Runs a model of torch.compile without compiling it; does nothing for any other."""
    return torch.compiler.set_stance('force_eager') if is_compiled else nullcontext()


def select_device(args):
    """The first GPU of --gpus, without the option the machine's first GPU, else the CPU."""
    num_gpus = torch.cuda.device_count()
    missing = [i for i in args.gpus or [] if i >= num_gpus]
    if len({*(args.gpus or [])}) < len(args.gpus or []):
        raise UserError(f'--gpus {" ".join(map(str, args.gpus))}: name each GPU once')
    if missing:
        raise UserError(f'--gpus {missing[0]}: this machine has {num_gpus} GPUs, numbered from 0')
    gpus = args.gpus if args.gpus is not None else range(min(1, num_gpus))
    return torch.device('cuda', gpus[0]) if gpus else torch.device('cpu')


def name_device(device):
    """The GPU's name, or the CPU instruction set that torch uses."""
    if device.type == 'cuda':
        return torch.cuda.get_device_name(device)
    return f'CPU {torch.backends.cpu.get_cpu_capability()}'


def describe_device(device):
    """'NVIDIA A100, 40.0 GB', or 'CPU AVX2, 4 threads, 16.0 GB'."""
    if device.type == 'cuda':
        num_bytes = torch.cuda.get_device_properties(device).total_memory
        return f'{name_device(device)}, {num_bytes / 1e9:.1f} GB'
    num_bytes = os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
    threads = f'{torch.get_num_threads()} threads'
    return f'{name_device(device)}, {threads}, {num_bytes / 1e9:.1f} GB'


def to_device(batch, device):
    """The batch with its tensors on `device`; the copy is asynchronous from pinned memory."""
    tensors = {key: value for key, value in batch.items() if torch.is_tensor(value)}
    return batch | {key: value.to(device, non_blocking=True) for key, value in tensors.items()}


def slice_batch(batch, start, stop):
    """Samples start to stop - 1 of a batch, as a batch; tuples such as 'size' belong to all."""
    return {k: v if isinstance(v, tuple) else v[start:stop] for k, v in batch.items()}


def split_batch(batch, num_parts):
    """Yields (micro-batch, share): the batch in equal parts and each one's share of its samples."""
    num_samples = len(batch['name'])
    size = -(-num_samples // num_parts)
    for start in range(0, num_samples, size):
        part = slice_batch(batch, start, start + size)
        yield part, len(part['name']) / num_samples


def normalize(img):
    """(N,3,H,W) uint8 RGB -> normalized float32; a float image is normalized already, and may have
    any number of channels.
    """
    if img.dtype not in (torch.uint8, torch.float32):
        expected = 'expected uint8 or float32 images from read_image'
        raise UserError(f'{expected}, got {str(img.dtype).removeprefix("torch.")}')
    if img.is_floating_point():
        return img
    if img.shape[1] != 3:
        advice = 'for other channels return normalized float32 from read_image'
        raise UserError(f'expected images of 3 channels, got {img.shape[1]} (uint8): {advice}')
    mean, std = get_statistics(img.device)
    return (img - mean) / std


def denormalize(img):
    """(C,H,W) image of a batch -> uint8 (3,H,W): the inverse of normalize; of other channels the
    first three, or of fewer the first, between their lowest and highest values.
    """
    if not img.is_floating_point():
        return img
    if img.shape[0] == 3:
        mean, std = get_statistics(img.device)
        return (img * std + mean).round().clamp(0, 255).to(torch.uint8)
    bands = img[:3] if img.shape[0] > 3 else img[:1].expand(3, -1, -1)
    low, high = bands.aminmax()
    return ((bands - low) / (high - low).clamp(min=1e-9) * 255).to(torch.uint8)


def get_statistics(device):
    """MEAN and STD as (3,1,1) tensors, for images in 0..255."""
    tensors = (torch.tensor(values).view(3, 1, 1) * 255 for values in (MEAN, STD))
    return [tensor.to(device, non_blocking=True) for tensor in tensors]  # no wait for a GPU
