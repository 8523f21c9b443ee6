"""CSV files whose columns may come and go, and that a reader never sees half written."""

import csv
import fcntl
from pathlib import Path

from utils.files import replace_file


def read_rows(path):
    """The rows as dicts of strings; [] where there is no file."""
    if not Path(path).exists():
        return []
    with Path(path).open(newline='', encoding='utf-8') as file:
        return list(csv.DictReader(file))


def write_rows(path, rows):
    """Replaces the file by the rows, dicts; a row without a column leaves it blank."""
    with replace_file(path) as file:
        writer = csv.DictWriter(file, dict.fromkeys(name for row in rows for name in row), '')
        writer.writeheader()
        writer.writerows(rows)


def append_row(path, row):
    """Adds a row to the file; of several processes that do so at once, none loses its row."""
    lock = Path(path).with_name(f'.{Path(path).name}.lock')  # its own: the file is replaced
    with lock.open('w') as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        write_rows(path, [*read_rows(path), row])
