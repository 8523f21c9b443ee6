"""CSV files whose columns may come and go, and that a reader never sees half written."""

import csv
import fcntl
import os
from pathlib import Path


def read_rows(path):
    """The rows as dicts of strings; [] where there is no file."""
    if not Path(path).exists():
        return []
    with Path(path).open(newline='', encoding='utf-8') as file:
        return list(csv.DictReader(file))


def write_rows(path, rows):
    """Replaces the file by the rows, dicts; a row without a column leaves it blank."""
    tmp = Path(path).with_name(f'.{Path(path).name}.{os.getpid()}.tmp')
    with tmp.open('w', newline='', encoding='utf-8') as file:
        writer = csv.DictWriter(file, dict.fromkeys(name for row in rows for name in row), '')
        writer.writeheader()
        writer.writerows(rows)
    tmp.replace(path)


def append_row(path, row):
    """Adds a row to the file; of several processes that do so at once, none loses its row."""
    lock = Path(path).with_name(f'.{Path(path).name}.lock')  # its own: the file is replaced
    with lock.open('w') as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        write_rows(path, [*read_rows(path), row])
