"""F1, F5, F6, F11, F13, F14: runs are killed and stopped, and resumed."""

import os
import signal
import socket
import time

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import train
from scripts.fault_runs import EPOCHS, HASHED, STEPS, call_after, call_before, kill_at
from utils.files import read_rows
from utils.logger import Logger


def killed_twice(lab):
    """F1: SIGKILL to the whole group at random moments, with 0 and 2 workers in turn."""
    num_good = 0
    for i in range(lab.count(50)):
        name, is_cycle = f'f1_{i}', i % 2 == 1
        for _ in range(2):
            workers = f'--num_workers={lab.rng.choice((0, 2))}'
            pid = lab.start(name, workers, '--resume', is_cycle=is_cycle)
            lab.sleep(is_cycle)
            lab.kill(pid)
        workers = f'--num_workers={lab.rng.choice((0, 2))}'
        code = lab.run(name, workers, '--resume', is_cycle=is_cycle)
        num_good += code == 0 and lab.is_identical(name, is_cycle)
    return num_good, lab.count(50), 'identical'


def signals(lab):
    """F5: SIGTERM, SIGUSR1, SIGINT and SIGHUP to the whole group at random moments."""
    num_good, kinds = 0, (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGHUP)
    for i in range(lab.count(20)):
        signum, name, is_cycle = kinds[i % 4], f'f5_{i}', i % 2 == 1
        pid = lab.start(name, is_cycle=is_cycle)
        lab.sleep(is_cycle)
        lab.kill(pid, signum)
        code, error = lab.wait(pid, 30), lab.read(name, 'err')
        is_clean = code in (0, 128 + signum) and 'Traceback' not in error
        code = lab.run(name, '--resume', is_cycle=is_cycle)
        num_good += is_clean and error.count('\n') <= 2 and code == 0
        num_good -= not lab.is_identical(name, is_cycle)
    return num_good, lab.count(20), 'resumable, no step lost'


def every_step(lab):
    """F6: killed after the first checkpoint, every step and every epoch; resumed when finished."""
    num_saves = 1 + EPOCHS * (STEPS + 1)
    numbers, num_good = range(1, num_saves + 1)[: lab.count(num_saves)], 0
    for number in numbers:
        name, is_cycle = f'f6_{number}', number % 2 == 1
        options = {'is_cycle': is_cycle}

        def hook(number=number):
            call_after(train.Trainer, 'save', kill_at(number))

        is_killed = lab.run(name, '--num_workers=0', hook=hook, **options) == -signal.SIGKILL
        code = lab.run(name, '--num_workers=0', '--resume', **options)
        num_good += is_killed and code == 0 and lab.is_identical(name, is_cycle)
    lab.copy('straight_False', 'f6')
    code = lab.run('f6', '--resume')
    is_said = 'is finished' in lab.read('f6', 'out')
    num_good += code == 0 and is_said and lab.is_identical('f6')
    return num_good, len(numbers) + 1, 'identical'


def two_processes(lab):
    """F11: a second process is refused a run that is being trained, until the first is killed."""
    first = lab.start('f11', '--epochs=1000')
    while not lab.get_run('f11').best.exists():
        time.sleep(0.02)
    second = lab.run('f11', '--epochs=1000', '--resume')
    is_told = lab.is_one_line('f11', f'process {first} on {socket.gethostname()} since')
    lab.kill(first)
    third = lab.start('f11', '--epochs=1000', '--resume')
    time.sleep(lab.seconds[False])
    is_training = os.waitpid(third, os.WNOHANG) == (0, 0)
    lab.kill(third)
    return sum((second == 4, is_told, is_training)), 3, 'refused, told by whom, free again'


def logs_after_kills(lab):
    """F13: killed between logging and saving; every epoch is there once."""
    places = [(call, n) for n in range(1, EPOCHS + 1) for call in (call_before, call_after)]
    places, num_good = places[: lab.count(len(places))], 0
    for i, (call, number) in enumerate(places):
        lab.run(f'f13_{i}', hook=lambda c=call, n=number: c(Logger, 'save_curves', kill_at(n)))
        code = lab.run(f'f13_{i}', '--resume')
        num_good += code == 0 and read_epochs(lab.get_run(f'f13_{i}')) == {(1, 2, 3)}
    return num_good, len(places), 'with 0 duplicate, 0 stale'


def read_epochs(run):
    """The epochs that log.csv and each curve of TensorBoard hold."""
    curves = {}
    for path in sorted(run.path.glob('events*')):
        events = EventAccumulator(str(path), size_guidance={'scalars': 0})
        events.Reload()
        for tag in events.Tags()['scalars']:
            if not tag.startswith('best/'):  # only where there is a new best epoch
                curves.setdefault(tag, []).extend(event.step for event in events.Scalars(tag))
    return {tuple(int(row['epoch']) for row in read_rows(run.log)), *map(tuple, curves.values())}


def with_and_without_validation(lab):
    """F14: validation changes nothing in the training weights."""
    digests = set()
    for freq in (0, 1):
        lab.run(f'f14_{freq}', f'--val_freq={freq}')
        run = lab.get_run(f'f14_{freq}')
        run.best.write_bytes(run.last.read_bytes())  # without validation there is none
        digests.add(lab.digest(f'f14_{freq}', [name for name in HASHED if name != 'best']))
    return 2 if len(digests) == 1 and None not in digests else 0, 2, 'identical'


KILLS = {
    'F1': (killed_twice, 'killed twice at random moments'),
    'F5': (signals, 'signals to the whole group'),
    'F6': (every_step, 'killed after every step'),
    'F11': (two_processes, 'two processes in one run'),
    'F13': (logs_after_kills, 'killed between logging and saving'),
    'F14': (with_and_without_validation, 'validation every epoch or never'),
}
