"""How a run came about: command, code, versions, machine and data. It is kept in run.json and in
every checkpoint, so that a copied checkpoint still says how it was made. Environment variables are
never read.
"""

import hashlib
import os
import platform
import shlex
import socket
import sys
import zlib
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np
import PIL
import torch

from utils.tracking.run_dir import get_time
from utils.tracking.sources import get_git_state


def get_provenance(datasets, class_names=''):
    """A dict of plain types; `datasets` is {split: (list path, dataset)}, `class_names` the file of
    their classes, whose order and colors say what a label means.
    """
    classes = {'class_names': digest_file(class_names)} if class_names else {}
    return {
        'command': shlex.join([Path(sys.orig_argv[0]).name, *sys.orig_argv[1:]]),
        'directory': str(Path.cwd()),
        'git': get_git_state(),
        'versions': get_versions(),
        'host': socket.gethostname(),
        'pid': os.getpid(),
        'devices': get_devices(),
        'start': get_time(),
        'data': {split: fingerprint(*data) | classes for split, data in datasets.items()},
        'parent': None,
        'earlier': [],
    }


def get_versions():
    """The versions that results may depend on."""
    return {
        'python': platform.python_version(),
        'torch': str(torch.__version__),  # a str subclass, which a checkpoint cannot hold
        'torchvision': version('torchvision'),  # importing it takes a second
        'numpy': np.__version__,
        'cv2': cv2.__version__,
        'pillow': PIL.__version__,  # reads the images
        'cuda': torch.version.cuda or '',
    }


def get_devices():
    """The names of the machine's GPUs, and its processor."""
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return [*gpus, f'{platform.machine()} CPU, {os.cpu_count()} cores']


def fingerprint(list_path, dataset):
    """Identifies data without reading it all: the list's SHA-256, samples and sizes of files."""
    path = Path(list_path)
    facts = {'list': str(list_path), 'samples': len(dataset)}
    if path.is_file():
        facts['sha256'] = digest_file(path)
    row_bytes = getattr(getattr(dataset, 'files', None), 'row_bytes', None)
    if row_bytes is not None:  # a ListFile
        facts |= {'total_bytes': int(row_bytes.sum()), 'file_sizes': zlib.crc32(row_bytes)}
    return facts


def digest_sample(sample):
    """SHA-256 of a sample's tensors, arrays and numbers; text such as its name is left out."""
    digest = hashlib.sha256()
    for key, value in sorted(sample.items()):
        if isinstance(value, np.ndarray | np.number | np.bool_ | int | float):
            value = torch.from_numpy(np.array(value))
        if torch.is_tensor(value):
            digest.update(f'{key} {value.dtype} {tuple(value.shape)}'.encode())
            content = value.detach().cpu().contiguous().view(-1)
            digest.update(content.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def digest_file(path):
    """SHA-256 of a file."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def describe_parent(path, checkpoint):
    """Which file a training run started from, and the command that made it."""
    return {
        'path': str(Path(path).absolute()),
        'sha256': digest_file(path),
        'epoch': checkpoint.get('epoch'),
        'command': checkpoint.get('provenance', {}).get('command', ''),
    }
