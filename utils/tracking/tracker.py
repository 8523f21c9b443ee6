"""Tracker: the one object through which train.py and eval.py know how a checkpoint came about.

With run_dir.py it is what the rest of the project imports of this package.
"""

import json
import os
import sys
from contextlib import contextmanager, suppress
from pathlib import Path

from utils.arg_parser import expand
from utils.errors import UserError, list_some, one_line
from utils.files import replace_file
from utils.tracking import sources
from utils.tracking.claim import claim_run, undo_on_error  # noqa: F401
from utils.tracking.drift import find_drift
from utils.tracking.probe import probe_model
from utils.tracking.provenance import describe_parent, digest_sample, get_provenance
from utils.tracking.run_dir import RunDir, get_time, get_train_model_dir

CODE = sources.read_sources()  # while the program is imported: what is edited later does not run


class Tracker:
    """The provenance, code and probe of what runs now: kept in run.json and in checkpoints, and
    compared with those of a checkpoint.
    """

    def __init__(self, args, evaluator, compared, train_loader=None, initial=None):
        """`compared` are the names of options whose change is drift, `initial` the checkpoint that
        training starts from. Nothing is written before `open`.
        """
        self.args, self.evaluator, self.compared = args, evaluator, compared
        self.run_dir = RunDir(get_train_model_dir(args)) if train_loader else None
        self.record, self.foreign = {}, set()  # content of run.json; files that others left here
        self.is_kept = False  # whether a step of this run is saved
        datasets = {'val': (args.val_list, evaluator.loader.samples)}
        if train_loader:
            datasets['train'] = (args.train_list, train_loader.samples)
        self.provenance = get_provenance(datasets, args.class_names)
        self.code = CODE | sources.read_imported(CODE)
        self.sample = digest_sample(evaluator.loader.dataset[0, 0])
        if train_loader and len({digest_sample(train_loader.dataset[1, 0]) for _ in range(2)}) > 1:
            reason = 'augmentation has a random generator of its own, which --seed does not reach'
            advice = 'seed it in `transform`, with random.getrandbits(32) for example'
            print(f'warning: a sample read twice differs: {reason}: {advice}', file=sys.stderr)
        if initial:
            self.provenance['parent'] = describe_parent(args.load_model_path, initial)
            self.print_drift(initial, 'code', 'probe')

    def get_state(self):
        """What a checkpoint keeps; the probe runs with the current weights."""
        model = self.evaluator.model
        was_training = model.training
        model.eval()
        probe = probe_model(self.evaluator.step, self.evaluator.loader.device, self.args)
        model.train(was_training)
        probe['sample'] = self.sample
        self.code |= sources.read_imported(self.code)  # what the loop imports, too
        return {'provenance': self.provenance, 'code': self.code, 'probe': probe}

    def print_drift(self, checkpoint, *names):
        """Prints what has changed since a checkpoint whose weights are loaded: all findings, or
        those named. Returns the Drift.
        """
        args = {name: value for name, value in vars(self.args).items() if name in self.compared}
        current = self.get_state() | {'args': args}
        current['code'] = sources.read_code(checkpoint.get('code', {})) | self.code
        if self.args.load_model_path and self.args.load_not_strict:
            current['probe']['answer'] = None  # weights may be missing: nothing to compare
        drift = find_drift(checkpoint, current)
        print(*drift.describe(*names), sep='\n', flush=True)
        return drift

    def continue_from(self, checkpoint):
        """Records the earlier part of a resumed run, and prints what has changed since; returns
        whether its validation list is still the same.

        UserError if its training list is not.
        """
        drift, stored = self.print_drift(checkpoint), checkpoint.get('provenance')
        if 'train data' in drift.changes and not self.args.allow_changes:
            line = drift.findings['train data'].lines[0]
            raise UserError(f'--resume with another training list ({line}): give --allow_changes')
        if stored:  # a flat list: what the checkpoint has under 'earlier' comes before it
            until = {'earlier': [], 'until_epoch': checkpoint['epoch'], 'changes': drift.describe()}
            earlier = [*stored['earlier'], stored | until]
            self.provenance |= {'parent': stored.get('parent'), 'earlier': earlier}
        return not stored or drift.trained is not None and 'data' not in drift.changes

    def mark_finished(self, state):
        """Says that nothing is left to train, and marks a run that was killed just before so."""
        print(f'{self.run_dir.path} is finished: {state.advise_more()} continues it')
        self.run_dir.clear_half_written()
        self.record = self.run_dir.read_record()
        if self.record.get('status') not in ('finished', None):
            self.update(status='finished', error='', end=get_time(), **state.describe())

    @contextmanager
    def open(self, state):
        """Starts or continues the run's directory; on leaving, run.json says how the run ended.

        The run that --overwrite replaces is removed when the first step of this one is saved; if
        it fails before, the old run is restored.
        """
        self.run_dir.path.mkdir(parents=True, exist_ok=True)
        self.is_kept = state.step > 0
        if not self.is_kept:
            self.run_dir.set_aside()
        self.run_dir.clear_half_written()
        self.foreign = self.run_dir.list_foreign()
        facts = {'args': vars(self.args), **self.provenance, **state.describe()}
        self.update(status='running', **facts)
        with Path(os.devnull).open() as spare:
            try:
                sources.write_sources(self.code, self.run_dir.code)
                sources.write_diff(self.run_dir.diff, self.provenance['git'])
                yield
                sources.write_sources(self.code, self.run_dir.code)
                self.update(status='finished', end=get_time())
            except BaseException as error:
                spare.close()  # its file handle is needed for run.json if there are no others
                self.fail(error)
                raise

    def fail(self, error):
        """Notes in run.json that the run has ended with an error, or puts back the run that it was
        to replace.
        """
        is_mistake = isinstance(error, UserError) or self.run_dir.replaced.exists()
        if is_mistake and not self.is_kept:
            self.run_dir.restore()
            return
        is_stop = isinstance(error, KeyboardInterrupt | SystemExit)
        how = {} if is_stop else {'error': f'{type(error).__name__}: {error}'}
        with suppress(OSError):  # the disk may be full: the first cause is what counts
            self.update(status='stopped' if is_stop else 'failed', end=get_time(), **how)

    @contextmanager
    def saving(self, state, names):
        """While the checkpoints `names` are written: run.json lists them before, and what they
        replace is removed after.
        """
        self.update(names)
        yield
        self.update(**state.describe())
        self.is_kept = self.is_kept or state.step > 0
        if self.is_kept:
            self.run_dir.discard_replaced()
            self.run_dir.prune(state.step, self.args.keep)

    def update(self, names=(), **facts):
        """Adds facts to run.json, and lists the files that the run writes: those that are there,
        and `names`.
        """
        files = dict.fromkeys([*names, *self.run_dir.list_written(self.foreign)])
        self.record |= facts | {'files': list(files)}
        with replace_file(self.run_dir.run_json) as file:
            file.write(json.dumps(self.record, indent=2, default=str) + '\n')


def list_changed_code(checkpoint):
    """The names of the source files that differ from those of a checkpoint. All code counts, not
    just what is imported: a module that fails to import does not run.
    """
    stored = checkpoint.get('code', CODE)
    changes = sources.compare_sources(stored, sources.read_code(stored) | CODE)
    return [name for name, *_ in changes if not name.startswith(('tests/', 'scripts/'))]


def print_changed_code(checkpoint):
    """Prints which code has changed since training, for a program that takes no scores."""
    names = list_changed_code(checkpoint)
    if names:
        advice = 'eval.py says whether its scores did'
        print(f'code: changed since training: {list_some(names)}; {advice}', flush=True)


@contextmanager
def advise_snapshot(checkpoint, typed=()):
    """Adds which code changed, and what to do, to the error of a checkpoint that does not load.

    An unknown name that is among the options in `typed` is a typing error and nothing else.
    """
    try:
        yield
    except (UserError, ImportError, AttributeError, TypeError) as error:
        names = list_changed_code(checkpoint or {})
        if not names or getattr(error, 'option', '') in typed:
            raise
        kind = '' if isinstance(error, UserError) else f'{type(error).__name__}: '
        advice = 'eval.py --use_snapshot runs the original code'
        changed = f'changed since training: {list_some(names)}'
        message = f'{kind}{one_line(error)}; {changed}; {advice}'
        raise UserError(message) from error


def run_snapshot(args, checkpoint):
    """Runs the same command with the code that made the checkpoint; returns its exit code."""
    if 'code' not in checkpoint:
        raise UserError(f'checkpoint {args.load_model_path} contains no code for --use_snapshot')
    argv = [word for word in expand(sys.argv[1:]) if word != '--use_snapshot']
    directory = RunDir(Path(args.load_model_path).parent).code
    return sources.run_copy('eval.py', checkpoint['code'], directory, argv)
