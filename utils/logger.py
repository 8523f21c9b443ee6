"""Recorder adds numbers up; Logger turns them into curves, and writes pictures and checkpoints."""

from contextlib import contextmanager

import torch
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from metrics import summarize
from utils.charts import draw_curves
from utils.checkpoint import save_checkpoint
from utils.files import read_rows, write_rows
from utils.tracking.run_dir import RunDir
from utils.viz import caption_panels, encode_img, write_img


class Recorder:
    """Sums and counts by name; only `summary` divides, so that every sample counts the same."""

    def __init__(self):
        self.sums, self.counts = {}, {}

    def record(self, name, sum, count=1):
        """Adds a sum and what it is a sum over: numbers, or tensors of one shape (any, or (C,))."""
        # Float64 on the tensor's own device: exact for pixel counts, and no wait for a GPU.
        sum = torch.as_tensor(sum, dtype=torch.float64).detach()
        for totals, value in ((self.sums, sum), (self.counts, count)):
            total = totals.get(name, 0)  # on the CPU if a checkpoint has brought it
            totals[name] = value + (total.to(sum.device) if torch.is_tensor(total) else total)

    def record_all(self, pairs):
        """Adds every pair of {name: (sum, count)}."""
        for name, pair in pairs.items():
            self.record(name, *pair)

    def summary(self):
        """{name: sum / count}, floats or lists of floats, nan where nothing was counted; starts
        afresh.
        """
        means = {name: (sum / self.counts[name]).tolist() for name, sum in self.sums.items()}
        self.sums, self.counts = {}, {}
        return means

    def state_dict(self):
        """What a checkpoint keeps of it."""
        return {'sums': self.sums.copy(), 'counts': self.counts.copy()}

    def load_state_dict(self, state):
        """Takes over what `state_dict` returned."""
        self.sums, self.counts = state['sums'].copy(), state['counts'].copy()


Recoder = Recorder  # its name in the ancestor of this project


class EventWriter:
    """Writes TensorBoard's events at once. Its own writer does so in a thread, and waits forever
    for it once it has failed, as at a full disk.
    """

    def __init__(self, path):
        self.writer = RecordWriter(path.open('ab'))
        self.flush, self.close = self.writer.flush, self.writer.close

    def add_event(self, event):
        """Appends an event."""
        self.writer.write(event.SerializeToString())


class Logger:
    """Curves, pictures and checkpoints of one run, in `model_dir`.

    `record_scalar` adds to a curve at each step; `save_curves` writes one point of each per epoch.
    """

    def __init__(self, model_dir, class_names=()):
        """Nothing is written before `open`."""
        self.run_dir, self.class_names = RunDir(model_dir), class_names
        self.recorder, self.scores, self.writer, self.rows = Recorder(), {}, None, []
        self.events = None  # {name: bytes} of the TensorBoard files when a checkpoint was made

    @contextmanager
    def open(self, epoch=0):
        """Continues after `epoch`: what was logged after the checkpoint is dropped."""
        self.rows = read_epochs(self.run_dir.log, epoch)
        self.run_dir.trim_events(self.events)
        before = self.run_dir.measure_events()
        with SummaryWriter(self.run_dir.path) as self.writer:
            (name,) = self.run_dir.measure_events().keys() - before.keys()
            self.writer.file_writer.event_writer.close()
            self.writer.file_writer.event_writer = EventWriter(self.run_dir.path / name)
            yield self

    def record_scalar(self, name, sum, count=1):
        """Adds to a curve: numbers, or (C,) tensors for one curve per class."""
        self.recorder.record(name, sum, count)

    def record_scalars(self, group, scores):
        """Adds to the curves <group>/<name> of {name: number or (sum, count)}."""
        for name, score in scores.items():
            pair = score if isinstance(score, tuple) else (score,)
            self.record_scalar(f'{group}/{name}', *pair)

    def record_scores(self, group, scores):
        """Sets the epoch's point of the curves <group>/<name> to {name: score}."""
        self.scores |= {f'{group}/{name}': score for name, score in scores.items()}

    def save_curves(self, epoch):
        """Writes one point of each curve and one line of log.csv, then starts afresh.

        Returns {name: score}; nan leaves a gap in a curve.
        """
        scores = summarize(self.recorder.summary(), self.class_names) | self.scores
        self.scores = {}
        self._add_points(epoch, scores)
        if not self.rows:
            self._pair_curves(scores)
        self.rows.append({'epoch': epoch} | {k: f'{v:.6g}' for k, v in scores.items()})
        write_rows(self.run_dir.log, self.rows)
        write_img(self.run_dir.curves, draw_curves(self.rows))
        return scores

    def save_best(self, epoch, scores):
        """Writes one point of the curves best/<name>, which change only with a new best epoch."""
        self._add_points(epoch, {f'best/{name}': value for name, value in scores.items()})

    def save_imgs(self, name, imgs, epoch, caption=''):
        """Writes one TensorBoard picture, if there is any: the panels side by side below a caption.

        As JPEG, which takes a quarter of the time that the PNG of `add_image` takes.
        """
        if not imgs:
            return
        panels = caption_panels(imgs, caption)
        image = Summary.Image(height=panels.shape[0], width=panels.shape[1], colorspace=3)
        image.encoded_image_string = encode_img(panels, '.jpg')
        summary = Summary(value=[Summary.Value(tag=name, image=image)])
        self.writer.file_writer.add_summary(summary, epoch)

    def save_checkpoint(self, state, names):
        """Writes `state` under each name, in this order."""
        for name in names:
            save_checkpoint(state, self.run_dir.path / name)

    def state_dict(self):
        """What a checkpoint keeps of it: the epoch's sums and the sizes of the event files."""
        self.writer.flush()
        return self.recorder.state_dict() | {'events': self.run_dir.measure_events()}

    def load_state_dict(self, state):
        """Takes over what `state_dict` returned; `open` then drops what was logged later."""
        self.recorder.load_state_dict(state)
        self.events = state['events']

    def save_args(self, args):
        """Writes the options as text, and for the HParams tab, which shows what differs first."""
        table = ''.join(f'| {name} | {value} |\n' for name, value in args.items())
        self.writer.add_text('args', f'| option | value |\n| --- | --- |\n{table}')
        plain = {k: v if isinstance(v, int | float | str) else str(v) for k, v in args.items()}
        # Without the list of all options TensorBoard finds out itself which of them differ.
        _, session, _ = hparams(plain, {})
        self.writer.file_writer.add_summary(session)

    def _add_points(self, epoch, scores):
        for name, value in scores.items():
            if value == value:  # not nan
                split, _, score = name.partition('/')
                tag = f'{split} per class/{score}' if '/' in score else name
                self.writer.add_scalar(tag, value, epoch)
        self.writer.flush()

    def _pair_curves(self, scores):
        """Draws train and val of a score in one chart of TensorBoard's Custom Scalars."""
        names = [n.removeprefix('train/') for n in scores if n.startswith('train/')]
        charts = {n: ['Multiline', [f'train/{n}', f'val/{n}']] for n in names if '/' not in n}
        self.writer.add_custom_scalars({'train and val': charts})


def read_epochs(path, last):
    """The rows of a log.csv up to an epoch; a row that names no epoch is left out."""
    rows = [row for row in read_rows(path) if (row.get('epoch') or '').isdigit()]
    return [row for row in rows if int(row['epoch']) <= last]
