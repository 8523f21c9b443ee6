"""How samples become batches: order, seeding, collation. Knows no task.

A sample's randomness is a function of (seed, epoch, index), an epoch's order of (seed, epoch):
neither depends on the number of workers or on what was drawn before.
"""

import random
import signal

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from utils.errors import UserError
from utils.torch_utils import mix_seed, seed_generators, to_device


class SeededDataset(Dataset):
    """dataset[i] asked for as (epoch, i), with the global generators seeded for just that sample.

    So any augmentation library, whichever generator it draws from, gives the same sample again.
    """

    def __init__(self, dataset, seed):
        self.dataset, self.seed = dataset, seed

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, key):
        epoch, i = key
        in_main_process = torch.utils.data.get_worker_info() is None
        states = get_states() if in_main_process else None
        seed_generators(mix_seed(self.seed, epoch, i))
        sample = self.dataset[i]
        if in_main_process:
            set_states(*states)
        if not isinstance(sample, dict):
            kind = type(self.dataset).__name__
            raise UserError(f'{kind}[{i}] returned {type(sample).__name__}, a dict is wanted')
        return sample


def get_states():
    """The states of the generators that seed_generators seeds."""
    return random.getstate(), np.random.get_state(), torch.get_rng_state()


def set_states(python_state, numpy_state, torch_state):
    """Puts back what get_states took."""
    random.setstate(python_state)
    np.random.set_state(numpy_state)
    torch.set_rng_state(torch_state)


class EpochSampler(Sampler):
    """Yields (epoch, index) for the first num_samples of a data set, shuffled or in order.

    The epoch travels with each index, so it reaches workers that live on from epoch to epoch.
    """

    def __init__(self, num_samples, seed, shuffle):
        self.num_samples, self.seed, self.shuffle = num_samples, seed, shuffle
        self.epoch = 0

    def __len__(self):
        return self.num_samples

    def __iter__(self):
        order = np.arange(self.num_samples)
        if self.shuffle:
            order = np.random.default_rng((self.seed, self.epoch)).permutation(order)
        return ((self.epoch, int(i)) for i in order)


class Loader(DataLoader):
    """A DataLoader whose batches arrive on `device`."""

    def __init__(self, *args, device, **kwargs):
        super().__init__(*args, pin_memory=device.type == 'cuda', **kwargs)
        self.device = device

    def __iter__(self):
        return (to_device(batch, self.device) for batch in super().__iter__())

    @property
    def samples(self):
        """The data set itself, without the seeding around it."""
        return self.dataset.dataset


def make_loader(dataset, args, device, batch_size, is_train, num_samples):
    """A Loader over the first num_samples: shuffled, only full batches, for training."""
    if num_samples == 0:
        raise UserError(f'{type(dataset).__name__} holds no sample')
    if is_train and batch_size > num_samples:
        raise UserError(f'--batch_size {batch_size}: there are {num_samples} training samples')
    return Loader(
        SeededDataset(dataset, args.seed),
        device=device,
        batch_size=batch_size,
        sampler=EpochSampler(num_samples, args.seed, shuffle=is_train),
        drop_last=is_train,  # a last batch of one sample would break BatchNorm
        num_workers=args.num_workers,
        persistent_workers=args.num_workers > 0,
        worker_init_fn=init_worker,
        collate_fn=collate_batch,
        generator=torch.Generator(),  # its own, so that making an iterator draws from no other
    )


def init_worker(_):
    """One thread a worker, and Ctrl-C left to the main process."""
    cv2.setNumThreads(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def collate_batch(samples):
    """Samples, dicts with the same keys, as one batch: tensors stacked, strings in a list."""
    return {key: collate_values(key, samples) for key in samples[0]}


def collate_values(key, samples):
    """The values that samples hold under `key`; UserError names two that differ in size."""
    values = [sample[key] for sample in samples]
    if isinstance(values[0], str):
        return values
    for sample in samples:
        if np.shape(sample[key]) != np.shape(values[0]):
            raise UserError(
                f"'{key}' differs in size within a batch: {tuple(np.shape(values[0]))} of "
                f'{samples[0]["name"]}, {tuple(np.shape(sample[key]))} of {sample["name"]}; '
                'give --img_size, or score with --val_batch_size 1'
            )
    return default_collate(values)
