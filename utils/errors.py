"""User errors, said in one line. No torch here: the options need this before torch is imported."""

import difflib
import os
import sys
from contextlib import contextmanager
from pathlib import Path


class UserError(ValueError):
    """A mistake in what the user typed or prepared. One line: what, where and how to fix it."""

    exit_code = 2


class UnknownNameError(UserError):
    """--`option` got a name that its registry does not have."""

    def __init__(self, message, option):
        super().__init__(message)
        self.option = option


class BusyError(UserError):
    """Another process trains this run; scripts that share work move on to the next one."""

    exit_code = 4


def nearest(name, names):
    """'; did you mean 'x'?' for the name most like `name`, or ''."""
    close = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean '{close[0]}'?" if close else ''


def choose(registry, name, option, file):
    """registry[name]; the error for an unknown name lists what `file` has and the nearest name."""
    if name in registry:
        return registry[name]
    hint = f'{nearest(name, registry)} ({file} has {", ".join(registry)})'
    raise UnknownNameError(f"unknown --{option} '{name}'{hint}", option)


def one_line(error):
    """An exception's text on one line."""
    return ' '.join(str(error).split())


def plural(number, noun):
    """'1 file', '2 files', '2 batches'."""
    ending = '' if number == 1 else 'es' if noun.endswith('tch') else 's'
    return f'{number} {noun}{ending}'


@contextmanager
def one_line_errors(when_stopped='stopped'):
    """Ends the program with one line and an exit code: a UserError's own, 2 for a non-finite loss,
    130 for Ctrl-C.
    """
    try:
        yield
    except (UserError, FloatingPointError) as error:
        # A DataLoader worker sends its error as a whole traceback, with the message last.
        print(f'error: {str(error).rpartition("UserError: ")[2].strip()}', file=sys.stderr)
        sys.exit(getattr(error, 'exit_code', 2))
    except KeyboardInterrupt:
        print(when_stopped, file=sys.stderr)
        sys.exit(130)


def check_readable(path, what):
    """`path` as a Path; UserError says why no file can be read there."""
    path = Path(path)
    try:
        with path.open('rb') as file:
            if os.fstat(file.fileno()).st_size:
                return path
        reason = 'is empty'
    except FileNotFoundError:
        reason = 'does not exist'
    except IsADirectoryError:
        reason = 'is a directory, expected a file'
    except OSError as error:
        reason = f'cannot be read: {error.strerror}'
    raise UserError(f'{what} {path.absolute()} {reason}')
