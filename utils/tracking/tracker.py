"""Tracker: the one object through which train.py and eval.py know how a checkpoint came about.

With run_dir.py it is what the rest of the project imports of this package.
"""

import json
import sys
from contextlib import contextmanager
from pathlib import Path

from utils.arg_parser import Parser
from utils.errors import UserError, one_line
from utils.files import replace_file
from utils.tracking import sources
from utils.tracking.drift import find_drift
from utils.tracking.probe import probe_model
from utils.tracking.provenance import describe_parent, digest_sample, get_provenance
from utils.tracking.run_dir import RunDir, claim_run, get_time, get_train_model_dir, undo_on_error  # noqa: F401

CODE = sources.read_sources()  # while the program is imported: what is edited later does not run


class Tracker:
    """The provenance, code and probe of what runs now: kept in run.json and in checkpoints, and
    compared with those of a checkpoint.
    """

    def __init__(self, args, evaluator, compared, train_loader=None, parent=None):
        """`compared` are the names of options whose change is drift, `parent` the checkpoint that
        training starts from. Nothing is written before `open`.
        """
        self.args, self.evaluator, self.compared = args, evaluator, compared
        self.run_dir = RunDir(get_train_model_dir(args)) if train_loader else None
        self.record = {}  # the content of run.json
        datasets = {'val': (args.val_list, evaluator.loader.samples)}
        if train_loader:
            datasets['train'] = (args.train_list, train_loader.samples)
        self.provenance = get_provenance(datasets)
        self.code = CODE | sources.read_imported(CODE)
        self.sample = digest_sample(evaluator.loader.dataset[0, 0])
        if parent:
            self.provenance['parent'] = describe_parent(args.load_model_path, parent)
            self.print_drift(parent, 'code', 'probe')

    def get_state(self):
        """What a checkpoint keeps; the probe runs with the current weights."""
        self.evaluator.model.eval()
        probe = probe_model(self.evaluator.step, self.evaluator.loader.device, self.args)
        probe['sample'] = self.sample
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

    def continue_from(self, checkpoint, state):
        """Keeps how a resumed run ran before, and prints what has changed since.

        A run that was stopped between its last epoch and its end is marked as finished.
        """
        drift, stored = self.print_drift(checkpoint), checkpoint['provenance']
        # A flat list: what the checkpoint has under 'earlier' comes before it, not inside it.
        until = {'earlier': [], 'until_epoch': state.epoch, 'changes': drift.describe()}
        earlier = [*stored['earlier'], stored | until]
        self.provenance |= {'parent': stored['parent'], 'earlier': earlier}
        if state.is_finished():
            print(f'{self.run_dir.path} is finished: increase --epochs to continue')
            self.record = self.run_dir.read_record()
            if self.record.get('status') not in ('finished', None):
                self.update(state, status='finished', error='', end=get_time())

    @contextmanager
    def open(self, state):
        """Starts or continues the run's directory; on leaving, run.json says how the run ended.

        A new run first removes what an earlier one left there.
        """
        self.run_dir.path.mkdir(parents=True, exist_ok=True)
        if state.epoch == 0:
            self.run_dir.clear()
        self.run_dir.clear_half_written()
        self.update(state, status='running', args=vars(self.args), **self.provenance)
        try:
            sources.write_sources(self.code, self.run_dir.code)
            sources.write_diff(self.run_dir.diff, self.provenance['git'])
            yield
            self.update(state, status='finished', end=get_time())
        except BaseException as error:
            is_stop = isinstance(error, KeyboardInterrupt | SystemExit)
            how = {} if is_stop else {'error': f'{type(error).__name__}: {error}'}
            status = 'stopped' if is_stop else 'failed'
            self.update(state, status=status, end=get_time(), **how)
            raise

    def update(self, state, **facts):
        """Keeps in run.json how far the run is; a reader sees the old file or the new one."""
        self.record |= facts | state.describe() | {'files': self.run_dir.list_written()}
        with replace_file(self.run_dir.run_json) as file:
            file.write(json.dumps(self.record, indent=2, default=str) + '\n')


@contextmanager
def advise_snapshot(checkpoint, typed=()):
    """Adds which code changed, and what to do, to the error of a checkpoint that does not load.

    An unknown name that is among the options in `typed` is a typing error and nothing else.
    """
    try:
        yield
    except (UserError, ImportError, AttributeError, TypeError) as error:
        # All code, not just what is imported: a module that fails to import does not run.
        stored = (checkpoint or {}).get('code', CODE)
        changes = sources.compare_sources(stored, sources.read_code(stored) | CODE)
        names = [name for name, *_ in changes if not name.startswith(('tests/', 'scripts/'))]
        if not names or getattr(error, 'option', None) in typed:
            raise
        kind = '' if isinstance(error, UserError) else f'{type(error).__name__}: '
        advice = 'eval.py --use_snapshot runs the original code'
        message = f'{kind}{one_line(error)}; changed since training: {", ".join(names)}; {advice}'
        raise UserError(message) from error


def run_snapshot(args, checkpoint):
    """Runs the same command with the code that made the checkpoint; returns its exit code."""
    if 'code' not in checkpoint:
        raise UserError(f'checkpoint {args.load_model_path} holds no code for --use_snapshot')
    argv = [word for word in Parser().expand(sys.argv[1:]) if word != '--use_snapshot']
    directory = RunDir(Path(args.load_model_path).parent).code
    return sources.run_copy('eval.py', checkpoint['code'], directory, argv)
