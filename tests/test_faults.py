"""The fault suite of scripts/test_faults.sh, with a few kills of each kind."""

import pytest
from conftest import run_python


@pytest.mark.slow
def test_a_few_kills_saves_and_signals_lose_nothing():
    options = ['--only', 'F1', 'F2', 'F3', 'F5', 'F13', '--count', 2]
    process = run_python('-m', 'scripts.faults', *options)
    lines = process.stdout.splitlines()
    assert len(lines) == 5, process.stderr
    assert all(line.endswith('pass') for line in lines), process.stdout
    assert process.returncode == 0
