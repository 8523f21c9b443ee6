"""What it costs that a run remembers itself: `python -m scripts.benchmark [train.py options]`.

Draws the demo set into a temporary directory, trains one step, and prints medians.
"""

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from data.shapes import write_set
from options import get_changed_args, get_train_args
from train import Trainer
from utils.checkpoint import save_checkpoint
from utils.sources import read_sources, write_sources

NUM_RUNS = 500  # directories that runs.py is tried on
MEMORY = ('provenance', 'code', 'probe')  # what a checkpoint holds of it


def time_ms(call, repeats=1):
    """Median milliseconds of a call."""
    durations = []
    for _ in range(repeats):
        start_s = time.perf_counter()
        call()
        durations.append((time.perf_counter() - start_s) * 1000)
    return statistics.median(durations)


def main(directory, options):
    """Prints the figures, one a line."""
    write_set(directory / 'demo')
    lists = [f'--{split}_list={directory}/demo/{split}.txt' for split in ('train', 'val')]
    quick = ['--num_classes=5', '--num_workers=0', f'--model_dir={directory}/runs/first']
    trainer = Trainer(get_train_args([*lists, *quick, *options]))
    trainer.model.train()
    trainer.step(next(iter(trainer.train_loader)))
    print_start_cost(trainer, directory)
    print_save_cost(trainer, directory)
    print_runs_cost(trainer, directory / 'runs')


def print_start_cost(trainer, directory):
    """What a run does before its first step, each part as it is done the first time."""
    parts = {
        'provenance': lambda: trainer.get_provenance(None),
        'reading the sources': read_sources,
        'writing the sources': lambda: write_sources(read_sources(), directory / 'code'),
        'first probe': trainer.evaluator.take_probe,
    }
    costs = {name: time_ms(call) for name, call in parts.items()}
    detail = ', '.join(f'{name} {cost:.0f}' for name, cost in costs.items())
    print(f'start of a run: +{sum(costs.values()):.0f} ms ({detail})')


def print_save_cost(trainer, directory):
    """Saves with and without what a checkpoint remembers, in turn."""
    path, full = directory / 'x.pth', trainer.get_state({}, trainer.evaluator.take_probe())
    bare = {name: value for name, value in full.items() if name not in MEMORY}
    pairs = [
        (time_ms(lambda: save_checkpoint(full, path)), time_ms(lambda: save_checkpoint(bare, path)))
        for _ in range(100)
    ]
    with_ms, without_ms = (statistics.median(column) for column in zip(*pairs, strict=True))
    num_mb, share = path.stat().st_size / 1e6, statistics.median(a / b for a, b in pairs) - 1
    print(
        f'save of {num_mb:.1f} MB: {without_ms:.1f} ms, all stored {with_ms:.1f} ms ({share:+.1%})'
    )
    val_ms = time_ms(lambda: trainer.evaluator.eval(lambda *_: None))
    probe_ms = time_ms(trainer.evaluator.take_probe, 50)
    shares = f'{probe_ms / without_ms:.1%} of a save, {probe_ms / val_ms:.1%} of a validation'
    print(f'taking the probe: {probe_ms:.1f} ms ({shares})')


def print_runs_cost(trainer, runs):
    """runs.py on many runs."""
    with (
        trainer.logger.open(),
        trainer.record.open(
            args=vars(trainer.args),
            changed=get_changed_args(trainer.args),
            **trainer.get_progress(),
        ),
    ):
        pass
    for i in range(NUM_RUNS - 1):
        (runs / f'run_{i}').mkdir()
        shutil.copy(runs / 'first' / 'run.json', runs / f'run_{i}')
    command = [sys.executable, 'scripts/runs.py', 'list', '--dir', runs]
    list_ms = time_ms(lambda: subprocess.run(command, check=True, capture_output=True), 5)
    print(f'runs.py list of {NUM_RUNS} runs: {list_ms:.0f} ms')


if __name__ == '__main__':
    with tempfile.TemporaryDirectory() as temporary:
        main(Path(temporary), sys.argv[1:])
