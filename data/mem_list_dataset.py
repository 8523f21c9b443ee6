"""The samples of ListDataset, or of any dataset with its `read`, decoded once into memory."""

from multiprocessing import get_start_method

import numpy as np
import torch

from data.list_dataset import ListDataset
from data.list_file import ListFile
from utils.errors import UserError

CHUNK_BYTES = 2**26  # pixels of many samples share a block of memory: few file handles


class InMemory:
    """Keeps what a dataset class reads: `class Mine(InMemory, MyDataset)`.

    What `read` returns, arrays of any dtype and numbers, is in memory that DataLoader workers see
    without a copy: forked ones see all, others what is shared. Augmentation still differs each
    epoch.
    """

    def __init__(self, args, list_path, is_train):
        super().__init__(args, list_path, is_train)
        self.index, self.chunks, pending = [], [], []
        for i in range(len(self) if ListFile.raises else 0):  # data.check reads row by row
            values = super().read(i)
            if not all(isinstance(v, np.ndarray | np.number | int | float) for v in values):
                kinds = ', '.join(type(value).__name__ for value in values)
                kind = type(self).__name__
                raise UserError(f'{kind} cannot keep {kinds} in memory: use a dataset without it')
            arrays = [np.ascontiguousarray(v) if np.ndim(v) else v for v in values]
            self.index.append([self._add(pending, v) if np.ndim(v) else v for v in arrays])
        self._flush(pending)

    def read(self, i):
        """The image and the label of row i, copies that may be written to."""
        if not self.index:
            return super().read(i)
        return tuple(self._get(*v) if isinstance(v, tuple) else v for v in self.index[i])

    def _add(self, pending, array):
        if sum(part.nbytes for part in pending) + array.nbytes > CHUNK_BYTES:
            self._flush(pending)
        start = sum(part.nbytes for part in pending)
        pending.append(array)
        return len(self.chunks), start, array.nbytes, array.shape, array.dtype.str

    def _flush(self, pending):
        if pending:
            chunk = np.concatenate([array.view(np.uint8).ravel() for array in pending])
            chunk = torch.from_numpy(chunk)
            is_forked = not self.args.num_workers or get_start_method() == 'fork'
            self.chunks.append(chunk if is_forked else chunk.share_memory_())
            pending.clear()

    def _get(self, chunk, start, num_bytes, shape, dtype):
        content = self.chunks[chunk].numpy()[start : start + num_bytes].copy()
        return content.view(dtype).reshape(shape)


class MemListDataset(InMemory, ListDataset):
    """A ListDataset in memory."""
