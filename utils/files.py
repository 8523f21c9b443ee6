"""Files that are replaced whole or not at all."""

import os
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replace_file(path, mode='w', is_synced=False):
    """A file to write to that becomes `path` at the end: a reader sees the old one or the new one.

    It is written beside `path`, and removed when the block fails. With is_synced the new one is on
    the disk before it takes the old one's place, so that a power cut leaves one of the two as well.
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
    finally:
        tmp.unlink(missing_ok=True)
    if is_synced:
        sync_directory(path.parent)


def sync_directory(directory):
    """Makes a rename in `directory` survive a power cut."""
    fd = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
