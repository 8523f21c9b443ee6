"""What a list and its labels hold, counted row by row; read for data/check.py."""

import hashlib
import json
import sys
from collections import Counter
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
from torch.utils.data import DataLoader
from tqdm import tqdm

from data.image_io import read_mode, read_size
from data.labels import check_classes
from data.list_dataset import ListDataset, is_classes, is_map, to_array
from data.loading import init_worker
from utils.classes import get_colors
from utils.files import replace_file

MAX_CHECKED = 2000  # rows of a longer list are a random sample
CACHE = Path('checkpoints/.data_check')
OPTIONS = ('num_classes', 'ignore_index', 'label_values', 'data_type', 'data_root')


def count_list(args, dataset, is_full=False):
    """The facts of a list, from the cache if it has been checked before."""
    files, cached = dataset.files, CACHE / f'{digest_list(args, dataset)}.json'
    # What a read_label of one's own depends on is not known.
    has_cache = not is_full and uses_shipped(dataset, 'read_label')
    if has_cache:
        with suppress(OSError, ValueError):  # missing or damaged
            return json.loads(cached.read_text('utf-8')) | {'list': str(files.path)}
    rows = range(len(files))
    if len(files) > MAX_CHECKED and not is_full:
        rows = np.random.default_rng(0).choice(len(files), MAX_CHECKED, replace=False).tolist()
    report = count_rows(args, dataset, rows, is_full)
    if not report['errors'] and has_cache:
        with suppress(OSError):  # without write access the next start checks again
            CACHE.mkdir(parents=True, exist_ok=True)
            with replace_file(cached) as file:
                json.dump(report, file)
    return report


def digest_list(args, dataset):
    """A name for the cache: of the rows, the sizes and times of their files, and how they are
    read, by options and by code.
    """
    options = [getattr(args, name, '') for name in OPTIONS]
    code = [path.read_text('utf-8') for path in sorted(Path(__file__).parent.glob('*.py'))]
    digest = hashlib.sha256(f'{options} {get_colors(args)} {code}'.encode())
    for part in (dataset.files.buffer, dataset.files.row_bytes, dataset.files.row_times):
        digest.update(part.tobytes())
    return digest.hexdigest()[:24]


def count_rows(args, dataset, rows, is_full):
    """What the rows have in common, and their errors; read by DataLoader workers if there are many
    rows, with a progress bar if it takes long.
    """
    files, title = dataset.files, f'checking {dataset.files.path.name}'
    counts, sizes, modes, num_turned, errors = Counter(), Counter(), Counter(), 0, []
    num_workers = args.num_workers if len(rows) > 200 else 0
    read = partial(read_facts, dataset, is_full)
    loader = DataLoader(rows, num_workers=num_workers, collate_fn=read, worker_init_fn=init_worker)
    for facts in tqdm(loader, title, leave=False, delay=2, disable=not sys.stderr.isatty()):
        if 'error' in facts:
            errors.append(f'{files.path}:{files.line_numbers[facts["row"]]}: {facts["error"]}')
            continue
        counts.update(facts['counts'])
        sizes[facts['size']] += 1
        modes[facts['mode']] += 1
        num_turned += facts['turned']
    return {
        'list': str(files.path),
        'images': len(files),
        'errors': errors,
        'checked': len(rows),
        'turned': num_turned,
        'modes': dict(modes.most_common()),
        'sizes': dict(sizes.most_common()),
        'counts': {str(value): count for value, count in counts.items()},
    }


def read_facts(dataset, is_full, rows):
    """What the one row in `rows` contains, or what is wrong with it."""
    img_path, *cells = dataset.files[rows[0]]
    try:
        has_files = uses_shipped(dataset, 'read_image')
        label_file = cells[0] if dataset.files.num_paths > 1 else ''
        size = read_size(img_path) if has_files else dataset.read_image(img_path).shape
        label = dataset.read(rows[0])[1] if is_full else to_array(dataset.read_label(*cells))
        if is_map(label) and label.shape != tuple(size[:2]):
            dataset.read(rows[0])  # says it
        if is_classes(label):
            check_classes(label, dataset.args, label_file or f'of {img_path}')
        is_label_image = label_file and uses_shipped(dataset, 'read_label')
        is_label_turned = read_size(label_file)[2] if is_label_image else False
        has_direction = has_files and np.ndim(label)  # the class of an image has none
        values, counts = np.unique(label, return_counts=True) if is_classes(label) else ((), ())
        return {
            'size': f'{size[0]} x {size[1]}',
            'turned': bool(has_direction and size[2] != is_label_turned),
            'mode': read_mode(img_path) if has_files else '',
            'counts': dict(zip(map(int, values), map(int, counts), strict=True)),
        }
    except ValueError as error:  # a UserError, or what float(cell) of a read_label says
        return {'row': rows[0], 'error': str(error)}
    except (LookupError, OSError) as error:  # as of a name or a file that read_label does not find
        return {'row': rows[0], 'error': f'{img_path}: {type(error).__name__}: {error}'}


def uses_shipped(dataset, name):
    """Whether a method is the list dataset's, or missing: files are images then, and of 8 bits."""
    return getattr(type(dataset), name, None) in (None, getattr(ListDataset, name))
