"""What a list and its labels hold, counted row by row; read for data/check.py."""

import hashlib
import inspect
import json
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path

import numpy as np
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from data.image_io import read_mode, read_size
from data.labels import check_class
from data.list_dataset import ListDataset, is_map, to_array
from utils.classes import get_colors
from utils.errors import UserError
from utils.files import replace_file

MAX_CHECKED = 2000  # rows of a longer list are a random sample
CACHE = Path('checkpoints/.data_check')
OPTIONS = ('num_classes', 'ignore_index', 'label_values', 'data_type', 'data_root')


def count_list(args, dataset, is_full=False):
    """The facts of a list, from the cache if it has been checked before."""
    files = dataset.files
    options = [getattr(args, name, '') for name in OPTIONS]
    code = inspect.getsource(inspect.getmodule(type(dataset)))  # `read_label` may be edited
    digest = hashlib.sha256(f'{options} {get_colors(args)} {code}'.encode())
    digest.update(files.buffer.tobytes() + files.row_bytes.tobytes())
    cached = CACHE / f'{digest.hexdigest()[:24]}.json'
    if not is_full:
        with suppress(OSError, ValueError):  # missing or damaged
            return json.loads(cached.read_text('utf-8')) | {'list': str(files.path)}
    rows = range(len(files))
    if len(files) > MAX_CHECKED and not is_full:
        rows = np.random.default_rng(0).choice(len(files), MAX_CHECKED, replace=False).tolist()
    report = add_up(files, read_rows(args, dataset, rows, is_full))
    if not report['errors'] and not is_full:
        with suppress(OSError):  # without write access the next start checks again
            CACHE.mkdir(parents=True, exist_ok=True)
            with replace_file(cached) as file:
                json.dump(report, file)
    return report


class Rows(Dataset):
    """Item i is what row rows[i] of a dataset contains, or what is wrong with it."""

    def __init__(self, dataset, rows, is_full):
        self.dataset, self.rows, self.is_full = dataset, rows, is_full

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        row, dataset = self.rows[i], self.dataset
        img_path, *cells = dataset.files[row]
        facts = {'row': row, 'error': '', 'counts': {}, 'size': (), 'turned': False, 'mode': ''}
        try:
            height, width, is_turned = self.read_size(img_path)
            label = dataset.read(row)[1] if self.is_full else to_array(dataset.read_label(*cells))
            if isinstance(label, int | np.integer):
                check_class(label, dataset.args, img_path)
            if is_map(label) and label.shape != (height, width):
                dataset.read(row)  # says it
            is_file = dataset.files.num_paths > 1 and is_shipped(dataset, 'read_label')
            facts['turned'] = is_turned and not (is_file and read_size(cells[0])[2])
            facts |= {'size': (height, width), 'counts': count_values(label)}
            facts['mode'] = read_mode(img_path) if is_shipped(dataset, 'read_image') else ''
        except UserError as error:
            facts['error'] = str(error)
        return facts

    def read_size(self, path):
        """(height, width, whether EXIF turns it) of an image; only the header is read if it is one
        that read_image of the list dataset reads.
        """
        if is_shipped(self.dataset, 'read_image'):
            return read_size(path)
        return (*self.dataset.read_image(path).shape[:2], False)


def is_shipped(dataset, name):
    """Whether a method is the list dataset's, or missing: files are images then, and of 8 bits."""
    return getattr(type(dataset), name, None) in (None, getattr(ListDataset, name))


def count_values(label):
    """{value: how often} of class indices; {} for anything else."""
    if is_map(label) and label.dtype.kind in 'iu':
        counts = np.bincount(label.ravel())
        return {int(value): int(counts[value]) for value in np.flatnonzero(counts)}
    return {int(label): 1} if isinstance(label, int | np.integer) else {}


def read_rows(args, dataset, rows, is_full):
    """Yields the facts of the rows, read by DataLoader workers if there are many."""
    num_workers = args.num_workers if len(rows) > 200 else 0
    loader = DataLoader(
        Rows(dataset, rows, is_full), num_workers=num_workers, collate_fn=lambda facts: facts[0]
    )
    title = f'checking {dataset.files.path.name}'
    yield from tqdm(loader, title, leave=False, delay=2, disable=not sys.stderr.isatty())


def add_up(files, facts):
    """The facts of a list: what its rows have in common, and the errors with their lines."""
    report = {'list': str(files.path), 'images': len(files), 'errors': []}
    counts, sizes, modes, num_checked, num_turned = Counter(), Counter(), Counter(), 0, 0
    for row in facts:
        num_checked += 1
        if row['error']:
            line = files.line_numbers[row['row']]
            report['errors'].append(f'{files.path}:{line}: {row["error"]}')
            continue
        counts.update(row['counts'])
        sizes[' x '.join(map(str, row['size']))] += 1
        modes[row['mode']] += 1
        num_turned += row['turned']
    report |= {'checked': num_checked, 'turned': num_turned, 'modes': dict(modes.most_common())}
    report['sizes'] = dict(sizes.most_common())
    return report | {'counts': {str(value): count for value, count in counts.items()}}
