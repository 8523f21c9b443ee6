"""run.json: how a run came about, how far it is and how it ended; and the lock of a run."""

import fcntl
import json
import os
import socket
import sys
from contextlib import contextmanager
from pathlib import Path

from utils.errors import BusyError, UserError
from utils.files import replace_file
from utils.provenance import now
from utils.sources import SNAPSHOT, read_sources, run_git, write_sources


class RunRecord:
    """What is known of the run in `model_dir`; `provenance` and `sources` go into checkpoints."""

    def __init__(self, model_dir, provenance, sources):
        """Nothing is written before `open`."""
        self.model_dir, self.provenance = Path(model_dir), provenance
        self.sources, self.facts = sources, {}

    def continue_from(self, checkpoint, changes):
        """Keeps where the run came from, how it ran until now and, in lines, what changed then."""
        provenance = checkpoint['provenance']
        # The list is flat: what the checkpoint held as 'earlier' stands before it, not in it.
        until = {'earlier': [], 'until_epoch': checkpoint['epoch'], 'changes': changes}
        earlier = [*provenance['earlier'], provenance | until]
        self.provenance |= {'parent': provenance['parent'], 'earlier': earlier}

    @contextmanager
    def open(self, epoch, **facts):
        """Writes run.json, code/ and uncommitted.diff; on leaving, how the run ended."""
        self._write_code(epoch)
        self.update(status='running', epoch=epoch, **facts, **self.provenance)
        try:
            yield self
            self.update(status='finished', end=now())
        except (KeyboardInterrupt, SystemExit):
            self.update(status='stopped', end=now())
            raise
        except BaseException as error:
            self.update(status='failed', error=f'{type(error).__name__}: {error}', end=now())
            raise

    def mark_finished(self, **facts):
        """Says so in run.json, where a run was stopped after its last epoch and before that."""
        path = self.model_dir / 'run.json'
        before = json.loads(path.read_text(encoding='utf-8')) if path.exists() else {}
        if before and before['status'] != 'finished':
            self.facts = {'end': now()} | before | {'error': ''}
            self.update(status='finished', **facts)

    def update(self, **facts):
        """Adds to run.json; a reader sees the old file or the new one."""
        self.facts |= facts
        with replace_file(self.model_dir / 'run.json') as file:
            file.write(json.dumps(self.facts, indent=2, default=str) + '\n')

    def _write_code(self, epoch):
        """Code that earlier epochs ran, where it was another, moves to code_until_<epoch>/."""
        code = self.model_dir / SNAPSHOT
        earlier = code.with_name(f'{SNAPSHOT}_until_{epoch:04d}')
        if epoch and code.exists() and not earlier.exists() and read_sources(code) != self.sources:
            code.rename(earlier)
        write_sources(self.sources, code)
        options = ('--no-ext-diff', '--no-color', 'HEAD', '--', '.')
        diff = run_git('diff', *options) if self.provenance['git'] else ''
        (self.model_dir / 'uncommitted.diff').unlink(missing_ok=True)
        if diff:
            (self.model_dir / 'uncommitted.diff').write_text(diff, encoding='utf-8')


@contextmanager
def lock_run(model_dir):
    """Keeps other processes from training in model_dir meanwhile; BusyError says who does already.

    The system takes the lock back when a process ends, however it ends. lockf, not flock: loading
    processes inherit a flock, and may outlive this one. Nothing else in this process may open
    .lock, for to close it again gives the lock up.
    """
    try:
        model_dir.mkdir(parents=True, exist_ok=True)
        lock = (model_dir / '.lock').open('a+', encoding='utf-8')
    except OSError as error:
        raise UserError(f'cannot write to {model_dir}: {error.strerror}') from error
    with lock as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            who = file.read()
            advice = 'wait for it, or start beside it with another --save_prefix'
            raise BusyError(f'{model_dir} is being trained by {who}: {advice}') from error
        except OSError as error:  # a file system without locks
            print(f'warning: {model_dir} cannot be locked: {error.strerror}', file=sys.stderr)
        file.truncate(0)
        file.write(f'process {os.getpid()} on {socket.gethostname()} since {now()}')
        file.flush()
        yield


def check_unused(model_dir):
    """UserError when model_dir holds a run that a new one would write over."""
    if list(model_dir.glob('*.pth')):
        raise UserError(
            f'{model_dir} holds a run already: --resume goes on with it, another --save_prefix '
            'starts beside it, --overwrite throws it away'
        )
