"""Images and labels that a list file names, read on demand.

For your own data, subclass ListDataset in a file of its own; see docs/new_task.md.
"""

import inspect

import numpy as np
import torch
from torch.utils.data import Dataset

from data.augment import augment_image, augment_pair, random_light, resize_image, resize_label
from data.image_io import read_image
from data.labels import check_classes, read_indices
from data.list_file import ListFile
from utils.errors import UserError


class ListDataset(Dataset):
    """Sample i is {'img': uint8 (3,H,W) RGB, 'label', 'name': str}, and 'size': (H,W) if the label
    is a map.

    For another task override `read_label`, which returns a class as an int, a map as an array
    (H,W) of integers (classes) or floats (nan: missing), and anything else as a float or an array
    of another shape; (K,2) are points. In training, images have --img_size and are augmented
    together with their maps. In evaluation a map keeps its own size, at which metrics are computed.
    """

    num_paths = 2  # the leading columns of the list that are files

    def __init__(self, args, list_path, is_train):
        self.args, self.is_train = args, is_train
        parameters = inspect.signature(self.read_label).parameters.values()
        takes_any = any(p.kind == p.VAR_POSITIONAL for p in parameters)
        num_columns = None if takes_any else 1 + len(parameters)
        self.files = ListFile(list_path, args.data_root, self.num_paths, num_columns)

    @classmethod
    def without_list(cls, args):
        """A dataset without samples, for predict.py: only `read_image` and `transform` are called.

        `__init__` is not called, so that no list is needed.
        """
        dataset = cls.__new__(cls)
        dataset.args, dataset.is_train = args, False
        return dataset

    def __len__(self):
        return len(self.files)

    def __getitem__(self, i):
        img, label = self.transform(*self.read(i))
        sample = {
            'img': torch.from_numpy(np.ascontiguousarray(img.transpose(2, 0, 1))),
            'label': torch.as_tensor(np.ascontiguousarray(label) if is_map(label) else label),
            'name': self.files.entry(i)[0],
        }
        return sample | {'size': label.shape} if is_map(label) else sample

    def read_image(self, path):
        """(H,W,3) uint8 RGB. Override it for float32 images (H,W,C): they are taken as normalized
        already, and C is what the model expects.
        """
        return read_image(path)

    def read_label(self, path):
        """The label of a row of the list, from its cells after the image: here a label file."""
        return read_indices(path, self.args)

    def read(self, i):
        """The image and the label of row i, checked against each other."""
        img_path, *cells = self.files[i]
        img, label = self.read_image(img_path), to_array(self.read_label(*cells))
        name = cells[0] if self.files.num_paths > 1 else f'of {img_path}'
        if np.ndim(img) != 3:
            raise UserError(f'{img_path}: expected (H,W,C) from read_image, got {np.shape(img)}')
        if is_map(label) and img.shape[:2] != label.shape:
            is_turned = img.shape[1::-1] == label.shape
            note = 'flatten it if it is no map'
            note = 'EXIF orientation may have turned one of them' if is_turned else note
            sizes = f'{label.shape[0]} x {label.shape[1]} (H x W), its image {img_path} is '
            sizes += f'{img.shape[0]} x {img.shape[1]}'
            raise UserError(f'label {name} is {sizes}; {note}')
        if is_classes(label):
            label = check_classes(label, self.args, name)
        return img, label

    def transform(self, img, label):
        """The image as the model gets it, and its label; in training augmented. Override it for
        labels that must move with the image, such as points. In predict.py the label is None.
        """
        size = self.args.img_size or img.shape[:2]
        if not self.is_train or self.args.overfit:
            is_resized = is_map(label) and self.args.overfit
            return resize_image(img, size), resize_label(label, size) if is_resized else label
        if is_map(label):
            return augment_pair(img, label, size, self.args.ignore_index)
        if isinstance(label, int):
            return augment_image(img, size), label
        img = resize_image(img, size)
        # An image as label stays as it is, so its input does too.
        return img if np.ndim(label) == 3 else random_light(img), label


def to_array(label):
    """A label that is a tensor as a NumPy array or scalar, booleans as 0 and 1, and others as they
    are. UserError for what is neither a number nor an array.
    """
    if not isinstance(label, torch.Tensor | np.ndarray | np.generic | int | float | list | tuple):
        expected = 'expected a number or an array from read_label'
        raise UserError(f'{expected}, got {label!r} ({type(label).__name__})')
    label = label.numpy()[()] if torch.is_tensor(label) else label
    is_bool = isinstance(label, np.ndarray | np.generic) and label.dtype.kind == 'b'
    return label.astype(np.uint8) if is_bool else label


def is_classes(label):
    """Whether a label is a class index or a map of them; points and the like are not."""
    return np.asarray(label).dtype.kind in 'iu' and (is_map(label) or not np.ndim(label))


def is_map(label):
    """Whether a label is an array (H,W); an array of width 2 is always read as points."""
    return isinstance(label, np.ndarray) and label.ndim == 2 and label.shape[1] != 2
