"""Files that are replaced whole or not at all, and CSV tables made of them."""

import csv
import fcntl
import os
import shutil
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replace_file(path, mode='w', is_synced=False, what='a file'):
    """A file to write to that becomes `path` at the end: a reader sees the old one or the new one.

    It is written beside `path`, and removed when the block fails. With is_synced it is on the disk
    before it takes the old file's place, so that a power cut leaves one of the two as well.
    """
    path = Path(path)
    tmp = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
    text = {} if 'b' in mode else {'encoding': 'utf-8', 'newline': ''}
    try:
        with tmp.open(mode, **text) as file:
            yield file
            if is_synced:
                file.flush()
                os.fsync(file.fileno())
        tmp.replace(path)
    except (OSError, RuntimeError) as error:  # torch.save wraps what its file says
        cause = error if isinstance(error, OSError) else error.__context__
        if isinstance(cause, OSError) and cause.errno:
            reason = f'{cause.strerror}, writing {what}'
            raise OSError(cause.errno, reason, str(path)) from error
        raise
    finally:
        tmp.unlink(missing_ok=True)
    if is_synced:
        sync_directory(path.parent)


def write_bytes(path, content):
    """Replaces a file by these bytes."""
    with replace_file(path, 'wb') as file:
        file.write(content)


def remove(path):
    """Removes a file, a link or a directory, if it is there; no link is followed."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sync_directory(directory):
    """Makes a rename in `directory` survive a power cut."""
    fd = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def read_rows(path):
    """The rows of a CSV file as dicts of strings; [] if there is no file."""
    if not Path(path).exists():
        return []
    with Path(path).open(newline='', encoding='utf-8') as file:
        return list(csv.DictReader(file))


def write_rows(path, rows):
    """Replaces a CSV file by the rows, dicts whose keys may differ; a missing value is blank."""
    with replace_file(path) as file:
        writer = csv.DictWriter(file, dict.fromkeys(name for row in rows for name in row), '')
        writer.writeheader()
        writer.writerows(rows)


def append_row(path, row):
    """Adds a row to a CSV file; processes that do so at the same time lose no row."""
    lock = Path(path).with_name(f'.{Path(path).name}.lock')  # its own: the file is replaced
    with lock.open('w') as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        write_rows(path, [*read_rows(path), row])
