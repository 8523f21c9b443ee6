"""Images and labels that a list file names, read on demand. Copy this file for your own data."""

import numpy as np
import torch
from torch.utils.data import Dataset

from data.augment import augment_pair, resize_image, resize_label
from data.image_io import read_image, read_label
from data.list_file import ListFile
from utils.errors import UserError


class ListDataset(Dataset):
    """Sample i is {'img': uint8 (3,H,W) RGB, 'label': uint8 (H,W), 'name': str}.

    For training, image and label are augmented together and have --img_size. In validation, only the
    image is resized; the label keeps its own size, at which scores are taken.
    """

    def __init__(self, args, list_path, is_train):
        self.args, self.is_train = args, is_train
        if not 0 <= args.ignore_index <= 255:
            raise UserError(f'--ignore_index {args.ignore_index}: labels have 8 bits, 0 to 255')
        self.files = ListFile(list_path, args.data_root)

    def __len__(self):
        return len(self.files)

    def __getitem__(self, i):
        img, label = self.read(i)
        img, label = self.transform(img, label)
        return {
            'img': torch.from_numpy(np.ascontiguousarray(img.transpose(2, 0, 1))),
            'label': torch.from_numpy(np.ascontiguousarray(label)),
            'name': self.files.entry(i)[0],
        }

    def read(self, i):
        """Image (H,W,3) and label (H,W) of row i, checked against each other and --num_classes."""
        img_path, label_path = self.files[i]
        img, label = read_image(img_path), read_label(label_path)
        if img.shape[:2] != label.shape:
            raise UserError(
                f'label {label_path} is {label.shape[0]} x {label.shape[1]} (H x W), '
                f'its image {img_path} is {img.shape[0]} x {img.shape[1]}'
            )
        values = np.flatnonzero(np.bincount(label.ravel()))
        wrong = values[(values >= self.args.num_classes) & (values != self.args.ignore_index)]
        if len(wrong):
            raise UserError(
                f'label {label_path} holds the value {wrong[0]}; with --num_classes '
                f'{self.args.num_classes} and --ignore_index {self.args.ignore_index} '
                f'values are 0 to {self.args.num_classes - 1}'
            )
        return img, label

    def transform(self, img, label):
        """What the model sees of a pair."""
        size = self.args.img_size or img.shape[:2]
        if not self.is_train:
            return resize_image(img, size), label
        if self.args.overfit:
            return resize_image(img, size), resize_label(label, size)
        return augment_pair(img, label, size, self.args.ignore_index)
