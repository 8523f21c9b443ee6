"""The project's source files: a copy for every run, and what git knows of them."""

import ast
import difflib
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

ROOT = Path(__file__).absolute().parent.parent
MAX_SOURCE_BYTES = 256 * 1024  # a larger text file is no source
SUFFIXES = ('.py', '.yaml', '.yml', '.cfg', '.ini', '.c', '.cc', '.cpp', '.cu', '.cuh', '.h')
SCRIPT_SUFFIXES = ('.sh', '.toml')  # copied too, but nothing that is evaluated reads them
NO_SOURCES = ('checkpoints', '__pycache__', 'site-packages')
STDLIB = f'{sysconfig.get_path("stdlib")}/'  # in this directory, when a conda environment is
MARKS = ('run.json', 'pyvenv.cfg')  # of a run directory and a virtual environment
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


def read_sources(root=ROOT, others=()):
    """{path: text} of the code: what git tracks or would track, all of it where there is no git.

    That is text up to MAX_SOURCE_BYTES: all of it in model/, elsewhere files of the suffixes above,
    in data/ of Python alone, so that a data set beside the code is not read. Nothing hidden, no run
    directory, no virtual environment, and no other text, which may be a log or a key. `others` are
    names to look at besides: of code that was kept before.
    """
    listed = run_git('ls-files', '-z', '-co', '--exclude-standard') if root == ROOT else ''
    names = sorted({*(listed.split('\0')[:-1] or find_files(root)), *others})
    marks = [name.rpartition('/') for name in names]
    foreign = tuple(f'{place}/' for place, _, file in marks if place and file in MARKS)
    texts = {name: read_source(root, name) for name in names if not name.startswith(foreign)}
    return {name: text for name, text in texts.items() if text is not None}


def find_files(root):
    """Names of the files under root, without hidden directories."""
    for directory, subdirs, files in os.walk(root):
        subdirs[:] = [d for d in subdirs if d[0] != '.' and d not in NO_SOURCES]
        yield from ((Path(directory) / file).relative_to(root).as_posix() for file in files)


def read_imported(sources):
    """{path: text} of what runs from this directory but is not among the sources.

    That is code that git ignores or that a link or a submodule leads to, once it is imported.
    """
    texts = {name: read_source(ROOT, name) for name in list_imported() - sources.keys()}
    lost = sorted(name for name, text in texts.items() if text is None)
    if lost:
        limit = f'only UTF-8 files up to {MAX_SOURCE_BYTES // 1024} KB are'
        line = f'neither stored nor compared, though it runs: {", ".join(lost)} ({limit})'
        print(f'warning: {line}', file=sys.stderr)
    return {name: text for name, text in texts.items() if text is not None}


def list_imported():
    """The names of the Python files in this directory that run in this process."""
    files = [getattr(module, '__file__', None) or '' for module in list(sys.modules.values())]
    files.append(str(Path(sys.argv[0]).resolve()))  # the script's own __file__ may be a detour
    own = [file for file in files if not file.startswith(STDLIB)]
    names = [file.removeprefix(f'{ROOT}/') for file in own if file.startswith(f'{ROOT}/')]
    return {name for name in names if name.endswith('.py') and not is_foreign(name)}


def is_foreign(name):
    """Whether a path is hidden, in a run directory or an installed package."""
    return any(part[0] == '.' or part in NO_SOURCES for part in Path(name).parts)


def read_source(root, name):
    """A source file's text; None for anything else."""
    path, parts = Path(root) / name, Path(name).parts
    if is_foreign(name):
        return None
    suffixes = ('.py',) if parts[0] == 'data' else SUFFIXES + SCRIPT_SUFFIXES
    if not (path.suffix in suffixes or parts[0] == 'model' or name == 'requirements.txt'):
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


def run_snapshot(script, sources, run_dir, argv):
    """Runs a script of the sources as they were, from this directory; returns its exit code."""
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(run_dir) / SNAPSHOT
        if read_sources(directory) != sources:  # of another epoch, or without its run directory
            directory = Path(temporary)
            write_sources(sources, directory)
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
        if before == after or not (name.endswith(SUFFIXES) or name.startswith('model/')):
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
