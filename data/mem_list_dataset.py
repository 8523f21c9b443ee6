"""The same samples as ListDataset, decoded once into memory."""

import numpy as np
import torch

from data.image_io import count_pixels
from data.list_dataset import ListDataset


class MemListDataset(ListDataset):
    """A ListDataset that reads no file after the start; augmentation still differs each epoch.

    Pixels lie as uint8 in one buffer in shared memory, 4 bytes a pixel for image and label, so that
    loading processes hold no copies and images may differ in size.
    """

    def __init__(self, args, list_path, is_train):
        super().__init__(args, list_path, is_train)
        sizes = [4 * count_pixels(self.files[i][0]) for i in range(len(self))]
        self.offsets = np.cumsum([0, *sizes])
        self.shapes = np.zeros((len(self), 2), dtype=np.int64)
        self.buffer = torch.empty(int(self.offsets[-1]), dtype=torch.uint8).share_memory_()
        for i in range(len(self)):
            img, label = super().read(i)
            self.shapes[i] = label.shape
            pixels = self.buffer.numpy()[self.offsets[i] : self.offsets[i + 1]]
            pixels[: img.size], pixels[img.size :] = img.ravel(), label.ravel()

    def read(self, i):
        """Image (H,W,3) and label (H,W) of row i, copies that may be written to."""
        pixels = self.buffer.numpy()[self.offsets[i] : self.offsets[i + 1]].copy()
        height, width = self.shapes[i]
        label_start = 3 * height * width
        img = pixels[:label_start].reshape(height, width, 3)
        return img, pixels[label_start:].reshape(height, width)
