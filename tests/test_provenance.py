"""What a run and its checkpoints remember of how they came about."""

import hashlib
import json
import os
import secrets
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import CALM, RUN, find_line, read_record, run_python, train, write_list

from data.data_entry import DATASETS
from data.list_file import ListFile
from options import parse_train_args
from train import Trainer
from utils.arg_parser import Parser
from utils.checkpoint import load_checkpoint
from utils.tracking.provenance import digest_sample, fingerprint


def test_run_json_and_the_checkpoint_tell_the_same(make_args, toy_val_list):
    trainer = train(make_args('--epochs', 1, '--lr', 0.25))
    record = read_record(trainer)
    stored = load_checkpoint(trainer.model_dir / 'last.pth')['provenance']
    assert {name: record[name] for name in stored} == stored
    assert record['status'] == 'finished'
    assert record['end'] >= record['start']
    assert record['args'] == vars(trainer.args)
    changed = parse_train_args(Parser()).get_changed(record['args'])
    assert changed['lr'] == 0.25
    assert 'momentum' in record['args'].keys() - changed.keys()
    assert stored['versions']['torch'] == torch.__version__
    assert stored['data']['val']['samples'] == 5
    content = toy_val_list.read_bytes()
    assert stored['data']['val']['sha256'] == hashlib.sha256(content).hexdigest()


class Listed:
    """As much of a dataset as a fingerprint looks at."""

    def __init__(self, path):
        self.files = ListFile(path)

    def __len__(self):
        return len(self.files)


def test_a_fingerprint_counts_the_bytes_of_every_file_and_sees_two_that_swap_sizes(tmp_path):
    path = write_list(tmp_path, 2)
    facts = fingerprint(path, Listed(path))
    assert facts['total_bytes'] == sum(file.stat().st_size for file in tmp_path.glob('*.png'))
    with (tmp_path / '0.png').open('ab') as file:
        file.write(b'\0')
    os.truncate(tmp_path / '1.png', (tmp_path / '1.png').stat().st_size - 1)
    other = fingerprint(path, Listed(path))
    assert [name for name in facts if facts[name] != other[name]] == ['file_sizes']


@pytest.mark.slow
def test_a_run_remembers_the_checkpoint_that_it_started_from(make_args):
    first = train(make_args('--epochs', 1, run='first'))
    path = first.model_dir / 'last.pth'
    second = train(make_args('--epochs', 1, '--load_model_path', path, run='second'))
    parent = read_record(second)['parent']
    assert parent['path'] == str(path)
    assert parent['sha256'] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert parent['epoch'] == 1
    assert parent['command'] == read_record(first)['command']
    again = train(make_args('--epochs', 2, '--resume', run='second'))
    assert read_record(again)['parent'] == parent


def test_no_environment_variable_is_stored(make_args, monkeypatch):
    secret = secrets.token_hex(16)
    monkeypatch.setenv('MY_SECRET_TOKEN', secret)
    trainer = train(make_args('--epochs', 1))
    for path in trainer.model_dir.rglob('*'):
        assert path.is_dir() or secret.encode() not in path.read_bytes(), path


def test_a_sample_digest_sees_every_pixel_and_no_name():
    sample = {'img': torch.zeros(3, 2, 2, dtype=torch.uint8), 'name': 'a'}
    changed = {'img': sample['img'].clone(), 'name': 'a'}
    changed['img'][2, 1, 1] = 1
    assert digest_sample(sample) == digest_sample(sample | {'name': 'b'})
    assert digest_sample(sample) != digest_sample(changed)


def test_a_sample_digest_sees_numbers_that_are_no_tensors():
    assert digest_sample({'label': 3}) != digest_sample({'label': 4})


def test_a_sample_digest_takes_whatever_a_loader_takes():
    sample = {
        'strided': torch.arange(10.0)[::2],
        'expanded': torch.zeros(1).expand(4),
        'name': np.array(['a'])[0],
        'flag': np.bool_(True),
    }
    assert digest_sample(sample) == digest_sample(sample)
    assert digest_sample(sample) != digest_sample(sample | {'strided': torch.arange(5.0)})


@pytest.mark.slow
def test_without_git_a_run_is_recorded_too(trained_clone):
    record = json.loads((trained_clone / RUN / 'run.json').read_text())
    assert record['git'] is None
    assert record['command'].startswith('python')
    assert '--save_prefix first' in record['command']


def test_a_model_that_needs_another_input_is_trained_all_the_same(make_args, monkeypatch):
    monkeypatch.setattr(
        'utils.tracking.probe.gen_probe_batch', lambda: {'img': torch.zeros(1, 7), 'name': ['x']}
    )
    trainer = train(make_args('--epochs', 1))
    answer = load_checkpoint(trainer.model_dir / 'last.pth')['probe']['answer']
    assert 'gen_probe_batch' in answer


@pytest.mark.slow
def test_a_probe_changes_nothing_of_the_training(make_args, monkeypatch):
    plain = train(make_args(run='plain')).model.state_dict()
    monkeypatch.setattr('utils.tracking.tracker.probe_model', lambda *_: {'answer': 'x'})
    other = train(make_args(run='other')).model.state_dict()
    assert all(torch.equal(plain[name], other[name]) for name in plain)


def test_the_probe_of_a_model_that_is_stochastic_does_not_depend_on_the_seed(
    make_args, monkeypatch, capsys
):
    monkeypatch.setattr('conftest.ToyNet.eval', lambda self: self.train())
    path = train(make_args('--epochs', 1, run='parent')).model_dir / 'last.pth'
    Trainer(make_args('--load_model_path', path, '--seed', 5, run='child'))
    assert 'probe: identical' in capsys.readouterr().out


@pytest.mark.slow
def test_the_command_that_runs_prints_reproduces_the_run(clone):
    process = run_python('scripts/runs.py', 'cmd', Path(RUN).name, cwd=clone)
    (clone / 'train.py').unlink()  # the copy in the run directory is what runs
    again = run_python(*process.stdout.split()[1:], cwd=clone)
    assert again.returncode == 0, again.stderr
    states = [load_checkpoint(clone / f'{run}/last.pth') for run in (RUN, f'{RUN}_again')]
    assert states[0]['metrics']['val/loss'] == states[1]['metrics']['val/loss']


class OwnData:
    """A dataset of one's own: no list file, and a `files` that is something else."""

    def __init__(self, args, list_path, is_train):
        self.files = ['a', 'b', 'c', 'd']

    def __len__(self):
        return len(self.files)

    def __getitem__(self, i):
        label = torch.zeros(8, 8, dtype=torch.uint8)
        return {'img': torch.zeros(3, 8, 8, dtype=torch.uint8), 'label': label, 'name': str(i)}


def test_a_dataset_without_a_list_file_is_remembered_too(make_args, monkeypatch):
    monkeypatch.setitem(DATASETS, 'own', 'test_provenance:OwnData')
    options = ['--data_type', 'own', '--train_list', 'any', '--val_list', 'any']
    train(make_args('--epochs', 1, *options))
    trainer = Trainer(make_args('--epochs', 2, *options, '--resume'))
    state = load_checkpoint(trainer.model_dir / 'last.pth')
    assert state['provenance']['data']['val'] == {'list': 'any', 'samples': 4}
    drift = trainer.tracker.print_drift(state)
    find_line(drift.describe('code', 'probe', 'data'), *CALM)
