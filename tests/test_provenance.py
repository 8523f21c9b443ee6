"""What a run remembers of itself."""

import hashlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT, run_python, write_list

from data.data_entry import DATASETS
from data.list_file import ListFile
from train import Trainer
from utils import sources
from utils.checkpoint import load_checkpoint
from utils.errors import UserError
from utils.provenance import digest_sample, fingerprint, get_provenance
from utils.run_record import lock_run
from utils.sources import read_imported, read_sources, write_sources


def read_record(trainer):
    return json.loads((trainer.model_dir / 'run.json').read_text())


def train(args):
    trainer = Trainer(args)
    trainer.train()
    return trainer


def test_run_json_and_the_checkpoint_tell_the_same(make_args, toy_val_list):
    trainer = train(make_args('--epochs', 1, '--lr', 0.25))
    record = read_record(trainer)
    stored = load_checkpoint(trainer.model_dir / 'last.pth')['provenance']
    assert {name: record[name] for name in stored} == stored
    assert record['status'] == 'finished'
    assert record['end'] >= record['start']
    assert record['changed']['lr'] == 0.25
    assert 'momentum' not in record['changed']
    assert record['args']['momentum'] == 0.9
    assert stored['versions']['torch'] == torch.__version__
    assert stored['data']['val']['samples'] == 5
    content = toy_val_list.read_bytes()
    assert stored['data']['val']['sha256'] == hashlib.sha256(content).hexdigest()


def test_a_fingerprint_counts_the_bytes_of_every_file(tmp_path):
    path = write_list(tmp_path, 2)

    class Data:
        files = ListFile(path)

        def __len__(self):
            return len(self.files)

    total = sum(file.stat().st_size for file in tmp_path.glob('*.png'))
    assert fingerprint(path, Data())['total_bytes'] == total


@pytest.mark.parametrize(
    ('error', 'status'), [(KeyboardInterrupt(), 'stopped'), (RuntimeError('boom'), 'failed')]
)
def test_how_a_run_ended_is_kept(make_args, monkeypatch, error, status):
    trainer = Trainer(make_args())

    def fail(batch):
        raise error

    monkeypatch.setattr(trainer, 'step', fail)
    with pytest.raises(type(error)):
        trainer.train()
    record = read_record(trainer)
    assert record['status'] == status
    assert record.get('error') == ('RuntimeError: boom' if status == 'failed' else None)
    assert record['epoch'] == 0


def test_a_run_that_is_being_trained_is_left_alone_and_who_trains_it_is_said(
    trained_clone, tmp_path
):
    options, run = trained_clone / 'checkpoints/base_model_first/args.txt', tmp_path / 'run'
    with lock_run(run):
        process = run_python('train.py', f'@{options}', '--model_dir', run, cwd=trained_clone)
    assert process.returncode == 4  # so that a sweep passes on
    line = f'error: {run} is being trained by process {os.getpid()} on {socket.gethostname()} since'
    assert process.stderr.startswith(line)
    assert process.stderr.count('\n') == 1
    assert [path.name for path in run.iterdir()] == ['.lock']


def test_a_run_directory_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(UserError, match='cannot write to .*/file'), lock_run(tmp_path / 'file'):
        pass


def test_a_killed_process_gives_its_lock_back_though_its_children_live(tmp_path):
    script = """
import os, pathlib, sys, time
from utils.run_record import lock_run
with lock_run(pathlib.Path(sys.argv[1])):
    child = os.fork()
    if child:
        print(child, flush=True)
    time.sleep(100)
"""
    command = [sys.executable, '-c', script, tmp_path / 'run']
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        child = int(process.stdout.readline())
        with (
            pytest.raises(UserError, match=f'process {process.pid} on'),
            lock_run(tmp_path / 'run'),
        ):
            pass
        process.kill()
        process.wait()
        with lock_run(tmp_path / 'run'):
            os.kill(child, signal.SIGKILL)  # fails if it is gone already


def test_the_last_epoch_and_the_best_one_are_kept(make_args):
    trainer = train(make_args('--epochs', 3))
    record = read_record(trainer)
    assert (record['epoch'], record['epochs']) == (3, 3)
    assert record['best'] == trainer.best
    assert record['best']['scores']['miou'] == record['best']['score']


def test_a_run_remembers_the_checkpoint_that_it_started_from(make_args):
    first = train(make_args('--epochs', 1, run='first'))
    path = first.model_dir / 'last.pth'
    second = train(make_args('--epochs', 1, '--load_model_path', path, run='second'))
    parent = read_record(second)['parent']
    assert parent['path'] == str(path)
    assert parent['sha256'] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert parent['epoch'] == 1
    assert parent['command'] == read_record(first)['command']
    again = train(make_args('--epochs', 2, '--resume', run='second'))
    assert read_record(again)['parent'] == parent


def test_a_resumed_run_remembers_how_it_was_run_before(make_args):
    train(make_args('--epochs', 1))
    train(make_args('--epochs', 2, '--resume'))
    record = read_record(train(make_args('--epochs', 3, '--resume')))
    assert [len(earlier['earlier']) for earlier in record['earlier']] == [0, 0]


def test_no_environment_variable_is_stored(make_args, monkeypatch):
    secret = secrets.token_hex(16)
    monkeypatch.setenv('MY_SECRET_TOKEN', secret)
    trainer = train(make_args('--epochs', 1))
    for path in trainer.model_dir.rglob('*'):
        assert path.is_dir() or secret.encode() not in path.read_bytes(), path


def test_a_sample_digest_sees_every_pixel_and_no_name():
    sample = {'img': torch.zeros(3, 2, 2, dtype=torch.uint8), 'name': 'a'}
    changed = {'img': sample['img'].clone(), 'name': 'a'}
    changed['img'][2, 1, 1] = 1
    assert digest_sample(sample) == digest_sample(sample | {'name': 'b'})
    assert digest_sample(sample) != digest_sample(changed)


def test_a_sample_digest_sees_numbers_that_are_no_tensors():
    assert digest_sample({'label': 3}) != digest_sample({'label': 4})


def test_a_sample_digest_takes_whatever_a_loader_takes():
    sample = {
        'strided': torch.arange(10.0)[::2],
        'expanded': torch.zeros(1).expand(4),
        'name': np.array(['a'])[0],
        'flag': np.bool_(True),
    }
    assert digest_sample(sample) == digest_sample(sample)
    assert digest_sample(sample) != digest_sample(sample | {'strided': torch.arange(5.0)})


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
        'camvid/list.txt': 'a b\n',
        'model/ops.cu': '// fast\n',
        'model/widths.json': '[1]\n',
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


SOURCES = ['data/own.py', 'model/net.py', 'model/ops.cu', 'model/widths.json']
SOURCES += ['options.py', 'requirements.txt']


def run_git(directory, *command):
    identity = ['-c', 'user.name=a', '-c', 'user.email=a@b']
    subprocess.run(['git', '-C', directory, *identity, *command], check=True, capture_output=True)


def test_sources_are_text_and_neither_data_nor_checkpoints_nor_hidden(tmp_path):
    with_ignored = sorted([*SOURCES, 'model/ignored.log'])  # there is no git to say so
    assert sorted(read_sources(make_project(tmp_path))) == with_ignored


@pytest.mark.skipif(not shutil.which('git'), reason='git is not there')
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


@pytest.mark.skipif(not shutil.which('git'), reason='git is not there')
def test_uncommitted_changes_are_saved_as_a_file(make_args, tmp_path, monkeypatch):
    project = make_project(tmp_path / 'project')
    run_git(project, 'init')
    run_git(project, 'add', 'options.py')
    run_git(project, 'commit', '-m', 'first')
    (project / 'options.py').write_text('x = 2\n')
    monkeypatch.setattr(sources, 'ROOT', project)
    trainer = train(make_args('--epochs', 1))
    assert '+x = 2' in (trainer.model_dir / 'uncommitted.diff').read_text()


def test_a_copy_of_the_sources_is_exact_and_holds_nothing_else(tmp_path):
    project = make_project(tmp_path / 'project')
    (tmp_path / 'copy').mkdir()
    (tmp_path / 'copy' / 'old.py').touch()
    write_sources(read_sources(project), tmp_path / 'copy')
    assert read_sources(tmp_path / 'copy') == read_sources(project)
    assert (tmp_path / 'copy' / 'options.py').read_bytes() == b'x = 1\r\n'
    assert not (tmp_path / 'copy' / 'old.py').exists()


def test_runs_beside_the_code_are_no_sources(tmp_path):
    project = make_project(tmp_path)
    for run in ('runs/a', 'b'):
        write_sources({'run.json': '{}', 'code/options.py': 'x = 1\n'}, project / run)
    assert sorted(read_sources(project)) == sorted([*SOURCES, 'model/ignored.log'])


def test_code_is_that_of_the_start_and_code_of_earlier_epochs_stays(make_args, monkeypatch):
    project = {'options.py': 'x = 1\n'}
    monkeypatch.setattr('train.read_sources', lambda *_, **__: project.copy())
    trainer = Trainer(make_args('--epochs', 1))
    project['options.py'] = 'x = 2\n'  # edited while it runs
    trainer.train()
    code = trainer.model_dir / 'code' / 'options.py'
    assert code.read_text() == 'x = 1\n'
    train(make_args('--epochs', 2, '--resume'))
    assert code.read_text() == 'x = 2\n'
    assert (trainer.model_dir / 'code_until_0001' / 'options.py').read_text() == 'x = 1\n'
    earlier = load_checkpoint(trainer.model_dir / 'last.pth')['provenance']['earlier'][-1]
    assert earlier['until_epoch'] == 1
    assert 'option: epochs 1 -> 2' in earlier['changes']


def test_virtual_environments_are_no_sources(tmp_path):
    (tmp_path / 'env' / 'bin').mkdir(parents=True)
    (tmp_path / 'env' / 'pyvenv.cfg').touch()
    (tmp_path / 'env' / 'bin' / 'a.py').touch()
    assert read_sources(tmp_path) == {}


def test_code_that_was_kept_before_is_looked_at_again(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, 'ROOT', make_project(tmp_path))
    run_git(tmp_path, 'init')
    known = read_sources(tmp_path)
    assert 'model/ignored.log' not in known
    more = read_sources(tmp_path, others=['model/ignored.log', 'model/gone.py'])
    assert more == known | {'model/ignored.log': 'x\n'}


def test_code_that_runs_is_kept_wherever_it_comes_from(monkeypatch, capsys):
    listed = read_sources()
    text = listed.pop('loss.py')  # as if git ignored it
    assert read_imported(listed) == {'loss.py': text}
    monkeypatch.setattr(sources, 'MAX_SOURCE_BYTES', 10)
    assert read_imported(listed) == {}
    assert 'neither stored nor compared, though it runs: loss.py' in capsys.readouterr().err


def test_the_copy_in_a_run_directory_holds_every_module(make_args):
    trainer = train(make_args('--epochs', 1))
    for path in [*ROOT.glob('*.py'), *ROOT.glob('utils/*.py'), *ROOT.glob('model/**/*.py')]:
        copy = trainer.model_dir / 'code' / path.relative_to(ROOT)
        assert copy.read_bytes() == path.read_bytes()


def test_without_git_a_run_is_recorded_too(trained_clone):
    record = json.loads((trained_clone / 'checkpoints/base_model_first/run.json').read_text())
    assert record['git'] is None
    assert record['command'].startswith('python')
    assert '--save_prefix first' in record['command']


def test_a_machine_without_git_at_all_is_no_error(monkeypatch):
    monkeypatch.setenv('PATH', '')
    assert get_provenance({})['git'] is None
    assert 'train.py' in read_sources()


def test_a_model_that_wants_another_input_trains_on_and_says_so(make_args, monkeypatch):
    monkeypatch.setattr('model.model_entry.gen_probe_batch', lambda: {'img': torch.zeros(1, 7)})
    with pytest.warns(UserWarning, match='no answer to the probe'):
        trainer = train(make_args('--epochs', 1))
    answer = load_checkpoint(trainer.model_dir / 'last.pth')['probe']['answer']
    assert 'gen_probe_batch' in answer


def test_a_probe_changes_nothing_of_the_training(make_args, monkeypatch):
    plain = train(make_args(run='plain')).model.state_dict()
    monkeypatch.setattr('eval.Evaluator.take_probe', lambda self: None)
    other = train(make_args(run='other')).model.state_dict()
    assert all(torch.equal(plain[name], other[name]) for name in plain)


def test_the_command_that_runs_prints_makes_the_run_again(trained_clone, tmp_path):
    clone = shutil.copytree(trained_clone, tmp_path / 'project')
    process = run_python('scripts/runs.py', 'cmd', 'base_model_first', cwd=clone)
    (clone / 'train.py').unlink()  # the copy in the run directory is what runs
    again = run_python(*process.stdout.split()[1:], cwd=clone)
    assert again.returncode == 0, again.stderr
    states = [
        load_checkpoint(clone / 'checkpoints' / name / 'last.pth')
        for name in ('base_model_first', 'base_model_first_again')
    ]
    assert states[0]['metrics']['val/loss'] == states[1]['metrics']['val/loss']


class OwnData:
    """A data set of one's own: no list file, and a `files` that is something else."""

    def __init__(self, args, list_path, is_train):
        self.files = ['a', 'b', 'c', 'd']

    def __len__(self):
        return len(self.files)

    def __getitem__(self, i):
        label = torch.zeros(8, 8, dtype=torch.uint8)
        return {'img': torch.zeros(3, 8, 8, dtype=torch.uint8), 'label': label, 'name': str(i)}


def test_a_data_set_without_a_list_file_is_remembered_too(make_args, monkeypatch):
    monkeypatch.setitem(DATASETS, 'own', 'test_provenance:OwnData')
    options = ['--data_type', 'own', '--train_list', 'any', '--val_list', 'any']
    train(make_args('--epochs', 1, *options))
    trainer = Trainer(make_args('--epochs', 2, *options, '--resume'))
    state = load_checkpoint(trainer.model_dir / 'last.pth')
    assert state['provenance']['data']['val'] == {'list': 'any', 'samples': 4}
    drift = trainer.evaluator.compare_with(state, trainer.record.sources, trainer.record.provenance)
    assert drift.describe('code', 'probe', 'data') == [
        'code: unchanged | probe: identical | data: unchanged'
    ]
