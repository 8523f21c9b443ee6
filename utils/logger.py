"""Recorder adds numbers up; Logger puts what a run has to show into its directory."""

import shutil
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from utils.checkpoint import save_checkpoint
from utils.tables import read_rows, write_rows
from utils.viz import join_panels

# What a run writes; --overwrite removes these and nothing else.
RUN_FILES = (
    '*.pth', 'events.out.tfevents.*', 'log.csv', 'args.txt', 'best', 'last', '[0-9]*_*',
    'run.json', 'code', 'code_until_*', 'uncommitted.diff', 'results.csv', '.results.csv.lock',
)  # fmt: skip


class Recorder:
    """Sums and counts by name; only `summary` divides, so batches weigh what they hold."""

    def __init__(self):
        self.sums, self.counts = {}, {}

    def record(self, name, sum, count=1):
        """Adds a sum and what it is a sum over: numbers, or tensors of one shape (any, or (C,))."""
        # Float64 on the tensor's own device: exact for pixel counts, and nothing waits for a GPU.
        sum = torch.as_tensor(sum).detach().double()
        self.sums[name] = self.sums.get(name, 0) + sum
        self.counts[name] = self.counts.get(name, 0) + count

    def record_all(self, pairs):
        """Adds every (sum, count) of {name: (sum, count)}."""
        for name, (sum, count) in pairs.items():
            self.record(name, sum, count)

    def summary(self):
        """{name: sum / count}, a float or a list of floats; nan where nothing was counted."""
        return {name: (sum / self.counts[name]).tolist() for name, sum in self.sums.items()}


Recoder = Recorder  # the name it had in the ancestor of this project


class Logger:
    """Curves, pictures and checkpoints of one run, in `model_dir`."""

    def __init__(self, model_dir):
        """Nothing is written before `open`."""
        self.model_dir, self.rows, self.writer = Path(model_dir), [], None
        self.log_path = self.model_dir / 'log.csv'

    @contextmanager
    def open(self, epoch=0):
        """Goes on after `epoch`; 0 starts afresh and clears what an earlier run wrote."""
        self.model_dir.mkdir(parents=True, exist_ok=True)
        for half in self.model_dir.glob('.*.pth.*.tmp'):  # of a save that was killed
            half.unlink()
        if epoch == 0:
            self._clear()
        self.rows = [r for r in read_rows(self.log_path) if int(r['epoch']) <= epoch]
        with SummaryWriter(self.model_dir, purge_step=epoch + 1) as self.writer:
            yield self

    def record_scalar(self, name, value, epoch):
        """One point of a TensorBoard curve; nan leaves a gap."""
        if value == value:
            self.writer.add_scalar(name, value, epoch)

    def save_curves(self, epoch, scores, best_scores):
        """One point of every curve, and one line of log.csv; best/x moves with a best epoch."""
        best = {f'best/{name}': value for name, value in best_scores.items()}
        for name, value in (scores | best).items():
            self.record_scalar(name, value, epoch)
        if not self.rows:
            self._pair_curves(scores)
        self.rows.append({'epoch': epoch} | {k: f'{v:.6g}' for k, v in scores.items()})
        write_rows(self.log_path, self.rows)
        self.writer.flush()

    def save_imgs(self, name, imgs, epoch):
        """One TensorBoard picture: the panels side by side."""
        self.writer.add_image(name, join_panels(imgs), epoch, dataformats='HWC')

    def save_checkpoint(self, state, names, keep=0):
        """Writes `state` under each of the names; of numbered files only the newest `keep` stay."""
        for name in names:
            save_checkpoint(state, self.model_dir / name)
        numbered = sorted(self.model_dir.glob('[0-9]*_[0-9]*.pth'))
        for path in numbered[:-keep] if keep else []:
            path.unlink()

    def save_args(self, args, best_names):
        """The options as text, and in the hparams tab beside the best scores (curves best/x)."""
        table = ''.join(f'| {name} | {value} |\n' for name, value in args.items())
        self.writer.add_text('args', f'| option | value |\n| --- | --- |\n{table}')
        plain = {k: v if isinstance(v, int | float | str) else str(v) for k, v in args.items()}
        experiment, session, _ = hparams(plain, {f'best/{name}': 0 for name in best_names})
        self.writer.file_writer.add_summary(experiment)
        self.writer.file_writer.add_summary(session)

    def _clear(self):
        for pattern in RUN_FILES:
            for path in self.model_dir.glob(pattern):
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _pair_curves(self, scores):
        """TensorBoard's Custom Scalars: train and val of a score in one chart."""
        names = [n.removeprefix('train/') for n in scores if n.startswith('train/')]
        charts = {n: ['Multiline', [f'train/{n}', f'val/{n}']] for n in names if '/' not in n}
        self.writer.add_custom_scalars({'train and val': charts})
