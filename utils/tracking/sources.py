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

from utils.errors import UserError, warn_once

ROOT = Path(__file__).absolute().parent.parent.parent
MAX_SOURCE_BYTES = 256 * 1024  # a larger text file is not source code
COMPARED = ('.py', '.yaml', '.yml', '.cfg', '.ini', '.c', '.cc', '.cpp', '.cu', '.cuh', '.h')
COPIED = (*COMPARED, '.sh', '.toml', 'requirements.txt')
PAGES = ('.html', '.css', '.js')  # templates; elsewhere pages may be results
SUFFIXES = {'data': ('.py',), 'utils': COPIED + PAGES, 'scripts': COPIED + PAGES}
NO_SOURCES = ('checkpoints', '__pycache__', 'site-packages')
MARKS = ('run.json', 'pyvenv.cfg')  # of a run directory and a virtual environment
STDLIB = f'{sysconfig.get_path("stdlib")}/'  # inside this directory if a conda environment is


def run_git(*command):
    """The output of a git command; '' without git or without a repository."""
    try:
        git = 'git', '--no-optional-locks', '-C', ROOT
        process = subprocess.run([*git, *command], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ''
    return process.stdout.decode(errors='replace')


def get_git_state():
    """{'commit', 'branch', 'is_dirty'} of the code that runs; None if git does not track it."""
    if not run_git('ls-files', 'options.py'):
        return None
    return {
        'commit': run_git('rev-parse', 'HEAD').strip(),
        'branch': run_git('rev-parse', '--abbrev-ref', 'HEAD').strip(),
        'is_dirty': bool(run_git('status', '--porcelain', '--', '.')),
    }


def read_sources(root=ROOT):
    """{path: text} of the code that git tracks or would track; without git, of all code in root.

    Code is every text file in model/ and, elsewhere, text files with the suffixes above; in folders
    of data/ only Python, so that a dataset stored there is not read. Hidden files, run directories
    and virtual environments are left out. Pages are code in utils/ and scripts/ only.
    """
    listed = run_git('ls-files', '-z', '-co', '--exclude-standard') if root == ROOT else ''
    names = sorted(listed.split('\0')[:-1] or find_files(root))
    marks = [name.rpartition('/') for name in names]
    foreign = tuple(f'{place}/' for place, _, file in marks if place and file in MARKS)
    return read_code([name for name in names if not name.startswith(foreign)], root)


def find_files(root):
    """Names of the files under root, without hidden directories."""
    for directory, subdirs, files in os.walk(root):
        subdirs[:] = [d for d in subdirs if d[0] != '.' and d not in NO_SOURCES]
        yield from ((Path(directory) / file).relative_to(root).as_posix() for file in files)


def read_code(names, root=ROOT):
    """{name: text} of those files under root that are code."""
    texts = {name: read_source(root, name) for name in names}
    return {name: text for name, text in texts.items() if text is not None}


def read_source(root, name):
    """A source file's text; None for any other file."""
    path, parts = Path(root) / name, Path(name).parts
    suffixes = SUFFIXES.get(parts[0], COPIED) if parts[:-1] != ('data',) else COPIED
    if is_foreign(name) or not (name.endswith(suffixes) or parts[0] == 'model'):
        return None
    if not path.is_file() or path.stat().st_size > MAX_SOURCE_BYTES:
        return None
    content = path.read_bytes()
    try:
        return None if b'\0' in content else content.decode()
    except UnicodeDecodeError:
        return None


def is_foreign(name):
    """Whether a path is hidden, or in a run directory or an installed package."""
    return any(part[0] == '.' or part in NO_SOURCES for part in Path(name).parts)


def read_imported(sources):
    """{path: text} of the imported modules in this directory that are not among the sources.

    Git may ignore them, or they may lie behind a link or in a submodule.
    """
    texts = read_code(names := list_imported() - sources.keys())
    if lost := sorted(names - texts.keys()):
        limit = f'only UTF-8 files up to {MAX_SOURCE_BYTES // 1024} KB are'
        line = f'imported, but neither stored nor compared: {", ".join(lost)} ({limit})'
        warn_once(line)
    return texts


def list_imported():
    """The names of the Python files in this directory that this process has imported."""
    files = [getattr(module, '__file__', None) or '' for module in list(sys.modules.values())]
    files.append(str(Path(sys.argv[0]).resolve()))  # __file__ of the script may be a symbolic link
    own = [f for f in files if f.startswith(f'{ROOT}/') and not f.startswith(STDLIB)]
    names = {file.removeprefix(f'{ROOT}/') for file in own if file.endswith('.py')}
    return {name for name in names if not is_foreign(name)}


def write_sources(sources, directory):
    """Makes `directory` hold the sources and nothing else; UserError for a name outside of it."""
    directory = Path(directory)
    if directory.is_symlink():
        directory.unlink()  # never followed
    if read_sources(directory) == sources:
        return  # it may be the very code that runs
    for name in sources:
        if Path(name).is_absolute() or '..' in Path(name).parts:
            raise UserError(f"stored code '{name}' lies outside the project: not written")
    shutil.rmtree(directory, ignore_errors=True)
    for name, text in sources.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding='utf-8', newline='')


def run_copy(script, sources, directory, argv):
    """Runs a script of the stored sources, if `directory` does not hold just these in a temporary
    one; returns its exit code.
    """
    with tempfile.TemporaryDirectory() as temporary:
        if read_sources(directory) != sources:  # of another epoch, or without its run directory
            directory = Path(temporary)
            write_sources(sources, directory)
        print(f'running the code in {directory}', flush=True)
        # -B: no compiled files, so that the copy stays what it is
        return subprocess.call([sys.executable, '-B', directory / script, *argv])


def write_diff(path, git_state):
    """Writes what git shows as changed since the commit; no file if there is nothing. Files that
    are too large for source code are left out.
    """
    options = ('--no-ext-diff', '--no-color', '--relative', 'HEAD', '--')
    listed = run_git('diff', '--name-only', '-z', *options, '.') if git_state else ''
    changed = [ROOT / name for name in listed.split('\0')[:-1]]
    small = [p for p in changed if not p.exists() or p.stat().st_size <= MAX_SOURCE_BYTES]
    diff = run_git('diff', *options, *small) if small else ''
    path.unlink(missing_ok=True)
    if diff:
        path.write_text(diff, encoding='utf-8')


def compare_sources(stored, current):
    """[(name, lines added, lines removed)] of the code files that differ in more than layout."""
    changes = []
    for name in sorted(stored.keys() | current.keys()):
        texts = stored.get(name, ''), current.get(name, '')
        is_code = name.endswith(COMPARED) or name.startswith('model/')
        is_same = is_same_code if name.endswith('.py') else str.__eq__  # '#define' is no comment
        if is_code and not is_same(*texts):
            diff = difflib.unified_diff(*(text.splitlines() for text in texts), n=0)
            signs = [line[0] for line in list(diff)[2:]]
            changes.append((name, signs.count('+'), signs.count('-')))
    return changes


def is_same_code(stored, current):
    """Whether two texts are equal, or Python that differs only in comments and layout."""
    try:
        return stored == current or ast.dump(ast.parse(stored)) == ast.dump(ast.parse(current))
    except SyntaxError:
        return False
