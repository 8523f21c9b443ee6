"""What the user got wrong, said in one line. No torch here: the options need it before torch."""

import difflib
import os
import shutil
import sys
from contextlib import contextmanager
from pathlib import Path


class UserError(ValueError):
    """A mistake in what the user typed or prepared. One line: what, where, how to mend it."""

    exit_code = 2


class UnknownNameError(UserError):
    """A table does not have `name`."""

    def __init__(self, message, name):
        super().__init__(message)
        self.name = name


class BusyError(UserError):
    """Another process does it already; scripts that share work pass on to the next."""

    exit_code = 4


def nearest(name, names):
    """'; did you mean 'x'?' for the name most like `name`, or ''."""
    close = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean '{close[0]}'?" if close else ''


def choose(table, name, option, file):
    """table[name]; an unknown name gives the names that `file` holds and the nearest one."""
    if name in table:
        return table[name]
    names = ', '.join(table)
    message = f"unknown --{option} '{name}'{nearest(name, table)} ({file} has {names})"
    raise UnknownNameError(message, name)


def one_line(error):
    """An exception's text on one line."""
    return ' '.join(str(error).split())


def count(number, noun):
    """'1 file', '2 files'."""
    return f'{number} {noun}{"s" * (number != 1)}'


@contextmanager
def one_line_errors(when_stopped='stopped'):
    """Ends the program with one line and an exit code: a UserError's own, 2 for a loss that is no
    number, 130 for Ctrl-C.
    """
    try:
        yield
    except (UserError, FloatingPointError) as error:
        # A DataLoader worker sends its error as a whole traceback, the message last.
        print(f'error: {str(error).rpartition("UserError: ")[2].strip()}', file=sys.stderr)
        sys.exit(getattr(error, 'exit_code', 2))
    except KeyboardInterrupt:
        print(when_stopped, file=sys.stderr)
        sys.exit(130)


@contextmanager
def undo_on_error(directory, is_new):
    """Takes a new directory away again when an error leaves it empty, or it is a UserError and
    comes before the first checkpoint.
    """
    try:
        yield
    except BaseException as error:
        is_empty = not [path for path in directory.glob('*') if path.name != '.lock']
        is_mistake = isinstance(error, UserError) and not list(directory.glob('*.pth'))
        if is_new and (is_empty or is_mistake):
            shutil.rmtree(directory, ignore_errors=True)
        raise


def check_readable(path, what):
    """`path` as a Path, or the one line that says why no file can be read there."""
    path = Path(path)
    try:
        with path.open('rb') as file:
            if os.fstat(file.fileno()).st_size:
                return path
        reason = 'is empty'
    except FileNotFoundError:
        reason = 'does not exist'
    except IsADirectoryError:
        reason = 'is a directory, a file is wanted'
    except OSError as error:
        reason = f'cannot be read: {error.strerror}'
    raise UserError(f'{what} {path.absolute()} {reason}')
