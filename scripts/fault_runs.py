"""Training runs to be killed, each forked from this process, which has imported torch already."""

import hashlib
import os
import shutil
import signal
import sys
import time
import traceback
import warnings
from pathlib import Path

import torch
from torch import nn

import eval as evaluation
import train
from data import shapes
from model.model_entry import MODELS
from options import get_test_args, get_train_args
from utils.checkpoint import load_checkpoint
from utils.errors import one_line_errors
from utils.stop import STOP
from utils.tracking.run_dir import RunDir

MODELS['fault_net'] = 'scripts.fault_runs:FaultNet'
EPOCHS, STEPS = 3, 6  # steps of an epoch
HASHED = ('model', 'optimizer', 'scheduler', 'ema', 'epoch', 'step', 'batch', 'best')


class FaultNet(nn.Module):
    """A small network with BatchNorm and dropout."""

    def __init__(self, args):
        super().__init__()
        layers = nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Dropout2d(0.2)
        self.layers = nn.Sequential(*layers, nn.Conv2d(16, args.num_classes, 1))

    def forward(self, img):
        """(N,3,H,W) -> (N,C,H,W)."""
        return self.layers(img)


def one_cycle(optimizer, args, steps_per_epoch):
    """torch's OneCycleLR in place of the project's schedules: it changes momentum as well."""
    num_steps = args.epochs * steps_per_epoch + 1
    return torch.optim.lr_scheduler.OneCycleLR(optimizer, args.lr, num_steps)


class Lab:
    """A directory with data and runs; `start`, `wait` and `kill` are what happens to them."""

    def __init__(self, directory, count, rng):
        self.directory, self.count, self.rng = Path(directory), count, rng
        shapes.SIZE, shapes.NUM_IMAGES = (40, 56), {'train': 24, 'val': 6}
        shapes.write_set(self.directory / 'data')
        self.straight, self.seconds = {}, {}

    def get_run(self, name):
        """The RunDir of a run."""
        return RunDir(self.directory / name)

    def list_options(self, name, *options):
        """The options of the reference run, in the directory `name`, and further ones."""
        data = self.directory / 'data'
        lists = f'--train_list={data}/train.txt --val_list={data}/val.txt --num_classes=5'
        net = f'--model_type=fault_net --batch_size=4 --img_size 32 48 --epochs={EPOCHS} --ema=0.9'
        saves = '--save_steps=1 --save_freq=1 --keep=1 --num_workers=2 --loss=ce --metrics miou acc'
        run = f'--model_dir={self.directory / name} --skip_check --print_freq=1000 --viz_freq=3'
        return [*f'{lists} {net} {saves} {run}'.split(), *map(str, options)]

    def start(self, name, *options, hook=None, is_cycle=False, call=None):
        """Forks a run in a process group of its own; returns its pid once it can be killed.

        `hook` is called in the new process first; `call` replaces training.
        """
        ready, is_ready = os.pipe()
        pid = os.fork()
        if pid:
            os.close(is_ready)
            os.read(ready, 1)
            os.close(ready)
            return pid
        code = 1
        try:
            os.setsid()
            for number, kind in ((1, 'out'), (2, 'err')):
                path = self.directory / f'{name}.{kind}'
                os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
            warnings.simplefilter('ignore')  # of torch, about the number of workers
            STOP.catch_signals()
            if is_cycle:
                train.select_scheduler = one_cycle
            if hook:
                hook()
            os.write(is_ready, b'x')
            with one_line_errors():
                (call or self.train)(self.list_options(name, *options))
            code = 0
        except SystemExit as stop:
            code = stop.code or 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)

    def train(self, options):
        """What train.py does."""
        train.main(get_train_args(options))

    def evaluate(self, options):
        """What eval.py does, with the options that follow those of the reference run."""
        with STOP.with_undo():
            sys.exit(evaluation.main(*get_test_args(options[len(self.list_options('')) :])))

    def wait(self, pid, seconds=120):
        """The exit code of a run; -9 if it was killed, also because it hangs."""
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.01)
        self.kill(pid)
        return -signal.SIGKILL

    def kill(self, pid, signum=signal.SIGKILL):
        """Sends a signal to a run and its workers; waits for it after SIGKILL."""
        os.killpg(pid, signum)
        if signum == signal.SIGKILL:
            os.waitpid(pid, 0)

    def run(self, name, *options, **kwargs):
        """The exit code of a run that is left alone."""
        return self.wait(self.start(name, *options, **kwargs))

    def sleep(self, is_cycle):
        """Waits for a random moment of a run that would take as long as the straight one."""
        time.sleep(self.rng.uniform(0, self.seconds[is_cycle]))

    def make_straight(self):
        """Runs that nothing disturbs: what they end with, and how long they take."""
        for is_cycle in (False, True):
            start_s = time.monotonic()
            code = self.run(f'straight_{is_cycle}', is_cycle=is_cycle)
            self.seconds[is_cycle] = time.monotonic() - start_s
            assert code == 0, self.read(f'straight_{is_cycle}', 'err')
            self.straight[is_cycle] = self.digest(f'straight_{is_cycle}')

    def is_identical(self, name, is_cycle=False):
        """Whether a finished run ended as the straight one."""
        return self.digest(name) == self.straight[is_cycle]

    def digest(self, name, names=HASHED):
        """SHA-256 of what last.pth and best.pth hold; None if one does not load."""
        digest, run = hashlib.sha256(), self.get_run(name)
        try:
            for path in (run.last, run.best):
                state = load_checkpoint(path)
                add(digest, {name: state[name] for name in names})
        except ValueError:
            return None
        return digest.hexdigest()

    def read(self, name, kind):
        """What a run printed: 'out' or 'err'."""
        return (self.directory / f'{name}.{kind}').read_text()

    def is_one_line(self, name, *words):
        """Whether a run's stderr is one line with these words."""
        error = self.read(name, 'err')
        return error.count('\n') == 1 and all(word in error for word in words)

    def copy(self, name, new):
        """Copies a run's directory."""
        shutil.copytree(self.directory / name, self.directory / new)


def add(digest, value):
    """Adds a nested value to a digest."""
    if torch.is_tensor(value):
        digest.update(f'{value.dtype}{tuple(value.shape)}'.encode())
        digest.update(value.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    elif isinstance(value, dict):
        for key in sorted(value, key=str):
            digest.update(str(key).encode())
            add(digest, value[key])
    elif isinstance(value, list | tuple):
        for item in value:
            add(digest, item)
    else:
        digest.update(repr(value).encode())


def call_before(owner, name, action):
    """Replaces owner.name by a function that calls action(number of the call) first."""
    wrap(owner, name, action, lambda number: None)


def call_after(owner, name, action):
    """Replaces owner.name by a function that calls action(number of the call) at its end."""
    wrap(owner, name, lambda number: None, action)


def wrap(owner, name, before, after):
    """Replaces owner.name by a function with something before and after it."""
    original, calls = getattr(owner, name), []

    def wrapped(*args, **kwargs):
        calls.append(1)
        number = len(calls)
        before(number)
        result = original(*args, **kwargs)
        after(number)
        return result

    setattr(owner, name, wrapped)


def kill_at(number):
    """An action that kills this process and its workers at the number-th call."""

    def action(current):
        if current == number:
            os.killpg(0, signal.SIGKILL)

    return action
