"""F7 to F10, F16 to F18: changed options, a poor machine, bad numbers and files."""

import os
import pickle
import resource

import torch
from torch.utils.data import get_worker_info

import train
from data.list_dataset import ListDataset
from data.list_file import ListFile
from data.loading import make_loader
from options import get_train_args
from scripts.fault_runs import STEPS, call_before
from utils.checkpoint import load_checkpoint

CHANGES = {  # option: the exit code with --resume, without and with --allow_changes
    '--lr=0.01': (0, 0),
    '--wd=0.1': (0, 0),
    '--clip_grad=1': (0, 0),
    '--num_workers=0': (0, 0),
    '--print_freq=7': (0, 0),
    '--loss=dice': (2, 0),
    '--batch_size=8': (2, 0),
    '--seed=3': (2, 0),
    '--scheduler=poly': (2, 0),
    '--optimizer=sgd': (2, 2),
    '--num_classes=6': (2, 2),
    '--model_type=base_model': (2, 2),
    '--ema=0': (2, 2),
}


def changed_options(lab):
    """F7: what changes the experiment is refused in one line, and nothing is written."""
    lab.run('f7', '--epochs=1')
    num_good = 0
    for i, (option, codes) in enumerate(CHANGES.items()):
        for j, code in enumerate(codes):
            name, allow = f'f7_{i}_{j}', ['--allow_changes'] * j
            lab.copy('f7', name)
            before = lab.get_run(name).last.read_bytes()
            is_right = lab.run(name, '--epochs=2', option, '--resume', *allow) == code
            is_kept = lab.get_run(name).last.read_bytes() == before
            num_good += is_right and (code == 0 or is_kept and lab.is_one_line(name))
    return num_good, 2 * len(CHANGES), 'applied or refused as the table says'


def is_intact(lab, name):
    """Whether the checkpoint of epoch 1 stands and nothing half written is left."""
    run = lab.get_run(name)
    return load_checkpoint(run.last)['epoch'] == 1 and not list(run.path.glob('.*.tmp'))


def poor_disk(lab):
    """F8: files that may not grow, and a run directory that is moved away."""
    lab.run('f8', '--epochs=1', '--save_steps=0')
    size = lab.get_run('f8').last.stat().st_size // 2

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    code = lab.run('f8', '--resume', hook=limit)
    is_told = lab.is_one_line('f8', 'File too large', 'ulimit -f', 'MB')
    results = [code == 1 and is_told and is_intact(lab, 'f8')]
    run = lab.get_run('f8_moved')

    def move(number):
        if number == 2:
            run.path.rename(lab.directory / 'f8_elsewhere')

    code = lab.run('f8_moved', hook=lambda: call_before(train.Trainer, 'finish_epoch', move))
    results.append(code == 1 and lab.is_one_line('f8_moved', 'removed'))
    return sum(results), len(results), 'one line, older checkpoint stands'


def make_nan(number, in_loss):
    """A hook: the loss, or only its gradient, of the number-th step is nan."""

    def hook():
        compute_loss, calls = train.compute_loss, []

        def compute(pred, batch, args):
            calls.append(1)
            is_bad = len(calls) == number
            if is_bad and not in_loss:
                pred.register_hook(lambda grad: grad * float('nan'))
            losses = compute_loss(pred, batch, args)
            return {'loss': losses['loss'] * float('nan')} if is_bad and in_loss else losses

        train.compute_loss = compute

    return hook


def bad_numbers(lab):
    """F9: nan in a loss or a gradient, in the middle and in the last step of an epoch."""
    num_good, places = 0, [(3, True), (3, False), (STEPS, True), (STEPS, False), (1, False)]
    for i, (number, in_loss) in enumerate(places):
        code = lab.run(f'f9_{i}', hook=make_nan(number, in_loss))
        is_told = lab.is_one_line(f'f9_{i}', f'epoch 1, batch {number}', '.png', 'not finite')
        states = [load_checkpoint(path) for path in lab.get_run(f'f9_{i}').list_checkpoints()]
        is_finite = all(t.isfinite().all() for s in states for t in s['model'].values())
        is_before = states[0]['step'] == number - 1
        num_good += code == 2 and is_told and is_finite and is_before
    return num_good, len(places), 'stopped before the update'


def dead_workers(lab):
    """F10: a worker exits; 96 and 48 file handles."""

    def exit_in_worker():
        call_before(ListDataset, 'read', lambda number: get_worker_info() and os._exit(1))

    code = lab.run('f10', hook=exit_in_worker)
    results = [code == 1 and lab.is_one_line('f10', 'DataLoader worker', '--num_workers 0')]
    for number in (96, 48):

        def limit(number=number):
            resource.setrlimit(resource.RLIMIT_NOFILE, (number, number))

        code = lab.run(f'f10_{number}', '--num_workers=4', hook=limit)
        is_told = lab.is_one_line(f'f10_{number}', 'ulimit -n')
        results.append(code == 0 or code == 1 and is_told)
    return sum(results), len(results), 'one line, no hang'


def equal_scores(lab):
    """F16: the scores at the end of training are those of eval.py."""
    best = lab.get_run('straight_False').best
    options = ['--load_model_path', best, '--result_dir', lab.directory / 'results']
    code = lab.run('f16', *options, call=lab.evaluate)
    line = next((x for x in lab.read('f16', 'out').splitlines() if x.startswith('miou ')), '')
    return code == 0 and 'equal' in line, 1, 'equal'


class Evil:
    """Runs a command when it is unpickled."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def code_in_files(lab):
    """F17: checkpoints that carry os.system, in three formats, to eval.py and to --resume."""
    canary, results = lab.directory / 'canary', []
    evil = {'model': {}, 'args': Evil(f'touch {canary}')}
    for kind in ('zip', 'legacy', 'pickle'):
        run = lab.get_run(f'f17_{kind}')
        lab.copy('straight_False', run.path.name)
        for path in run.list_checkpoints():
            path.write_bytes(pickle.dumps(evil))
            if kind != 'pickle':
                torch.save(evil, path, _use_new_zipfile_serialization=kind == 'zip')
        code = lab.run(run.path.name, '--load_model_path', run.last, call=lab.evaluate)
        error = lab.read(run.path.name, 'err')
        results.append(code == 2 and 'system' in error and 'weights_only' not in error)
        results.append(lab.run(run.path.name, '--resume') == 2 and not canary.exists())
    return sum(results), len(results), 'refused, nothing ran'


class Names:
    """A dataset that only names its files."""

    def __init__(self, path):
        self.files = ListFile(path)

    def __len__(self):
        return len(self.files)

    def __getitem__(self, i):
        return {'img': torch.zeros(1), 'label': 0, 'name': self.files[i][0]}


def long_list(lab):
    """F18: one pass over a list of 1,000,000 lines with 2 workers: their memory does not grow."""
    directory = lab.directory / 'long'
    directory.mkdir()
    (directory / 'a.png').write_bytes(b'x')
    num_lines = 1_000_000 if lab.count(10) == 10 else 100_000
    (directory / 'list.txt').write_text('a.png a.png\n' * num_lines)
    args = get_train_args(lab.list_options('f18'))
    names, device = Names(directory / 'list.txt'), torch.device('cpu')
    loader = make_loader(names, args, device, 500, True, num_lines)
    sizes, first = [], {}
    for i, _ in enumerate(loader):
        if i % 200 == 100:  # after a warm-up
            now = [read_memory(worker.pid) for worker in loader._iterator._workers]
            first = first or now
            sizes.append(max(b / a for a, b in zip(first, now, strict=True)) - 1)
    growth = max(sizes)
    print(f'     a worker grew by at most {growth:.1%} over {num_lines:,} lines', flush=True)
    return growth < 0.05, 1, 'below 5 %'


def read_memory(pid):
    """Bytes of a process, what it shares with others counted in part."""
    with open(f'/proc/{pid}/smaps_rollup') as file:  # noqa: PTH123
        return next(int(line.split()[1]) for line in file if line.startswith('Pss:'))


INPUTS = {
    'F7': (changed_options, 'options changed on resuming'),
    'F8': (poor_disk, 'disk limits, directory moved'),
    'F9': (bad_numbers, 'nan in loss or gradient'),
    'F10': (dead_workers, 'dead worker, few file handles'),
    'F16': (equal_scores, 'score of training against eval.py'),
    'F17': (code_in_files, 'code in checkpoints'),
    'F18': (long_list, 'list of 1,000,000 lines'),
}
