"""README.md: its commands run, in their order, and what it names exists."""

import os
import re
import shlex
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT, draw_toy
from PIL import Image

from export import parse_export_args
from options import parse_test_args, parse_train_args
from predict import parse_predict_args
from utils.arg_parser import Parser
from utils.tracking.sources import read_sources, write_sources

README = (ROOT / 'README.md').read_text(encoding='utf-8')
# What does not end by itself, installs something, or runs this test; such scripts are only parsed.
NOT_RUN = re.compile(r'tensorboard|scripts/test\.sh|\b(pytest|pip|git|source|cd)\s')
SCRIPTS = sorted((ROOT / 'scripts').glob('*.sh'))
# A clone's own README names data that is not here.
is_own = pytest.mark.skipif(not README.startswith('# torch_base'), reason='of another project')


def read_commands():
    """The commands of README's bash blocks, each on one line."""
    blocks = re.findall(r'^```bash\n(.*?)^```', README, re.MULTILINE | re.DOTALL)
    lines = '\n'.join(blocks).replace('\\\n', ' ').splitlines()
    return [line for line in lines if line.strip() and not line.startswith('#')]


@pytest.fixture
def project(tmp_path):
    """A copy of the project that draws a smaller demo set, with toy data for README's my/."""
    project = tmp_path / 'project'
    write_sources(read_sources(), project)
    shapes = project / 'data' / 'shapes.py'
    few = "NUM_IMAGES = {'train': 16, 'val': 4}"
    text, num_changed = re.subn('^NUM_IMAGES = .*', few, shapes.read_text(), flags=re.MULTILINE)
    assert num_changed == 1
    shapes.write_text(text)
    for kind in ('images', 'masks'):
        (project / 'my' / kind).mkdir(parents=True)
    for i in range(12):
        img, label = draw_toy(i)
        Image.fromarray(img).save(project / 'my' / 'images' / f'{i}.png')
        mask = np.where((label > 0) & (label < 255), 255, 0).astype(np.uint8)
        Image.fromarray(mask).save(project / 'my' / 'masks' / f'{i}.png')
    return project


@pytest.fixture
def environment(tmp_path):
    """os.environ, with this Python as `python` and `python3`."""
    (tmp_path / 'bin').mkdir()
    for name in ('python', 'python3'):
        path = tmp_path / 'bin' / name
        path.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
        path.chmod(0o755)
    return os.environ | {'PATH': f'{tmp_path / "bin"}:{os.environ["PATH"]}'}


@is_own
@pytest.mark.slow
def test_the_commands_run_one_after_the_other_as_a_user_would_type_them(project, environment):
    commands = [command for command in read_commands() if not NOT_RUN.search(command)]
    assert len(commands) > 5
    for command in commands:
        if '--resume' not in command:  # of a new run one epoch is enough
            command = re.sub(r'--epochs[ =]\d+', '--epochs 1', command)
        process = subprocess.run(
            ['bash', '-c', command],
            cwd=project,
            env=environment,
            capture_output=True,
            text=True,
            timeout=1000,
        )
        assert process.returncode == 0, f'{command}\n{process.stdout}\n{process.stderr}'
        assert 'Traceback' not in process.stderr, f'{command}\n{process.stderr}'


@pytest.mark.parametrize('path', SCRIPTS, ids=lambda path: path.name)
def test_a_script_is_valid_and_strict(path):
    process = subprocess.run(['bash', '-n', path], capture_output=True, text=True)
    assert (process.returncode, process.stderr) == (0, '')
    text = path.read_text()
    assert 'set -euo pipefail' in text or '/setup.sh"' in text  # which sets it


@is_own
def test_every_option_and_script_that_it_names_exists():
    parse = parse_train_args, parse_test_args, parse_predict_args, parse_export_args
    parsers = [parse_args(Parser()) for parse_args in parse]
    known = {name for parser in parsers for name in parser._option_string_actions}
    for script in [*(ROOT / 'scripts').glob('*.py'), ROOT / 'data' / 'make_list.py']:
        known |= set(re.findall(r"'(--\w+)'", script.read_text()))
    assert set(re.findall(r'(?<![\w-])--[a-z][\w-]*', README)) <= known
    for name in re.findall(r'scripts/\w+\.\w+', README):
        assert (ROOT / name).is_file(), name


@is_own
def test_the_chinese_readme_has_the_same_commands_pictures_and_parts():
    chinese = (ROOT / 'README.zh-CN.md').read_text(encoding='utf-8')
    for pattern in (r'^```bash\n(.*?)^```', r'\]\((docs/[^)]*)\)', r'^(##) ', r'^\|(---)'):
        parts = [re.findall(pattern, text, re.MULTILINE | re.DOTALL) for text in (README, chinese)]
        assert parts[0] == parts[1]
    named = [set(re.findall(r'(?<![\w-])--[a-z][\w-]*', text)) for text in (README, chinese)]
    assert named[0] == named[1]
