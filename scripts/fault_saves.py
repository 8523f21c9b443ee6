"""F2 to F4: killed while a checkpoint is saved, and checkpoints that are damaged."""

import io
import os
import signal
import time
from pathlib import Path

import torch

import utils.checkpoint
import utils.files
from scripts.fault_runs import call_after, call_before, kill_at
from utils.checkpoint import load_checkpoint, save_checkpoint
from utils.errors import UserError
from utils.tracking.run_dir import NUMBERED


def save_half(state, file):
    """torch.save that is killed in the middle."""
    content = io.BytesIO()
    torch.serialization.save(state, content)
    file.write(content.getvalue()[: content.tell() // 2])
    file.flush()
    os.killpg(0, signal.SIGKILL)


def kill_in_save(phase, number):
    """A hook that kills in a phase of the number-th checkpoint file."""

    def hook():
        if phase == 'before tmp':
            call_before(utils.checkpoint, 'replace_file', kill_at(number))
        elif phase == 'half of tmp':
            calls, save = [], torch.save

            def save_some(state, file):
                calls.append(1)
                (save_half if len(calls) == number else save)(state, file)

            utils.checkpoint.torch.save = save_some
        elif phase == 'after fsync':  # each file is followed by its directory
            call_after(utils.files.os, 'fsync', kill_at(2 * number - 1))
        elif phase == 'after rename':
            call_after(utils.files, 'sync_directory', kill_at(number))
        else:
            kill_in_pruning(number)

    return hook


def kill_in_pruning(number):
    """Kills before (odd) or after (even numbers) a numbered checkpoint is removed."""
    unlink, action, calls = Path.unlink, kill_at((number + 1) // 2), []

    def unlink_and_kill(path, missing_ok=False):
        if not NUMBERED.fullmatch(path.name):
            return unlink(path, missing_ok)
        calls.append(1)
        if number % 2:
            action(len(calls))
        unlink(path, missing_ok)
        return action(len(calls))

    Path.unlink = unlink_and_kill


def killed_in_saves(lab):
    """F2: killed in each phase of a save, of the files of an epoch and between them."""
    phases = ('before tmp', 'half of tmp', 'after fsync', 'after rename')
    places = [(phase, number) for number in (1, 7, 8, 9, 15) for phase in phases]
    places += [('pruning', number) for number in range(1, 5)] + [('after rename', 16)]
    places = places[: lab.count(25)]
    num_good = 0
    for i, (phase, number) in enumerate(places):
        code = lab.run(f'f2_{i}', hook=kill_in_save(phase, number))
        is_killed = code == -signal.SIGKILL
        code = lab.run(f'f2_{i}', '--resume')
        num_good += is_killed and code == 0 and lab.is_identical(f'f2_{i}')
    return num_good, len(places), 'loadable and identical'


def hot_saves(lab):
    """F3: killed while a 12 MB checkpoint is saved without pause."""
    path, num_good = lab.directory / 'hot.pth', 0

    def save_on(options):
        step = 0
        while True:
            step += 1
            save_checkpoint({'model': {'w': torch.full((3_000_000,), float(step))}}, path)

    for _ in range(lab.count(40)):
        pid = lab.start('hot', call=save_on)
        while not path.exists():
            time.sleep(0.01)
        time.sleep(lab.rng.uniform(0, 0.5))
        lab.kill(pid)
        weights = load_checkpoint(path)['model']['w']
        num_good += bool((weights == weights[0]).all())
    return num_good, lab.count(40), 'load'


def damaged_files(lab):
    """F4: one bit of a checkpoint is flipped; the newest one is truncated, zeroed or emptied."""
    lab.copy('straight_False', 'f4')
    run = lab.get_run('f4')
    content, expected = run.last.read_bytes(), lab.digest('f4')
    num_good = 0
    for _ in range(lab.count(400)):
        flipped = bytearray(content)
        flipped[lab.rng.randrange(len(content))] ^= 1 << lab.rng.randrange(8)
        run.last.write_bytes(flipped)
        try:
            load_checkpoint(run.last)
            num_good += lab.digest('f4') == expected
        except UserError:
            num_good += 1
    kinds = [content[: len(content) // 2], bytes(len(content)), b'', flipped[:-1]]
    for i, damage in enumerate(kinds):
        name = f'f4_{i}'
        lab.copy('straight_False', name)
        damaged = lab.get_run(name)
        for path in damaged.list_checkpoints()[:2]:
            path.write_bytes(damage)
        code = lab.run(name, '--resume')
        is_said = 'last.pth' in lab.read(name, 'err') and lab.read(name, 'err').count('\n') == 2
        num_good += code == 0 and is_said and lab.is_identical(name)
    return num_good, lab.count(400) + len(kinds), 'caught or harmless'


SAVES = {
    'F2': (killed_in_saves, 'killed in each phase of a save'),
    'F3': (hot_saves, 'killed while saving without pause'),
    'F4': (damaged_files, 'flipped bits, damaged newest checkpoint'),
}
