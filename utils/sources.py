"""The project's source files: a copy for every run, and what git knows of them."""

import ast
import difflib
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MAX_SOURCE_BYTES = 256 * 1024  # a larger text file is no source
SUFFIXES = ('.py', '.yaml', '.yml', '.cfg', '.ini', '.c', '.cc', '.cpp', '.cu', '.cuh', '.h')
SCRIPT_SUFFIXES = ('.sh', '.toml')  # copied too, but nothing that is evaluated reads them
NO_SOURCES = ('checkpoints', '__pycache__')
SNAPSHOT = 'code'  # its name in a run directory


def run_git(*command):
    """What a git command prints; '' where there is no git or no repository."""
    try:
        process = subprocess.run(['git', '-C', ROOT, *command], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ''
    return process.stdout.decode(errors='replace')


def get_git_state():
    """{'commit', 'branch', 'is_dirty'} of the code that runs; None where git does not track it."""
    if not run_git('ls-files', 'options.py'):
        return None
    return {
        'commit': run_git('rev-parse', 'HEAD').strip(),
        'branch': run_git('rev-parse', '--abbrev-ref', 'HEAD').strip(),
        'is_dirty': bool(run_git('status', '--porcelain', '--', '.')),
    }


def read_sources(root=ROOT):
    """{path: text} of the code: what git tracks or would track, all of it where there is no git.

    That is text up to MAX_SOURCE_BYTES in the root and in model/; elsewhere files of the suffixes
    above, in data/ of Python alone, so that a data set beside the code is not read. Nothing hidden,
    no run directory.
    """
    listed = run_git('ls-files', '-z', '-co', '--exclude-standard') if root == ROOT else ''
    names = sorted(set(listed.split('\0')[:-1] or find_files(root)))
    runs = tuple(name.removesuffix('run.json') for name in names if name.endswith('/run.json'))
    texts = {name: read_source(root, name) for name in names if not name.startswith(runs)}
    return {name: text for name, text in texts.items() if text is not None}


def find_files(root):
    """Names of the files under root, without hidden directories and virtual environments."""
    for directory, subdirs, files in os.walk(root):
        here = Path(directory)
        subdirs[:] = [d for d in subdirs if d[0] != '.' and d not in NO_SOURCES]
        if 'pyvenv.cfg' in files:
            subdirs.clear()
            continue
        yield from ((here / file).relative_to(root).as_posix() for file in files)


def read_source(root, name):
    """A source file's text; None for anything else."""
    path, parts = root / name, Path(name).parts
    if any(part in NO_SOURCES or part[0] == '.' for part in parts):
        return None
    suffixes = ('.py',) if parts[0] == 'data' else SUFFIXES + SCRIPT_SUFFIXES
    if len(parts) > 1 and parts[0] != 'model' and path.suffix not in suffixes:
        return None
    if not path.is_file() or path.stat().st_size > MAX_SOURCE_BYTES:
        return None
    content = path.read_bytes()
    try:
        return None if b'\0' in content else content.decode()
    except UnicodeDecodeError:
        return None


def write_sources(sources, directory):
    """Makes `directory` hold the sources and nothing else."""
    if read_sources(directory) == sources:
        return  # it may be the very code that runs
    shutil.rmtree(directory, ignore_errors=True)
    for name, text in sources.items():
        path = Path(directory) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding='utf-8', newline='')


@contextmanager
def unpack_sources(sources, run_dir):
    """A directory that holds just these sources: the run's own copy where it is still the same."""
    snapshot = Path(run_dir) / SNAPSHOT
    if read_sources(snapshot) == sources:
        yield snapshot
        return
    with tempfile.TemporaryDirectory() as directory:
        write_sources(sources, directory)
        yield Path(directory)


def run_snapshot(script, sources, run_dir, argv):
    """Runs a script of the sources as they were, from this directory; returns its exit code."""
    with unpack_sources(sources, run_dir) as directory:
        print(f'with the code in {directory}', flush=True)
        # -B: no compiled files, so that the copy stays what it is
        return subprocess.call([sys.executable, '-B', directory / script, *argv])


def compare_sources(old, new):
    """[(name, lines added, lines removed, is_layout)] of the files that differ.

    is_layout: they are Python and differ in comments and layout alone.
    """
    changes = []
    for name in sorted(old.keys() | new.keys()):
        before, after = old.get(name, ''), new.get(name, '')
        if not name.endswith(SUFFIXES) or before == after:
            continue
        diff = list(difflib.unified_diff(before.splitlines(), after.splitlines(), n=0))[2:]
        signs = [line[0] for line in diff]
        changes.append((name, signs.count('+'), signs.count('-'), is_same_code(before, after)))
    return changes


def is_same_code(before, after):
    """Whether two Python sources differ in comments and layout alone."""
    try:
        return ast.dump(ast.parse(before)) == ast.dump(ast.parse(after))
    except SyntaxError:
        return False


def is_running(name):
    """Whether a source file runs in this process; of one that is no Python it is not known."""
    files = [getattr(module, '__file__', None) or '' for module in list(sys.modules.values())]
    found = [file for file in files if file.endswith(name) and Path(file).resolve() == ROOT / name]
    return bool(found) or not name.endswith('.py')
