"""run.json: how a run came about, how far it is and how it ended."""

import json
from contextlib import contextmanager
from pathlib import Path

from utils.provenance import now
from utils.sources import SNAPSHOT, read_sources, run_git, write_sources


class RunRecord:
    """What is known of the run in `model_dir`; `provenance` and `sources` go into checkpoints."""

    def __init__(self, model_dir, provenance):
        """Nothing is written before `open`."""
        self.model_dir, self.provenance = Path(model_dir), provenance
        self.sources, self.facts = read_sources(), {}

    def continue_from(self, provenance):
        """Keeps where the run came from, and how it was run before it was stopped."""
        earlier = [*provenance['earlier'], provenance | {'earlier': []}]
        self.provenance |= {'parent': provenance['parent'], 'earlier': earlier}

    @contextmanager
    def open(self, **facts):
        """Writes run.json, code/ and uncommitted.diff; on leaving, how the run ended."""
        write_sources(self.sources, self.model_dir / SNAPSHOT)
        diff = run_git('diff', '--no-ext-diff', 'HEAD', '--', '.') if self.provenance['git'] else ''
        if diff:
            (self.model_dir / 'uncommitted.diff').write_text(diff, encoding='utf-8')
        self.update(status='running', **facts, **self.provenance)
        try:
            yield self
            self.update(status='finished', end=now())
        except (KeyboardInterrupt, SystemExit):
            self.update(status='stopped', end=now())
            raise
        except BaseException as error:
            self.update(status='failed', error=f'{type(error).__name__}: {error}', end=now())
            raise

    def mark_finished(self):
        """Says so in run.json, where a run was stopped after its last epoch and before that."""
        path = self.model_dir / 'run.json'
        self.facts = json.loads(path.read_text(encoding='utf-8')) if path.exists() else {}
        if self.facts.get('status') != 'finished':
            self.update(status='finished')

    def update(self, **facts):
        """Adds to run.json; a reader sees the old file or the new one."""
        self.facts |= facts
        path = self.model_dir / 'run.json'
        tmp = path.with_name('.run.json.tmp')
        tmp.write_text(json.dumps(self.facts, indent=2, default=str) + '\n', encoding='utf-8')
        tmp.replace(path)
