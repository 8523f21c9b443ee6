"""A list file's rows, and everything that can be wrong with one, found before training starts."""

from pathlib import Path

import numpy as np

from utils.errors import UserError, check_readable


class ListFile:
    """The rows of a text file that names one sample per line, as tuples of path strings.

    Columns are separated by white space or, where a path holds a space, by tabs. Paths are relative
    to `root` or, when that is blank, to the list's own directory. Blank lines and lines that begin
    with # are ignored. Every file is looked for, so that a missing one is known at the start.

    The rows lie in one byte buffer: a million Python strings would be copied into every loading
    process, page by page, as their reference counts change.
    """

    def __init__(self, path, root='', columns=('image', 'label')):
        self.path = check_readable(path, 'list')
        self.root = Path(root) if root else self.path.parent
        self.columns = columns
        rows, self.line_numbers = self._parse()
        self.offsets = np.cumsum([0, *map(len, rows)])
        self.buffer = np.frombuffer(b''.join(rows), dtype=np.uint8)
        self.row_bytes = self._check_files()

    def __len__(self):
        return len(self.offsets) - 1

    def entry(self, i):
        """Row i as it is written, a tuple of strings."""
        row = self.buffer[self.offsets[i] : self.offsets[i + 1]].tobytes()
        return tuple(row.decode().split('\t'))

    def __getitem__(self, i):
        return tuple(str(self.root / column) for column in self.entry(i))

    def _parse(self):
        rows, line_numbers = [], []
        for number, line in enumerate(self._read_text().splitlines(), 1):
            line = line.strip()
            if not line or line.startswith('#'):
                continue
            row = [c.strip() for c in line.split('\t')] if '\t' in line else line.split()
            if len(row) != len(self.columns):
                expected = ' '.join(self.columns)
                hint = '; separate paths that hold spaces by tabs' if '\t' not in line else ''
                raise UserError(
                    f'{self.path}:{number}: expected "{expected}", got \'{line}\'{hint}'
                )
            rows.append('\t'.join(row).encode())
            line_numbers.append(number)
        if not rows:
            raise UserError(f'list {self.path.absolute()} names no sample')
        return rows, np.array(line_numbers)

    def _read_text(self):
        content = self.path.read_bytes()
        try:
            return content.decode('utf-8-sig')
        except UnicodeDecodeError as error:
            line = content.count(b'\n', 0, error.start) + 1
            reason = f'byte {error.start} is not UTF-8 text; is this a list file?'
            raise UserError(f'{self.path}:{line}: {reason}') from error

    def _check_files(self):
        """(N,) int64: the bytes of the files that each row names."""
        num_bytes, faults = np.zeros(len(self), np.int64), []
        for i in range(len(self)):
            for path in self[i]:
                try:
                    num_bytes[i] += check_readable(path, 'file').stat().st_size
                except UserError as error:
                    faults.append(f'line {self.line_numbers[i]}: {error}')
        if faults:
            shown = '; '.join(faults[:5])
            raise UserError(f'list {self.path}: {len(faults)} files cannot be read: {shown}')
        return num_bytes


def count_overlap(one, other):
    """How many first columns (images) two ListFiles have in common."""
    images = {one[i][0] for i in range(len(one))}
    return sum(other[i][0] in images for i in range(len(other)))
