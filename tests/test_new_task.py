"""docs/new_task.md: its blocks are applied to a copy of the project, in order, and run."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from utils.tracking.sources import read_sources, write_sources

PAGE = (ROOT / 'docs' / 'new_task.md').read_text()
BLOCKS = re.findall(r'```(python|bash)\n(.*?)```', PAGE, re.DOTALL)


def apply(kind, text, project, environment):
    """Writes a new file, adds a line to a registry, or runs commands."""
    if kind == 'bash':
        command = ['bash', '-euo', 'pipefail', '-c', text]
        process = subprocess.run(
            command, cwd=project, env=environment, capture_output=True, text=True, timeout=1000
        )
        assert process.returncode == 0, f'{text}\n{process.stdout}\n{process.stderr}'
        return process.stdout
    first, _, rest = text.partition('\n')
    name, _, registry = first.removeprefix('# ').partition(': ')
    path = project / name
    if registry:
        opening = f'{registry} = {{\n'
        assert path.read_text().count(opening) == 1
        path.write_text(path.read_text().replace(opening, opening + rest))
    else:
        assert not path.exists()
        path.write_text(rest)
    return ''


@pytest.mark.slow
def test_the_three_tasks_of_the_page_train_and_score(tmp_path):
    project = tmp_path / 'project'
    write_sources(read_sources(), project)
    shutil.copytree(ROOT / 'checkpoints', project / 'checkpoints', ignore=lambda *_: ['*'])
    path = f'{Path(sys.executable).parent}:{os.environ["PATH"]}'
    outputs = [apply(*block, project, os.environ | {'PATH': path}) for block in BLOCKS]
    scores = ' '.join(outputs)
    runs = project / 'checkpoints'
    accuracy = re.findall(r'val \| loss \S+ \| acc (\S+)', scores)[-1]
    assert float(accuracy) > 0.4  # of four classes
    results = runs / 'classifier_kinds' / 'best' / 'kinds_val_pref'
    assert len((results / 'confusion.csv').read_text().splitlines()) == 5
    assert list((results / 'panels').glob('*.png'))
    assert float(re.findall(r'miou (\S+) \(training', scores)[-1]) > 0.3
    assert (
        float(re.findall(r'rmse (\S+) \(training', scores)[-1]) < 1.2
    )  # meters; the depths are 1 to 5
    assert list((runs / 'base_model_depth' / 'best').rglob('panels/*.png'))
