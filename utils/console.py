"""What a run prints: a header, a line per epoch with the time that is left, and a footer.

TRAIN_LOG keeps all of it in the run's train.log.
"""

import shlex
import sys
import time
from contextlib import contextmanager, suppress
from io import StringIO

from utils.model_cost import count_bytes, describe_model
from utils.progress import Progress
from utils.scores import format_scores
from utils.torch_utils import describe_device
from utils.tracking.run_dir import RunDir, get_time

# What the header says elsewhere.
SHOWN = ('model_type', 'model_dir', 'save_prefix', 'train_list', 'val_list')


class TrainLog:
    """Copies what goes to stdout and stderr to a file, once there is one."""

    def __init__(self):
        self.file = None  # while recording: in memory, until `write_to` names a file

    @contextmanager
    def record(self):
        """Copies what is printed in the block, and the error that ends it."""
        streams, self.file = (sys.stdout, sys.stderr), StringIO()
        sys.stdout, sys.stderr = (Copied(stream, self) for stream in streams)
        try:
            yield
        except BaseException as error:
            self.add(f'{type(error).__name__}: {error}\n')
            raise
        finally:
            sys.stdout, sys.stderr = streams
            self.file.close()
            self.file = None

    def write_to(self, path):
        """Appends to `path` what was printed, and what will be."""
        if self.file:
            printed = self.file.getvalue()
            self.file = path.open('a', encoding='utf-8', errors='backslashreplace')
            self.add(f'--- {get_time()} {shlex.join(sys.argv)}\n{printed}')

    def add(self, text):
        """Appends a text. A full disk is left to the checkpoints to report."""
        if self.file:
            with suppress(OSError):
                self.file.write(text)
                self.file.flush()


class Copied:
    """A stream whose text goes to a TrainLog too."""

    def __init__(self, stream, log):
        self.stream, self.log = stream, log

    def write(self, text):
        """Writes to both."""
        self.log.add(text)
        return self.stream.write(text)

    def __getattr__(self, name):
        return getattr(self.stream, name)


TRAIN_LOG = TrainLog()


class Console:
    """Prints what a run is, how far it is, and what it left behind."""

    def __init__(self, args, model_dir):
        self.args, self.run_dir = args, RunDir(model_dir)
        self.start_s = self.mark_s = time.perf_counter()
        self.num_epochs = 0  # finished since the start of the program

    def print_header(self, trainer, changed):
        """Prints what will be trained; `changed` are the options that are not at their defaults."""
        val_loader, train_loader = trainer.evaluator.loader, trainer.train_loader
        num_samples, batch = train_loader.sampler.num_samples, self.args.batch_size
        train = f'{self.args.train_list}: {num_samples} images, {len(train_loader)} batches of '
        val = f'{self.args.val_list}: {len(val_loader.sampler)} images'
        checkpoint = f'checkpoints about {count_bytes(trainer) / 1e6:.1f} MB'
        rows = {
            'run': self.run_dir.path,
            'device': describe_device(val_loader.device),
            'train': f'{train}{batch} per epoch',
            'val': val,
            'model': f'{self.args.model_type}: {describe_model(trainer.evaluator)}, {checkpoint}',
            'options': ' '.join(f'{k}={v}' for k, v in changed.items() if k not in SHOWN),
        }
        print(*(f'{name:<8} {text}' for name, text in rows.items()), sep='\n', flush=True)
        TRAIN_LOG.write_to(self.run_dir.train_log)
        self.start_s = self.mark_s = time.perf_counter()

    def follow(self, loader, epoch, start):
        """A loop over an epoch's batches that shows how far it is."""
        title = f'epoch {epoch}/{self.args.epochs}'
        return Progress(loader, title, self.args.print_freq, start)

    def print_epoch(self, epoch, scores):
        """Prints the headlines of training and validation, the epoch's time and what is left."""
        self.num_epochs += 1
        mark_s, self.mark_s = self.mark_s, time.perf_counter()
        left_s = (self.mark_s - self.start_s) / self.num_epochs * (self.args.epochs - epoch)
        left = f', {format_time(left_s)} left' if epoch < self.args.epochs else ''
        times = f'{format_time(self.mark_s - mark_s)}{left}'
        title = f'epoch {epoch}/{self.args.epochs}'
        lines = {split: format_scores(scores, f'{split}/') for split in ('train', 'val')}
        lines['train'] += f' | {times}'
        texts = [f'{title} {split} | {line}' for split, line in lines.items() if line]
        print(*texts, sep='\n', flush=True)

    def list_footer(self, state):
        """Lines that say how training ended, where everything is, and what to do next."""
        lines, run = state.list_results(), self.run_dir
        if self.args.fast_dev_run:
            parts = 'data, model, loss, metrics, pictures, checkpoints'
            lines.append(f'fast_dev_run passed: {parts}: 2 training and 2 validation batches')
            return [*lines, f'in {run.path}; next: the same command without --fast_dev_run']
        size = run.last.stat().st_size / 1e6 if run.last.exists() else 0
        files = ', '.join(path.name for path in (run.log, run.curves, run.train_log))
        lines.append(f'in {run.path}: last.pth ({size:.1f} MB), {files}')
        more = f'python train.py @{shlex.quote(str(run.args))} --resume {state.advise_more()}'
        more += " --load_model_path ''" if self.args.load_model_path else ''
        commands = [more, 'bash scripts/tensorboard.sh']
        if run.best.exists():
            best = shlex.quote(str(run.best))
            commands = [f'python eval.py --load_model_path {best} --save_viz', *commands]
        return [*lines, 'next:', *(f'  {command}' for command in commands)]


def format_time(seconds):
    """'8.4 s', '12 min' or '5.3 h'."""
    if seconds < 120:
        return f'{seconds:.1f} s' if seconds < 10 else f'{seconds:.0f} s'
    return f'{seconds / 60:.0f} min' if seconds < 7200 else f'{seconds / 3600:.1f} h'
