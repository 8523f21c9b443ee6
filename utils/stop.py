"""What ends training early: signals, and numbers that are not finite. No torch is imported here,
so that a signal during the imports is caught as well.
"""

import atexit
import multiprocessing.util
import os
import signal
import sys
from contextlib import contextmanager, suppress

from utils.errors import UserError

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)


class Stop:
    """What signals ask of this process: to leave at once or, while it trains, after this step."""

    def __init__(self):
        self.name = ''  # of the first signal; its exit code is 128 + its number
        self.can_wait = self.can_undo = False

    def catch_signals(self):
        """Catches the signals that are not ignored, as nohup ignores SIGHUP."""
        for number in SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self.handle)

    def handle(self, number, _):
        """Keeps the signal for `end_if_asked`; exits at once if there is no step to wait for, or
        at a second Ctrl-C.
        """
        is_second = bool(self.name) and number == signal.SIGINT
        self.name = self.name or signal.Signals(number).name
        if not self.can_wait or is_second:
            say(f'stopped by {self.name}')
            if not self.can_undo or is_second:  # in an import an exception might be lost
                os._exit(128 + number)
            self.end()
        say(f'{self.name}: stopping after this step')

    @contextmanager
    def after_step(self):
        """Signals wait for `end_if_asked`, which the block calls after each step."""
        self.can_wait = True
        try:
            yield
        finally:
            self.can_wait = False

    @contextmanager
    def with_undo(self):
        """A signal is an exception, so that what was half done is undone."""
        self.can_undo = True
        try:
            yield
        finally:
            self.can_undo = False
            kill_workers()

    def end_if_asked(self, save):
        """If a signal has come, calls `save` and ends the program."""
        if self.name:
            save()
            say(f'stopped by {self.name}: saved; --resume continues here')
            self.end()

    def end(self):
        """Ends the program with the exit code of the signal."""
        sys.exit(128 + signal.Signals[self.name])


STOP = Stop()


def kill_workers():
    """Ends DataLoader workers, busy ones too: they ignore the signal that torch sends to these."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's handler would report them
    for worker in multiprocessing.active_children():
        worker.kill()


# Before multiprocessing, imported above, waits for them at the exit.
atexit.register(kill_workers)


def say(line):
    """Writes a line to stderr; unlike print it may be called while stderr is being written to."""
    with suppress(OSError):
        os.write(2, f'{line}\n'.encode())


@contextmanager
def keep_epoch(save):
    """Calls `save` if the block finds a mistake in the data: what was trained before is kept."""
    try:
        yield
    except UserError:
        save()
        raise


def check_finite(losses, batch, state, scaler):
    """The losses of a step, {name: scalar tensor}, before its update; FloatingPointError if the
    loss or the gradient norm is not finite.

    The scaler of fp16 may skip a step with infinite gradients: 'skipped_steps' counts these, and
    their norm is left out.
    """
    is_finite = bool((losses['loss'] + losses['grad_norm']).isfinite())  # waits for the device
    if not is_finite:
        if not losses['loss'].isfinite() or not scaler.is_enabled() or scaler.get_scale() < 1:
            raise FloatingPointError(describe_step(losses, batch, state))
        losses = {name: loss for name, loss in losses.items() if name != 'grad_norm'}
    return losses | ({'skipped_steps': float(not is_finite)} if scaler.is_enabled() else {})


def describe_step(losses, batch, state, most=20):
    """One line: where the step is, what is not finite in it, its losses and its files."""
    place = state.epoch + 1, state.batch + 1
    wrong = ' and '.join(name for name, loss in losses.items() if not loss.isfinite())
    values = ', '.join(f'{name} {loss.item():.4g}' for name, loss in losses.items())
    names = ' '.join(batch['name'][:most]) + (' ...' if len(batch['name']) > most else '')
    advice = 'nothing was updated and the checkpoints are intact; look at the files, lower --lr or '
    advice += f'set --clip_grad; --replay {place[0]} {place[1]} runs this batch again'
    where = f'epoch {place[0]}, batch {place[1]}, step {state.step + 1}'
    return f'{where}: {wrong} is not finite ({values}) for {names}; {advice}'
