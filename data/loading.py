"""How samples become batches: order, seeding, collation. Knows no task.

A sample's randomness is a function of (seed, epoch, index), an epoch's order of (seed, epoch):
neither depends on the number of workers or on what happened before.
"""

import gc
import os
import signal
import tempfile
from functools import partial
from multiprocessing.queues import Queue

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from utils.errors import UserError
from utils.stop import SIGNALS
from utils.torch_utils import mix_seed, seed_generators, slice_batch, to_device

MAX_TMPDIR = 75  # characters: of the 108 of a socket's path; with more, workers hang
STACKED = torch.Tensor | np.ndarray | np.generic | int | float  # in a batch
OVERFIT_STEPS = 20  # per epoch of --overfit, however few its images are


class SeededDataset(Dataset):
    """dataset[i], indexed by (epoch, i), with the global generators seeded for that sample.

    So any augmentation that uses them gives the same sample again. One with a generator of its own,
    as in albumentations 2, must be seeded from them in `transform`; Tracker warns of it.
    """

    def __init__(self, dataset, seed):
        self.dataset, self.seed = dataset, seed

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, key):
        epoch, i = key
        seed_generators(mix_seed(self.seed, epoch, i))
        sample = self.dataset[i]
        if not isinstance(sample, dict):
            kind = type(self.dataset).__name__
            raise UserError(f'{kind}[{i}]: expected a dict, got {type(sample).__name__}')
        return sample


class EpochSampler(Sampler):
    """Yields (epoch, index) for the first num_samples of a dataset, shuffled or in order, `repeats`
    times, without the first `start` of them.

    The epoch is part of each index, so that it reaches persistent workers.
    """

    def __init__(self, num_samples, seed, shuffle, repeats=1):
        self.num_samples, self.seed, self.shuffle = num_samples, seed, shuffle
        self.repeats, self.epoch, self.start = repeats, 0, 0
        self.order = np.tile(np.arange(num_samples), repeats)  # of the epoch's indices

    def __len__(self):
        return self.num_samples * self.repeats

    def __iter__(self):
        self.order = np.tile(np.arange(self.num_samples), self.repeats)
        if self.shuffle:
            self.order = np.random.default_rng((self.seed, self.epoch)).permutation(self.order)
        return ((self.epoch, int(i)) for i in self.order[self.start :])


class Loader(DataLoader):
    """A DataLoader whose batches arrive on `device`."""

    def __init__(self, *args, device, **kwargs):
        super().__init__(*args, pin_memory=device.type == 'cuda', **kwargs)
        self.device = device

    def __iter__(self):
        # Between its fork and init_worker a signal to the whole group would end a worker.
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            batches = super().__iter__()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        return (to_device(restore_tuples(batch), self.device) for batch in batches)

    def start_at(self, epoch, batch=0):
        """Chooses the epoch, from 1, and how many of its batches are left out."""
        self.sampler.epoch, self.sampler.start = epoch, batch * self.batch_size

    def pick_samples(self, i, pred, batch, freq):
        """Yields (index, output, batch of one) of the samples of the epoch's batch i whose index in
        the dataset is a multiple of freq.
        """
        indices = self.sampler.order[i * self.batch_size : (i + 1) * self.batch_size]
        for j in np.flatnonzero(indices % freq == 0):
            yield int(indices[j]), pred[j : j + 1], slice_batch(batch, j, j + 1)

    def read_one(self, i=0):
        """Sample i, as a batch of one."""
        batch = to_device(collate_batch([self.dataset[0, i]]), self.device)
        return batch | {'read_full_img': partial(self.read_full_img, i)}

    def read_full_img(self, i):
        """Image i as it is in its file, (H,W,3) uint8 RGB; None if the dataset cannot tell."""
        read = getattr(self.samples, 'read', None)
        img = read(i)[0] if read else None
        return img if getattr(img, 'dtype', None) == np.uint8 else None

    @property
    def samples(self):
        """The dataset itself, without the seeding around it."""
        return self.dataset.dataset


def make_loader(dataset, args, device, batch_size, is_train, num_samples):
    """A Loader over the first num_samples; for training shuffled and with full batches only."""
    if num_samples == 0:
        raise UserError(f'{type(dataset).__name__} contains no sample')
    if is_train and batch_size > num_samples:
        raise UserError(f'--batch_size {batch_size}: there are {num_samples} training samples')
    if args.num_workers and len(tempfile.gettempdir()) > MAX_TMPDIR:
        advice = '`export TMPDIR=/tmp`, or give --num_workers 0'
        raise UserError(f'TMPDIR is too long for the sockets of DataLoader workers: {advice}')
    repeats = -(-OVERFIT_STEPS * batch_size // num_samples) if is_train and args.overfit else 1
    return Loader(
        SeededDataset(dataset, args.seed),
        device=device,
        batch_size=batch_size,
        sampler=EpochSampler(num_samples, args.seed, is_train, repeats),
        drop_last=is_train,  # a last batch of one sample would break BatchNorm
        num_workers=args.num_workers,
        persistent_workers=args.num_workers > 0,
        worker_init_fn=init_worker,
        collate_fn=collate_batch,
    )


def init_worker(_):
    """One thread per worker, and signals are left to the main process."""
    cv2.setNumThreads(0)
    gc.freeze()  # else collecting garbage copies the objects that are shared with the main process
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    # A batch that could not be sent, as without a file handle, would be waited for forever.
    Queue._on_queue_feeder_error = staticmethod(lambda error, batch: os._exit(1))


def collate_batch(samples):
    """Samples, dicts with the same keys, as a batch: tensors, arrays and numbers stacked, all else,
    such as strings, in a list; a tuple such as 'size' must be equal in all samples and is kept
    once.

    UserError names two samples that differ in size.
    """
    batch = {}
    for key, value in samples[0].items():
        if not isinstance(value, STACKED | tuple):
            batch[key] = [sample[key] for sample in samples]
            continue
        for sample in samples:
            is_same = sample[key] == value if isinstance(value, tuple) else True
            if not is_same or np.shape(sample[key]) != np.shape(value):
                sizes = f'{np.shape(value)} of {samples[0]["name"]}, {np.shape(sample[key])} of '
                advice = 'give --img_size, or --val_batch_size 1 for validation'
                advice = advice if key in ('img', 'label', 'size') else 'return a list to keep both'
                line = f"'{key}' differs in size within a batch: {sizes}{sample['name']}"
                raise UserError(f'{line}; {advice}')
        is_tuple = isinstance(value, tuple)
        batch[key] = value if is_tuple else default_collate([sample[key] for sample in samples])
    label = batch.get('label')
    if torch.is_tensor(label) and label.ndim == 3 and label.shape[2] != 2:  # (N,K,2) are points
        batch.setdefault('size', tuple(label.shape[1:]))
    return batch


def restore_tuples(batch):
    """The batch with its tuples of numbers, which pinning memory makes lists before torch 2.10.

    Any list of numbers was a tuple, because `collate_batch` stacks numbers.
    """
    kept = {k: v for k, v in batch.items() if isinstance(v, list) and isinstance(v[0], int | float)}
    return batch | {key: tuple(value) for key, value in kept.items()}
