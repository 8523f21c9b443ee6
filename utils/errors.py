"""User errors, said in one line. No torch here: the options need this before torch is imported."""

import difflib
import os
import re
import sys
from contextlib import contextmanager
from functools import cache
from pathlib import Path


class UserError(ValueError):
    """A mistake in what the user typed or prepared. One line: what, where and how to fix it."""

    exit_code = 2
    option = ''  # that got a name which its registry does not have


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
    error = UserError(f"unknown {option} '{name}'{hint}")
    error.option = option.removeprefix('--')
    raise error


@cache
def warn_once(line):
    """Prints a warning, the first time that it is given."""
    print(f'warning: {line}', file=sys.stderr)


def one_line(error):
    """An exception's text on one line."""
    return ' '.join(str(error).split())


def plural(number, noun):
    """'1 file', '2 files', '2 batches'."""
    ending = '' if number == 1 else 'es' if noun.endswith('tch') else 's'
    return f'{number} {noun}{ending}'


def list_some(names, most=8):
    """'a, b and 3 more': names for one line."""
    more = f' and {len(names) - most} more' if len(names) > most else ''
    return f'{", ".join(names[:most])}{more}'


@contextmanager
def one_line_errors():
    """Ends the program with one line and an exit code for what is no bug: a UserError's own code, 2
    for a number that is not finite, 1 for what the machine lacks, 130 for Ctrl-C.
    """
    open_streams()
    try:
        yield
    except (UserError, FloatingPointError) as error:
        # A DataLoader worker sends its error as a whole traceback, with the message last.
        end(str(error).rpartition('UserError: ')[2].strip(), getattr(error, 'exit_code', 2))
    except KeyboardInterrupt:
        print('stopped', file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        reason = explain_lack(error)
        if not reason:
            raise  # a bug, whose traceback is needed
        end(reason, 1)


def end(line, code):
    """Prints the line and ends the program."""
    # A DataLoader whose workers could not all be started complains when it is collected.
    sys.unraisablehook = lambda _: None
    print(f'error: {line}', file=sys.stderr)
    sys.exit(code)


def open_streams():
    """Opens closed streams on /dev/null, and escapes characters that they cannot encode."""
    for number, name in enumerate(('stdin', 'stdout', 'stderr')):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # else the next file that is opened gets the number
            setattr(sys, name, open(number, 'r' if name == 'stdin' else 'w', encoding='utf-8'))  # noqa: PTH123, SIM115
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, 'reconfigure'):
            stream.reconfigure(errors='backslashreplace')


# What the machine lacks: words of the error, and what to do. The first row that fits counts.
LACKS = {
    r'shared memory|/torch_\d|Bus error': 'shared memory is short ({shm} free in /dev/shm): '
    'give fewer --num_workers, 0 needs none; in docker --shm-size 8g',
    r'Too many open files|ancdata': 'this shell allows {handles} open files: `ulimit -n 4096`, or '
    'give fewer --num_workers',
    r'DataLoader worker.* (exited|killed)': 'if memory or open files are short ({memory} free, '
    '{handles} files allowed by `ulimit -n`), give fewer --num_workers; --num_workers 0 shows an '
    'error of its own',
    r'out of memory|MemoryError|not enough memory|Unable to allocate|Cannot allocate': 'memory is '
    'short ({memory} free): give a smaller --batch_size or --val_batch_size, more --accum, or a '
    'smaller --img_size',
    'FileNotFoundError.*, writing ': 'was the directory removed meanwhile?',
    'No space left|quota exceeded': '{disk} free there: make room or choose another disk',
    'File too large': 'this shell limits the size of files: `ulimit -f unlimited`',
    'Read-only file system|Permission denied|Operation not permitted|Not a directory': 'choose an '
    'output directory (--model_dir, --result_dir, --output_dir) that can be written to',
    'Input/output error|Stale file handle': 'check the disk or the network that it is on',
    "can't start new thread|Resource temporarily": 'this shell allows no more processes: '
    '`ulimit -u`, or give fewer --num_workers',
    'No usable temporary directory': 'set TMPDIR to a directory with space',
    'Broken pipe': 'the program that reads the output has ended',
    'UnicodeEncodeError|UnicodeDecodeError': 'names here are not ASCII: `export PYTHONUTF8=1`',
}


def explain_lack(error):
    """One line about what the machine lacks and what to do; '' for any other exception."""
    if not isinstance(error, OSError | RuntimeError | MemoryError | UnicodeError):
        return ''
    text = str(error).strip().rpartition('\n')[2]  # a worker sends a traceback, its message last
    place = Path(os.fsdecode(getattr(error, 'filename', None) or '.')).absolute().parent
    if isinstance(error, FileNotFoundError) and not place.exists():
        return f'{one_line(error)}: {place} is gone; was it removed meanwhile?'
    if isinstance(error, UnicodeError) and sys.getfilesystemencoding() == 'utf-8':
        return ''
    if isinstance(error, BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # it is flushed at the end
    words = f'{type(error).__name__}: {one_line(text)}'
    remedy = next((LACKS[row] for row in LACKS if re.search(row, words)), '')
    return f'{words[:300]}; {remedy.format(**measure(place))}' if remedy else ''


def measure(place):
    """{name: text} of what is free: on the disk of `place`, in /dev/shm, of memory and handles."""
    import resource  # these two for an error only
    import shutil

    paths = {'disk': place, 'shm': Path('/dev/shm')}
    free = {name: shutil.disk_usage(p).free if p.exists() else 0 for name, p in paths.items()}
    if 'SC_AVPHYS_PAGES' in os.sysconf_names:  # not on macOS
        free['memory'] = os.sysconf('SC_AVPHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
    texts = {name: f'{num_bytes / 1e6:.0f} MB' for name, num_bytes in free.items()}
    texts.setdefault('memory', 'little')
    return texts | {'handles': resource.getrlimit(resource.RLIMIT_NOFILE)[0]}
