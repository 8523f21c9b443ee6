"""What this project adds to a bare training loop: `python -m scripts.bench [train.py options]`.

Draws the demo dataset into a temporary directory and prints medians.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch

from data.shapes import write_set
from loss import compute_loss
from model.model_entry import forward_batch
from options import get_train_args
from train import Trainer
from utils.checkpoint import save_checkpoint
from utils.resume import get_state
from utils.stop import check_finite
from utils.tracking.sources import read_sources, write_sources
from utils.tracking.tracker import Tracker

TRACKED = ('provenance', 'code', 'probe')  # what a checkpoint keeps for tracking


def time_ms(call, repeats=1):
    """Median milliseconds of a call."""
    durations = []
    for _ in range(repeats):
        start_s = time.perf_counter()
        call()
        durations.append((time.perf_counter() - start_s) * 1000)
    return statistics.median(durations)


def print_start_cost(trainer, directory):
    """What tracking does before the first step, each part as it is done the first time."""
    args, loader = trainer.args, trainer.train_loader
    tracker_ms = time_ms(lambda: Tracker(args, trainer.evaluator, (), loader))
    sources_ms = time_ms(read_sources)
    write_ms = time_ms(lambda: write_sources(read_sources(), directory / 'code'))
    parts = f'reading the code {sources_ms:.0f}, writing it {write_ms:.0f}, rest {tracker_ms:.0f}'
    print(f'start of a run: +{sources_ms + write_ms + tracker_ms:.0f} ms ({parts})')


def print_save_cost(trainer, directory):
    """Saves with and without what a checkpoint keeps for tracking, in turn."""
    path, full = directory / 'x.pth', get_state(trainer, {})
    bare = {name: value for name, value in full.items() if name not in TRACKED}
    pairs = [
        [time_ms(lambda state=state: save_checkpoint(state, path)) for state in (full, bare)]
        for _ in range(50)
    ]
    full_ms, bare_ms = (statistics.median(column) for column in zip(*pairs, strict=True))
    share = statistics.median(a / b for a, b in pairs) - 1
    probe_ms = time_ms(trainer.tracker.get_state, 20)
    num_mb = path.stat().st_size / 1e6
    print(
        f'save of {num_mb:.1f} MB: {bare_ms:.1f} ms, with tracking {full_ms:.1f} ms ({share:+.1%})'
    )
    print(f'probe, once per checkpoint: {probe_ms:.1f} ms')


def print_step_cost(trainer):
    """What the check of loss and gradient norm is of a step, and a save is of an epoch."""
    batch = next(iter(trainer.train_loader))
    losses = trainer.update(batch)[1]
    step_ms = time_ms(lambda: trainer.update(batch), 20)
    check_ms = time_ms(lambda: check_finite(losses, batch, trainer.state, trainer.scaler), 1000)
    print(
        f'step: {step_ms:.1f} ms; check of loss and gradient norm: {check_ms / step_ms:.3%} of it'
    )
    epoch_ms, save_ms = time_ms(lambda: train_epoch(trainer), 3), time_ms(trainer.save, 20)
    print(f'save: {save_ms:.1f} ms, {save_ms / epoch_ms:.2%} of an epoch of {epoch_ms:.0f} ms')


def train_epoch(trainer):
    """Trains the first epoch, again and again."""
    trainer.state.batch = 0
    trainer.train_per_epoch(1)


def print_loop_cost(trainer):
    """An epoch of the Trainer against the same steps in a bare loop, in turn."""
    args, loader = trainer.args, trainer.train_loader

    def run_bare_loop():
        trainer.model.train()
        for batch in loader:
            trainer.optimizer.zero_grad()
            compute_loss(forward_batch(trainer.model, batch, args), batch, args)['loss'].backward()
            trainer.optimizer.step()

    pairs = [(time_ms(lambda: train_epoch(trainer)), time_ms(run_bare_loop)) for _ in range(5)]
    share = statistics.median(a / b for a, b in pairs) - 1
    print(f'epoch of {len(loader)} steps: {share:+.1%} against a bare loop without metrics')


def main(directory, options):
    """Prints the figures, one per line."""
    write_set(directory / 'demo')
    lists = [f'--{split}_list={directory}/demo/{split}.txt' for split in ('train', 'val')]
    demo = ['--num_classes=5', '--num_workers=0', '--data_type=mem_list', '--viz_freq=10000']
    args = get_train_args([*lists, *demo, f'--model_dir={directory}/run', *options])
    trainer = Trainer(args)
    print_start_cost(trainer, directory)
    with trainer.tracker.open(trainer.state), trainer.logger.open():
        print_loop_cost(trainer)
        print_step_cost(trainer)
        print_save_cost(trainer, directory)


if __name__ == '__main__':
    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory() as temporary:
        main(Path(temporary), sys.argv[1:])
