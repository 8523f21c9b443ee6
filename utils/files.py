"""Files that are checked before they are read, and replaced whole or not at all; CSV tables."""

import csv
import fcntl
import os
import re
import shutil
import stat
import unicodedata
from contextlib import contextmanager, suppress
from pathlib import Path

from utils.errors import UserError

LFS_POINTER = b'version https://git-lfs'
csv.field_size_limit(2**30)  # characters: a mask in a cell is long


def check_readable(path, what):
    """`path` as a Path; UserError says why no file can be read there."""
    path = Path(path)
    if check_file(path, what).st_size < 1000:
        with path.open('rb') as file:
            if file.read(len(LFS_POINTER)) == LFS_POINTER:
                advice = 'is only a pointer of Git LFS: run `git lfs pull`'
                raise UserError(f'{what} {path.absolute()} {advice}')
    return path


def check_file(path, what):
    """The os.stat_result of a file that can be read; UserError says why it cannot. The file is not
    opened: of a million, that would take minutes.
    """
    try:
        facts = os.stat(path)  # noqa: PTH116
        if stat.S_ISDIR(facts.st_mode):
            reason = 'is a directory, expected a file'
        elif not stat.S_ISREG(facts.st_mode):
            reason = 'is not a regular file'
        elif not facts.st_size:
            reason = 'is empty'
        elif not os.access(path, os.R_OK):
            reason = 'cannot be read: Permission denied'
        else:
            return facts
    except OSError as error:
        reason = explain_missing(str(path), error)
    raise UserError(f'{what} {Path(path).absolute()} {reason}')


def explain_missing(path, error):
    """Why a file is not found, and what to do if another spelling of the path exists."""
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        return f'cannot be read: {error.strerror}'
    if '\\' in path:
        return 'does not exist; write / instead of \\'
    if re.search(r'\w\w:/', path):
        return 'does not exist; a URL must be downloaded first'
    forms = {unicodedata.normalize(form, path) for form in ('NFC', 'NFD')} - {path}
    if any(Path(form).exists() for form in forms):
        return 'does not exist, but it does in another Unicode form (NFC, NFD): rename one of them'
    return 'does not exist'


def read_text(path, what):
    """The text of a file that somebody wrote, in UTF-8 or, as PowerShell writes, UTF-16."""
    content = check_readable(path, what).read_bytes()
    is_utf16 = content[:2] in (b'\xff\xfe', b'\xfe\xff')
    try:
        text = content.decode('utf-16' if is_utf16 else 'utf-8-sig')
    except UnicodeDecodeError as error:
        line = content.count(b'\n', 0, error.start) + 1
        reason = f'byte {error.start} is not UTF-8 text; save the {what} as UTF-8'
        raise UserError(f'{path}:{line}: {reason}') from error
    if '\0' in text:
        line = text.count('\n', 0, text.index('\0')) + 1
        raise UserError(f'{path}:{line}: contains a NUL character; save the {what} as UTF-8')
    return text


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
    """Makes a rename in `directory` survive a power cut, on file systems that can do so."""
    fd = os.open(directory, os.O_RDONLY)
    with suppress(OSError):
        os.fsync(fd)
    os.close(fd)


def read_rows(path):
    """The rows of a CSV file as dicts of strings; [] if there is no file."""
    if not Path(path).exists():
        return []
    with Path(path).open(newline='', encoding='utf-8-sig', errors='replace') as file:
        # A power cut may leave NUL characters, which csv refuses before Python 3.11.
        rows = csv.DictReader(line.replace('\0', '') for line in file)
        return [{k: v for k, v in row.items() if k is not None} for row in rows]  # None: no header


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
