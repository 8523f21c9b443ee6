"""What ends training early: signals, and numbers that are not finite."""

import math
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from conftest import ROOT, RUN, read_record, run_python, train, write_list
from PIL import Image
from test_resume import are_equal, get_result, read_files

import data.loading
from train import Trainer, main
from utils.checkpoint import load_checkpoint
from utils.errors import UserError, one_line_errors
from utils.files import read_rows
from utils.replay import describe_batch
from utils.stop import STOP, check_finite
from utils.train_state import TrainState


def interrupt_at(monkeypatch, method, number, signum):
    """Sends a signal to this process when a method of Trainer is called for the number-th time."""
    calls, original = [], getattr(Trainer, method)

    def count_and_call(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == number:
            os.kill(os.getpid(), signum)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(Trainer, method, count_and_call)


@pytest.fixture
def stop(monkeypatch):
    """Catches signals while a test runs."""
    handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
    monkeypatch.setattr(STOP, 'name', '')
    STOP.catch_signals()
    yield STOP
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP):
        signal.signal(number, handlers[number])


IN_VALIDATION = ('viz_per_batch', 5)  # the third picture of the first validation
STOPS = [('SIGINT', ('update', 1)), ('SIGTERM', ('update', 3)), ('SIGUSR1', IN_VALIDATION)]


@pytest.mark.slow
@pytest.mark.parametrize(('name', 'place'), [*STOPS, ('SIGHUP', ('update', 3))])
def test_a_signal_stops_after_the_step_and_nothing_is_lost(
    make_args, monkeypatch, stop, name, place
):
    options = ['--epochs', 2]
    straight = train(make_args(*options, run='straight')).model_dir
    signum = signal.Signals[name]
    with monkeypatch.context() as patch, pytest.raises(SystemExit) as exit:
        interrupt_at(patch, *place, signum)
        train(make_args(*options))
    assert exit.value.code == 128 + signum
    stop.name = ''
    trainer = Trainer(make_args(*options, '--resume'))
    assert read_record(trainer)['status'] == 'stopped'
    assert trainer.state.step == {1: 1, 3: 3, 5: 2}[place[1]]
    trainer.train()
    assert are_equal(get_result(straight), get_result(trainer.model_dir))


def test_a_second_ctrl_c_does_not_wait_for_the_step(monkeypatch):
    exits = []
    monkeypatch.setattr('utils.stop.os._exit', exits.append)
    monkeypatch.setattr('utils.stop.sys.exit', lambda code: None)
    monkeypatch.setattr(STOP, 'name', '')
    with STOP.after_step():
        STOP.handle(signal.SIGINT, None)
        assert exits == []
        STOP.handle(signal.SIGTERM, None)
        assert exits == []
        STOP.handle(signal.SIGINT, None)
    assert exits == [130]


def test_a_signal_that_is_ignored_stays_ignored(stop):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    STOP.catch_signals()
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


def start_training(toy_list, toy_val_list, run, *options):
    """A training process with a group of its own, as a terminal gives it."""
    lists = f'--train_list {toy_list} --val_list {toy_val_list} --num_classes 3'
    options = f'{lists} --model_dir {run} --img_size 32 48 {" ".join(map(str, options))}'
    command = [sys.executable, 'train.py', *options.split()]
    pipes = {'stdout': subprocess.PIPE, 'stderr': subprocess.PIPE, 'text': True}
    return subprocess.Popen(command, cwd=ROOT, start_new_session=True, **pipes)


def wait_for(path, process):
    """Waits until a file exists; fails if the process ends before."""
    while not path.exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize('signum', [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_to_the_whole_group_with_workers_is_one_line_and_can_be_resumed(
    toy_list, toy_val_list, tmp_path, signum
):
    run = tmp_path / 'run'
    options = ['--epochs', 1000, '--batch_size', 2, '--num_workers', 2, '--model_type base_model']
    with start_training(toy_list, toy_val_list, run, *options) as process:
        wait_for(run / 'log.csv', process)
        os.killpg(process.pid, signum)
        _, errors = process.communicate(timeout=1000)
    assert process.returncode == 128 + signum
    name = signal.Signals(signum).name
    lines = errors.splitlines()
    assert lines[-1] == f'stopped by {name}: saved; --resume continues here'
    assert all(name in line for line in lines), errors
    checkpoint = load_checkpoint(run / 'last.pth')
    assert checkpoint['step'] == checkpoint['epoch'] * 4 + checkpoint['batch']


# Sends the signal when a module is imported that only the program itself needs.
HOOK = """
import os, signal, sys

class Hook:
    def find_spec(self, name, path=None, target=None):
        if name == '{module}':
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Hook())
"""


@pytest.mark.slow
@pytest.mark.parametrize('module', ['torch', 'torch.nn', 'cv2', 'metrics', 'model.model_entry'])
@pytest.mark.parametrize('script', ['train.py', 'eval.py'])
def test_ctrl_c_during_the_imports_is_one_line(clone, tmp_path, script, module):
    (tmp_path / 'sitecustomize.py').write_text(HOOK.format(module=module))
    options = f'--num_classes 3 --train_list x --val_list x --model_dir {tmp_path / "run"}'
    options = options if script == 'train.py' else f'--load_model_path {RUN}/best.pth'
    environment = os.environ | {'PYTHONPATH': str(tmp_path)}
    process = run_python(script, *options.split(), cwd=clone, env=environment)
    assert (process.stderr, process.returncode) == ('stopped by SIGINT\n', 130)
    assert not (tmp_path / 'run').exists()


# ---- Numbers that are not finite ----


class Scaler:
    """Stands for a gradient scaler."""

    def __init__(self, is_enabled=False, scale=65536.0):
        self.is_enabled, self.get_scale = lambda: is_enabled, lambda: scale


def check(scaler=None, names=('a.png', 'b.png'), **losses):
    state = TrainState.__new__(TrainState)
    state.epoch, state.batch, state.step = 1, 4, 24
    losses = {name: torch.tensor(loss) for name, loss in losses.items()}
    return check_finite(losses, {'name': list(names)}, state, scaler or Scaler())


@pytest.mark.parametrize('value', [float('nan'), float('inf'), -float('inf')])
@pytest.mark.parametrize('name', ['loss', 'grad_norm'])
def test_a_number_that_is_not_finite_is_named_with_its_place_and_files(name, value):
    losses = {'loss': 0.5, 'loss_ce': 0.25, 'grad_norm': 2.0} | {name: value}
    with pytest.raises(FloatingPointError) as error:
        check(**losses)
    text = str(error.value)
    for words in (
        'epoch 2, batch 5, step 25',
        f'{name} is not finite',
        'a.png b.png',
        '--replay 2 5',
    ):
        assert words in text
    assert all(f'{part} {value:.4g}' in text for part, value in losses.items())
    assert '\n' not in text


def test_finite_numbers_pass_as_they_are():
    losses = check(loss=0.5, grad_norm=2.0)
    assert {name: loss.item() for name, loss in losses.items()} == {'loss': 0.5, 'grad_norm': 2.0}


def test_a_step_that_the_scaler_skips_is_counted_and_leaves_the_mean_norm_alone():
    scaler = Scaler(is_enabled=True)
    assert check(scaler, loss=0.5, grad_norm=float('inf')) == {'loss': 0.5, 'skipped_steps': 1}
    assert check(scaler, loss=0.5, grad_norm=2.0)['skipped_steps'] == 0
    with pytest.raises(FloatingPointError):
        check(scaler, loss=float('nan'), grad_norm=float('nan'))
    with pytest.raises(FloatingPointError):  # it has been made smaller again and again
        check(Scaler(is_enabled=True, scale=0.5), loss=0.5, grad_norm=float('nan'))


def break_gradient(monkeypatch, number, value=float('nan')):
    """The number-th step has a finite loss and a gradient that is nan or inf."""
    calls, original = [], Trainer.step

    def step(self, batch):
        pred = original(self, batch)
        calls.append(1)
        if len(calls) == number:
            pred.register_hook(lambda grad: grad * value)
        return pred

    monkeypatch.setattr(Trainer, 'step', step)


@pytest.mark.slow
@pytest.mark.parametrize('number', [1, 4])
def test_a_nan_gradient_in_the_last_step_of_an_epoch_stops_before_the_update(
    make_args, monkeypatch, capsys, number
):
    args = make_args('--epochs', 3, '--save_steps', 1)
    with monkeypatch.context() as patch, pytest.raises(SystemExit, match='2'), one_line_errors():
        break_gradient(patch, number)
        main(args)
    error = capsys.readouterr().err
    place = f'epoch {(number + 1) // 2}, batch {2 - number % 2}'
    assert error.startswith(f'error: {place}')
    assert error.count('\n') == 1
    trainer = Trainer(make_args('--epochs', 3, '--resume'))
    assert trainer.state.step == number - 1
    record = read_record(trainer)
    assert record['status'] == 'failed'
    assert record['error'].startswith('FloatingPointError: epoch')
    for path in trainer.model_dir.glob('*.pth'):
        weights = load_checkpoint(path)['model'].values()
        assert all(w.isfinite().all() for w in weights)


def test_fp16_skips_a_step_and_counts_it(make_args, monkeypatch):
    scaler = torch.amp.GradScaler('cpu')  # what --amp fp16 uses on a GPU
    monkeypatch.setattr('train.select_scaler', lambda args: scaler)
    break_gradient(monkeypatch, 2, float('inf'))
    trainer = train(make_args('--epochs', 2))
    rows = read_rows(trainer.model_dir / 'log.csv')
    assert [float(row['train/skipped_steps']) for row in rows] == [0.5, 0]
    assert all(np.isfinite(float(row['train/grad_norm'])) for row in rows)
    assert scaler.get_scale() == 65536 / 2


@pytest.mark.slow
@pytest.mark.parametrize('options', [[], ['--accum', 2]])
def test_replay_prints_the_losses_of_the_step_itself_and_writes_nothing(
    make_args, monkeypatch, capsys, options
):
    recorded = {}
    original = Trainer.update

    def update(self, batch):
        pred, losses = original(self, batch)
        place = (self.state.epoch + 1, self.state.batch + 1)
        recorded.setdefault(
            place, (batch['name'], losses['loss'].item(), losses['grad_norm'].item())
        )
        return pred, losses

    monkeypatch.setattr(Trainer, 'update', update)
    run = train(make_args(*options, '--epochs', 3, '--save_freq', 1)).model_dir
    before = read_files(run)
    capsys.readouterr()
    main(make_args(*options, '--epochs', 3, '--replay', 2, 2))  # from the checkpoint of epoch 1
    assert read_files(run) == before
    lines = capsys.readouterr().out.splitlines()
    names, loss, norm = recorded[2, 2]
    assert f'files: {" ".join(names)}' in lines
    values = next(line for line in lines if line.startswith('losses: '))
    assert f'loss {loss:.6g}' in values
    assert f'grad_norm {norm:.6g}' in values
    assert any(re.match(r'block\.0\.weight .*gradient norm', line) for line in lines)


def test_a_step_that_was_not_finite_is_not_finite_in_its_replay(make_args, capsys):
    options = ['--epochs', 1, '--lr', 1e38, '--optimizer', 'sgd', '--scheduler', 'none']
    with pytest.raises(FloatingPointError) as error:
        train(make_args(*options))
    place = re.search(r'--replay (\d) (\d)', str(error.value)).groups()
    capsys.readouterr()
    main(make_args(*options, '--replay', *place))
    assert re.search(r'losses: .*(nan|inf)', capsys.readouterr().out)


def test_a_replay_shows_which_gradient_is_not_finite_whatever_clip_grad_is(make_args, capsys):
    trainer = Trainer(make_args('--clip_grad', 1))
    trainer.model.head.bias.register_hook(lambda grad: grad * math.nan)
    lines = describe_batch(trainer, next(iter(trainer.train_loader)))
    assert lines[2].startswith('head.bias (3,): gradient norm nan')
    assert not any('gradient norm nan' in line for line in lines[3:])


@pytest.mark.slow
@pytest.mark.parametrize('place', [(1, 9), (2, 1)])
def test_a_batch_that_cannot_be_replayed_is_one_line(make_args, place):
    train(make_args('--epochs', 2, '--val_freq', 0))
    with pytest.raises(UserError, match='epoch'):
        main(make_args('--epochs', 2, '--val_freq', 0, '--replay', *place))


@pytest.mark.slow
def test_a_replay_with_another_batch_size_is_refused(make_args):
    train(make_args('--epochs', 2, '--val_freq', 0, '--save_freq', 1))
    options = ['--epochs', 2, '--val_freq', 0, '--batch_size', 2, '--allow_changes']
    with pytest.raises(UserError, match='--batch_size'):
        main(make_args(*options, '--replay', 2, 2))


def test_without_a_run_there_is_nothing_to_replay(make_args, tmp_path):
    with pytest.raises(UserError, match='no checkpoint'):
        main(make_args('--replay', 1, 1))
    assert not (tmp_path / 'run').exists()


@pytest.mark.slow
def test_an_epoch_is_kept_though_its_validation_finds_a_bad_label(make_args, tmp_path):
    val_list = write_list(tmp_path / 'val', 3, first=100)
    options = ['--epochs', 2, '--val_list', val_list]
    straight = train(make_args(*options, run='straight')).model_dir
    label = val_list.parent / '102_label.png'  # the last one: the first is looked at before
    content = label.read_bytes()
    trainer = Trainer(make_args(*options))
    Image.fromarray(np.full((32, 48), 77, np.uint8)).save(label)
    with pytest.raises(UserError, match='102_label'):
        trainer.train()
    label.write_bytes(content)
    resumed = Trainer(make_args(*options, '--resume'))
    assert (resumed.state.epoch, resumed.state.step, resumed.state.batch) == (0, 2, 2)
    resumed.train()
    assert are_equal(get_result(straight), get_result(resumed.model_dir))


def test_a_clock_that_stands_still_is_no_error(make_args, monkeypatch, capsys):
    monkeypatch.setattr('utils.progress.time.perf_counter', lambda: 1.0)
    train(make_args('--epochs', 1, '--print_freq', 1))
    assert 'step 2/2' in capsys.readouterr().out


@pytest.mark.slow
def test_a_signal_while_workers_start_reaches_none_of_them(make_args, monkeypatch, stop):
    """It is sent to the whole group between the fork of a worker and its first own line."""
    straight = train(make_args('--epochs', 1, run='straight')).model_dir
    init, main_pid = data.loading.init_worker, os.getpid()

    def signal_and_init(worker):
        os.kill(os.getpid(), signal.SIGTERM)
        if worker == 0:  # a second one could come after training has ended
            os.kill(main_pid, signal.SIGTERM)
        init(worker)

    monkeypatch.setattr('data.loading.init_worker', signal_and_init)
    with pytest.raises(SystemExit, match='143'):
        train(make_args('--epochs', 1, '--num_workers', 2))
    stop.name = ''
    monkeypatch.setattr('data.loading.init_worker', init)
    resumed = train(make_args('--epochs', 1, '--num_workers', 2, '--resume')).model_dir
    assert are_equal(get_result(straight), get_result(resumed))


@pytest.mark.slow
def test_a_damaged_image_read_by_a_worker_is_one_line_and_the_program_ends(toy_val_list, tmp_path):
    path = write_list(tmp_path / 'set', 8)
    image = path.parent / '5.png'
    image.write_bytes(image.read_bytes()[:800])
    options = ['--num_workers', 2, '--skip_check', '--batch_size', 2]
    with start_training(path, toy_val_list, tmp_path / 'run', *options) as process:
        _, errors = process.communicate(timeout=1000)
    assert process.returncode == 2
    assert errors.count('\n') == 1, errors
    assert '5.png' in errors
