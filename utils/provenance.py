"""How a run came about: command, code, versions, machine and data. It stands in run.json and in
every checkpoint, so a copied file still answers. No environment variable is looked at.
"""

import hashlib
import os
import platform
import shlex
import socket
import sys
from collections import Counter
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np
import PIL
import torch

from utils.errors import count
from utils.sources import get_git_state


def now():
    """The time, to the second, with its zone."""
    return datetime.now().astimezone().isoformat(sep=' ', timespec='seconds')


def get_provenance(datasets, parent=None):
    """A dict of plain types; `datasets` is {split: (list path, data set)}.

    `parent` is what `describe_parent` says of the checkpoint that training started from.
    """
    return {
        'command': shlex.join([Path(sys.orig_argv[0]).name, *sys.orig_argv[1:]]),
        'directory': str(Path.cwd()),
        'git': get_git_state(),
        'versions': get_versions(),
        'host': socket.gethostname(),
        'pid': os.getpid(),
        'devices': get_devices(),
        'start': now(),
        'data': {split: fingerprint(*data) for split, data in datasets.items()},
        'parent': parent,
        'earlier': [],
    }


def get_versions():
    """The versions that results may depend on."""
    return {
        'python': platform.python_version(),
        'torch': str(torch.__version__),  # a class of its own, which no checkpoint may hold
        'torchvision': version('torchvision'),  # to import it takes a second
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
    """What tells data apart without reading it all: the list's SHA-256, samples, bytes of files."""
    path = Path(list_path)
    facts = {'list': str(list_path), 'samples': len(dataset)}
    if path.is_file():
        facts['sha256'] = digest_file(path)
    if hasattr(getattr(dataset, 'files', None), 'row_bytes'):  # a ListFile
        facts['total_bytes'] = int(dataset.files.row_bytes.sum())
    return facts


def digest_sample(sample):
    """SHA-256 over a sample's tensors, arrays and numbers; its name and other text do not count."""
    digest = hashlib.sha256()
    for key, value in sorted(sample.items()):
        if isinstance(value, np.ndarray | np.number | np.bool_ | int | float):
            value = torch.as_tensor(value)
        if torch.is_tensor(value):
            digest.update(f'{key} {value.dtype} {tuple(value.shape)}'.encode())
            content = value.detach().cpu().contiguous().view(-1)
            digest.update(content.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def digest_file(path):
    """SHA-256 of a file of any size."""
    digest = hashlib.sha256()
    with Path(path).open('rb') as file:
        while chunk := file.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()


def describe_parent(path, state):
    """Which file a training started from, and the command that made it."""
    return {
        'path': str(Path(path).absolute()),
        'sha256': digest_file(path),
        'epoch': state.get('epoch'),
        'command': state.get('provenance', {}).get('command', ''),
    }


def describe_list_change(old, new, old_rows, new_rows):
    """'40 lines added' and the like; '' when the list and its files are the same.

    `old` and `new` are fingerprints; the rows are (checksum, bytes of its files), in order.
    """
    old_bytes, new_bytes = dict(old_rows), dict(new_rows)
    before, after = Counter(row for row, _ in old_rows), Counter(row for row, _ in new_rows)
    changes = {
        'added': (after - before).total(),
        'removed': (before - after).total(),
        'with other files': sum(new_bytes.get(r, size) != size for r, size in old_bytes.items()),
    }
    text = ', '.join(f'{count(n, "line")} {kind}' for kind, n in changes.items() if n)
    is_other = any(old.get(name) != new.get(name) for name in ('sha256', 'samples'))
    if before != after or (is_other and not old_rows):
        return f'{text or "it changed"} ({old["samples"]} -> {new["samples"]} samples)'
    return text or ('its lines are in another order' if old_rows != new_rows else '')
