"""The datasets by name. To add one, write its file and add it to DATASETS."""

from pkgutil import resolve_name

from data.loading import make_loader
from utils.errors import choose
from utils.torch_utils import select_device

DATASETS = {
    'list': 'data.list_dataset:ListDataset',
    'mem_list': 'data.mem_list_dataset:MemListDataset',
}


def get_dataset_by_type(args, is_train=False):
    """The dataset of --data_type on --train_list or --val_list; only its own file is imported."""
    entry = choose(DATASETS, args.data_type, '--data_type', 'data/data_entry.py')
    return resolve_name(entry)(args, args.train_list if is_train else args.val_list, is_train)


def select_train_loader(args):
    """Batches of --batch_size, augmented and in another order each epoch."""
    return select_loader(args, args.batch_size, is_train=True)


def select_eval_loader(args):
    """Batches of --val_batch_size in the list's order, each sample once."""
    return select_loader(args, args.val_batch_size, is_train=False)


def select_loader(args, batch_size, is_train):
    """A Loader over all samples, or over the few of --overfit or --fast_dev_run."""
    dataset = get_dataset_by_type(args, is_train)
    num_samples = min(len(dataset), args.overfit or len(dataset))
    num_samples = min(num_samples, 2 * batch_size) if args.fast_dev_run else num_samples
    return make_loader(dataset, args, select_device(args), batch_size, is_train, num_samples)
