"""The data sets by name. To add one, write its file and add its line here."""

import sys
from pkgutil import resolve_name

from data.list_file import ListFile, count_overlap
from data.loading import make_loader
from utils.errors import choose
from utils.torch_utils import select_device

DATASETS = {
    'list': 'data.list_dataset:ListDataset',
    'mem_list': 'data.mem_list_dataset:MemListDataset',
}


def get_dataset_by_type(args, list_path, is_train):
    """The data set of --data_type; only its own file is imported."""
    entry = choose(DATASETS, args.data_type, 'data_type', 'data/data_entry.py')
    return resolve_name(entry)(args, list_path, is_train)


def select_train_loader(args):
    """Batches of --batch_size in another order each epoch, augmented."""
    dataset = get_dataset_by_type(args, args.train_list, is_train=True)
    num_samples = get_num_samples(dataset, args, args.batch_size)
    return make_loader(dataset, args, select_device(args), args.batch_size, True, num_samples)


def select_eval_loader(args):
    """Batches of --val_batch_size in the list's order, each sample once."""
    dataset = get_dataset_by_type(args, args.val_list, is_train=False)
    num_samples = get_num_samples(dataset, args, args.val_batch_size)
    return make_loader(dataset, args, select_device(args), args.val_batch_size, False, num_samples)


def get_num_samples(dataset, args, batch_size):
    """How many samples are used: all, or the few of --overfit or --fast_dev_run."""
    num_samples = min(len(dataset), args.overfit or len(dataset))
    return min(num_samples, 2 * batch_size) if args.fast_dev_run else num_samples


def warn_of_overlap(train_loader, eval_loader):
    """Says on stderr how many scored images are trained on too, where both data sets use lists."""
    files = [getattr(loader.samples, 'files', None) for loader in (train_loader, eval_loader)]
    if all(isinstance(file, ListFile) for file in files):
        num_shared = count_overlap(*files)
        if num_shared:
            print(f'warning: {num_shared} images of --val_list are trained on too', file=sys.stderr)
