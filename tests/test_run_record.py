"""run.json, the code beside it and the lock of a run."""

import os
import signal
import socket
import subprocess
import sys

import pytest
from conftest import ROOT, read_record, run_python, train

from train import Trainer, main
from utils.checkpoint import load_checkpoint
from utils.errors import UserError
from utils.run_record import lock_run


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


def test_a_resumed_run_remembers_how_it_was_run_before(make_args):
    train(make_args('--epochs', 1))
    train(make_args('--epochs', 2, '--resume'))
    record = read_record(train(make_args('--epochs', 3, '--resume')))
    assert [len(earlier['earlier']) for earlier in record['earlier']] == [0, 0]


def test_a_resumed_child_keeps_the_name_of_its_parent(make_args):
    parent = train(make_args('--epochs', 1)).model_dir / 'best.pth'
    train(make_args('--epochs', 1, '--load_model_path', parent, run='child'))
    child = train(make_args('--epochs', 2, '--resume', run='child'))
    assert f'--load_model_path {parent}' in (child.model_dir / 'args.txt').read_text()
    assert read_record(child)['parent']['path'] == str(parent)


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


def test_a_directory_that_holds_a_run_is_not_written_over(make_args):
    main(make_args('--epochs', 1))
    with pytest.raises(ValueError, match='holds a run already') as error:
        main(make_args('--epochs', 1))
    for word in ('--resume', '--save_prefix', '--overwrite'):
        assert word in str(error.value)
    main(make_args('--epochs', 1, '--overwrite'))


def test_an_error_before_the_run_leaves_no_directory(make_args, monkeypatch, tmp_path):
    monkeypatch.setattr('conftest.ToyNet.__init__', None)
    with pytest.raises(TypeError):
        main(make_args())
    assert not (tmp_path / 'run').exists()
