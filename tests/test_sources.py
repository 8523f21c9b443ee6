"""Which files are the code, and their copy."""

import shutil
import subprocess

import pytest
from conftest import ROOT, train

from train import Trainer
from utils.checkpoint import load_checkpoint
from utils.errors import UserError
from utils.tracking import sources
from utils.tracking.provenance import get_provenance
from utils.tracking.sources import read_code, read_imported, read_sources, write_sources


def make_project(directory):
    """A directory with one file of each kind that matters."""
    texts = {
        'options.py': 'x = 1\r\n',
        'model/net.py': 'y = 2\n',
        'requirements.txt': 'torch\n',
        'key.json': '{"secret": 1}\n',
        'train.log': 'epoch 1\n',
        'data/own.py': 'z = 3\n',
        'data/list.txt': 'a b\n',
        'data/own.yaml': 'gain: 1\n',
        'data/set/1.yaml': 'x: 1\n',
        'camvid/list.txt': 'a b\n',
        'model/ops.cu': '// fast\n',
        'model/widths.json': '[1]\n',
        'utils/report.html': '<p>\n',
        'utils/page.css': 'p {}\n',
        'results/report.html': '<p>\n',
        'labels/1.json': '[1]\n',
        'checkpoints/run/args.txt': '--lr 1\n',
        '.env': 'SECRET=1\n',
        'model/ignored.log': 'x\n',
        'large.txt': 'x' * 300_000,
    }
    for name, text in texts.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text, newline='')
    (directory / 'weights.bin').write_bytes(b'\0\1\2')
    (directory / 'camvid' / '1.png').write_bytes(b'pixels')
    (directory / '.gitignore').write_text('*.log\n')
    return directory


NEEDS_GIT = pytest.mark.skipif(not shutil.which('git'), reason='git is not installed')
SOURCES = ['data/own.py', 'data/own.yaml', 'model/net.py', 'model/ops.cu', 'model/widths.json']
SOURCES += ['options.py', 'requirements.txt', 'utils/page.css', 'utils/report.html']


def run_git(directory, *command):
    identity = ['-c', 'user.name=a', '-c', 'user.email=a@b']
    subprocess.run(['git', '-C', directory, *identity, *command], check=True, capture_output=True)


def test_sources_are_text_and_neither_data_nor_checkpoints_nor_hidden(tmp_path):
    with_ignored = sorted([*SOURCES, 'model/ignored.log'])  # there is no git to say so
    assert sorted(read_sources(make_project(tmp_path))) == with_ignored


@NEEDS_GIT
def test_git_says_what_is_a_source_and_what_has_changed(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, 'ROOT', make_project(tmp_path))
    assert sources.get_git_state() is None
    run_git(tmp_path, 'init', '-b', 'trunk')
    run_git(tmp_path, 'add', 'options.py', '.gitignore')
    run_git(tmp_path, 'commit', '-m', 'first')
    assert sorted(read_sources(tmp_path)) == SOURCES  # also what git would track
    state = sources.get_git_state()
    assert (len(state['commit']), state['branch'], state['is_dirty']) == (40, 'trunk', True)
    (tmp_path / 'options.py').unlink()  # tracked, and gone
    assert 'options.py' not in read_sources(tmp_path)


@NEEDS_GIT
def test_uncommitted_changes_are_saved_as_a_file(make_args, tmp_path, monkeypatch):
    project = make_project(tmp_path / 'project')
    run_git(project, 'init')
    run_git(project, 'add', 'options.py')
    run_git(project, 'commit', '-m', 'first')
    (project / 'options.py').write_text('x = 2\n')
    run_git(project, 'add', 'large.txt')
    monkeypatch.setattr(sources, 'ROOT', project)
    trainer = train(make_args('--epochs', 1))
    diff = (trainer.model_dir / 'uncommitted.diff').read_text()
    assert '+x = 2' in diff
    assert 'large.txt' not in diff


def test_code_that_is_imported_in_the_loop_is_kept(make_args, monkeypatch):
    trainer, late = Trainer(make_args('--epochs', 1)), {'helpers/late.py': 'x = 1\n'}
    monkeypatch.setattr(sources, 'read_imported', lambda known: late)
    trainer.train()
    assert load_checkpoint(trainer.model_dir / 'last.pth')['code'].items() >= late.items()
    assert (trainer.model_dir / 'code' / 'helpers' / 'late.py').read_text() == 'x = 1\n'


def test_a_copy_of_the_sources_is_exact_and_holds_nothing_else(tmp_path):
    project = make_project(tmp_path / 'project')
    (tmp_path / 'copy').mkdir()
    (tmp_path / 'copy' / 'old.py').touch()
    write_sources(read_sources(project), tmp_path / 'copy')
    assert read_sources(tmp_path / 'copy') == read_sources(project)
    assert (tmp_path / 'copy' / 'options.py').read_bytes() == b'x = 1\r\n'
    assert not (tmp_path / 'copy' / 'old.py').exists()


@pytest.mark.parametrize(
    'name', ['../../x.py', '/x.py', 'model/../../x.py', '..', '{outside}/x.py']
)
def test_a_name_outside_of_the_directory_is_refused_and_nothing_is_written(tmp_path, name):
    directory = tmp_path / 'a' / 'b' / 'code'
    directory.mkdir(parents=True)
    (directory / 'old.py').touch()
    name = name.format(outside=tmp_path)
    with pytest.raises(UserError) as error:
        write_sources({'a.py': 'x = 1\n', name: 'x = 2\n'}, directory)
    assert repr(name) in str(error.value)
    files = [path.relative_to(tmp_path) for path in tmp_path.rglob('*') if path.is_file()]
    assert [str(path) for path in files] == ['a/b/code/old.py']


def test_a_link_in_place_of_the_copy_is_replaced_and_not_followed(tmp_path):
    (tmp_path / 'outside').mkdir()
    (tmp_path / 'outside' / 'mine.py').write_text('mine\n')
    (tmp_path / 'code').symlink_to(tmp_path / 'outside')
    write_sources({'a.py': 'x = 1\n'}, tmp_path / 'code')
    assert [path.name for path in (tmp_path / 'outside').iterdir()] == ['mine.py']
    assert read_sources(tmp_path / 'code') == {'a.py': 'x = 1\n'}


def test_runs_beside_the_code_are_no_sources(tmp_path):
    project = make_project(tmp_path)
    for run in ('runs/a', 'b'):
        write_sources({'run.json': '{}', 'code/options.py': 'x = 1\n'}, project / run)
    assert sorted(read_sources(project)) == sorted([*SOURCES, 'model/ignored.log'])


def test_virtual_environments_are_no_sources(tmp_path):
    (tmp_path / 'env' / 'bin').mkdir(parents=True)
    (tmp_path / 'env' / 'pyvenv.cfg').touch()
    (tmp_path / 'env' / 'bin' / 'a.py').touch()
    assert read_sources(tmp_path) == {}


@NEEDS_GIT
def test_code_that_a_checkpoint_names_is_read_even_if_git_ignores_it(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, 'ROOT', make_project(tmp_path))
    run_git(tmp_path, 'init')
    assert 'model/ignored.log' not in read_sources(tmp_path)
    names = ['model/ignored.log', 'model/gone.py', 'train.log', '.env', 'checkpoints/run/args.txt']
    assert read_code(names, tmp_path) == {'model/ignored.log': 'x\n'}


def test_code_that_runs_is_kept_wherever_it_comes_from(monkeypatch, capsys):
    listed = read_sources()
    text = listed.pop('loss.py')  # as if git ignored it
    assert read_imported(listed) == {'loss.py': text}
    monkeypatch.setattr(sources, 'MAX_SOURCE_BYTES', 10)
    assert read_imported(listed) == {}
    error = capsys.readouterr().err
    assert 'loss.py' in error
    assert error.count('\n') == 1


def test_the_copy_in_a_run_directory_holds_every_module(make_args):
    trainer = train(make_args('--epochs', 1))
    for path in [*ROOT.glob('*.py'), *ROOT.glob('utils/**/*.py'), *ROOT.glob('model/**/*.py')]:
        copy = trainer.model_dir / 'code' / path.relative_to(ROOT)
        assert copy.read_bytes() == path.read_bytes()


def test_a_machine_without_git_at_all_is_no_error(monkeypatch):
    monkeypatch.setenv('PATH', '')
    assert get_provenance({})['git'] is None
    assert 'train.py' in read_sources()


def test_a_copy_of_the_code_can_write_the_pages(tmp_path):
    write_sources(read_sources(), tmp_path / 'code')
    for name in ('utils/report.html', 'utils/page.css', 'utils/page.js', 'scripts/runs.html'):
        assert (tmp_path / 'code' / name).read_bytes() == (ROOT / name).read_bytes()
