"""A list file's rows, and everything that can be wrong with one, found before training starts."""

import csv
import os
import re
from pathlib import Path

import numpy as np

from utils.errors import UserError, plural
from utils.files import check_file, read_text

MAX_CHECKED = 100_000  # rows whose files are looked for; of more rows, a random sample
SEPARATOR = '\x1f'  # between a row's cells in memory


class ListFile:
    """The rows of a list as tuples of strings: text with one sample per line, or CSV with a header
    if the list's name ends in .csv.

    The first `num_paths` cells of a row are files, relative to `root` or, if that is blank, to the
    list's own directory; they are looked for here, so that a missing one is known at the start. The
    other cells stay as they are written. Columns of text are separated by white space, or by tabs
    if a path contains a space; blank lines and lines that begin with # are ignored.

    The rows are in one byte buffer: a million Python strings would be copied into every DataLoader
    worker, page by page, as their reference counts change.
    """

    raises = True  # for a missing file; data.check names all instead

    def __init__(self, path, root='', num_paths=2, num_columns=None):
        """`num_columns` is how many cells a row must have; None: as many as the first row."""
        if Path(path).is_dir():
            advice = '`python -m data.make_list IMAGES LABELS` makes lists of two folders'
            raise UserError(f'list {Path(path).absolute()} is a directory: {advice}')
        self.path = Path(path)
        self.root, self.num_paths = str(root or self.path.parent), num_paths
        parse = self._parse_csv if self.path.suffix.lower() == '.csv' else self._parse_text
        rows, self.line_numbers = self._check_columns(parse(), num_columns)
        self.offsets = np.cumsum([0, *map(len, rows)])
        self.buffer = np.frombuffer(b''.join(rows), dtype=np.uint8)
        self.row_bytes, self.row_times = self._check_files()

    def __len__(self):
        return len(self.offsets) - 1

    def entry(self, i):
        """Row i as it is written, a tuple of strings."""
        row = self.buffer[self.offsets[i] : self.offsets[i + 1]].tobytes()
        return tuple(row.decode().split(SEPARATOR))

    def __getitem__(self, i):
        cells = self.entry(i)
        paths = [os.path.join(self.root, cell) for cell in cells[: self.num_paths]]  # noqa: PTH118
        return (*paths, *cells[self.num_paths :])

    def list_images(self):
        """Yields the absolute path of each row's first cell, as plain as it can be written."""
        root = os.path.abspath(self.root)  # noqa: PTH100
        for i in range(len(self)):
            yield os.path.normpath(os.path.join(root, self.entry(i)[0]))  # noqa: PTH118

    def _parse_text(self):
        for number, line in enumerate(read_text(self.path, 'list').splitlines(), 1):
            line = line.strip()
            if line and line[0] != '#':
                yield number, self.split_line(line)

    def split_line(self, line):
        """The cells of a line of text."""
        return [c.strip() for c in line.split('\t')] if '\t' in line else line.split()

    def _parse_csv(self):
        text = read_text(self.path, 'list')
        delimiter = max(',;\t', key=text.lstrip().partition('\n')[0].count)
        reader = csv.reader(text.splitlines(), delimiter=delimiter)
        rows = ((reader.line_num, [cell.strip() for cell in row]) for row in reader if row)
        _, header = next(rows, (1, ['']))
        is_file = Path(self.root, header[0]).is_file()
        if is_file or re.search(r'\.(png|jpe?g|tiff?|bmp|webp|npy)$', header[0], re.IGNORECASE):
            raise UserError(f'{self.path}:1: expected a header such as image,label, got a sample')
        yield from rows

    def _check_columns(self, numbered_rows, num_columns):
        rows, numbers = [], []
        for number, row in numbered_rows:
            num_columns = num_columns or max(len(row), self.num_paths)
            if len(row) != num_columns:
                text = ' '.join(row)[:80]
                is_csv = self.path.suffix.lower() == '.csv'
                hint = '' if is_csv else '; separate paths that hold spaces with tabs'
                if len(row) == 1 and ',' in text:
                    hint = '; for comma-separated columns name the list .csv and add a header'
                example = ' ("image label")' if num_columns == 2 else ''
                columns = f'{plural(num_columns, "column")}{example}'
                raise UserError(f"{self.path}:{number}: expected {columns}, got '{text}'{hint}")
            rows.append(SEPARATOR.join(row).encode())
            numbers.append(number)
        if not rows:
            raise UserError(f'list {self.path.absolute()} contains no samples')
        return rows, np.array(numbers)

    def _check_files(self):
        """(2,N) int64: of the files that each row names, their bytes and their latest change in
        nanoseconds; 0 for a row that is not looked at.
        """
        facts, faults, checked = np.zeros((2, len(self)), np.int64), [], range(len(self))
        if len(self) > MAX_CHECKED:
            checked = np.random.default_rng(0).choice(len(self), MAX_CHECKED, replace=False)
            print(f'{self.path}: looking for the files of {MAX_CHECKED} of {len(self)} rows')
        for i in checked:
            for path in self[i][: self.num_paths]:
                try:
                    file = check_file(path, 'file')
                    facts[0, i] += file.st_size
                    facts[1, i] = max(facts[1, i], file.st_mtime_ns)
                except UserError as error:
                    faults.append(f'line {self.line_numbers[i]}: {error}')
        if faults and self.raises:
            shown = '; '.join(faults[:5])
            raise UserError(f'list {self.path}: {len(faults)} files cannot be read: {shown}')
        return facts


def count_overlap(one, other):
    """How many first columns (images) two ListFiles have in common."""
    images = {*one.list_images()}
    return sum(image in images for image in other.list_images())
