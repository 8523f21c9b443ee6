"""Mistakes on the command line: one line on stderr, exit code 2, nothing created."""

import sys

import pytest
from conftest import run_python
from torch._utils import ExceptionWrapper

from data.data_entry import DATASETS
from loss import LOSSES
from metrics import METRICS
from options import get_train_args
from utils import registry
from utils.errors import UserError, choose, one_line_errors


def check_refused(make, options, words, capsys, tmp_path):
    """make(*options) ends with code 2 and one line that contains every word; there is no run."""
    with pytest.raises(SystemExit) as stop:
        make(*options)
    assert stop.value.code == 2
    message = capsys.readouterr().err
    assert message.count('\n') == 1
    assert all(word in message for word in words), message
    assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        (['--epoch', 3], ["'--epoch'", "'--epochs'"]),
        (['--lr', 'fast'], ['--lr', 'above 0', "'fast'"]),
        *((['--lr', value], ['--lr', 'above 0']) for value in ('0', '-1', 'nan', 'inf')),
        *((['--batch_size', value], ['whole', 'above 0']) for value in ('0', '-4', '2.5')),
        (['--epochs', 0], ['--epochs']),
        (['--num_workers', -1], ['--num_workers', '0 or more']),
        *((['--seed', value], ['--seed', '4294967295']) for value in (-1, 2**70)),
        (['--gpus', 99], ['--gpus 99', 'machine']),
        (['--gpus', 0, 0], ['--gpus 0 0', 'once']),
        (['--print_freq', 0], ['--print_freq']),
        (['--viz_freq', 0], ['--viz_freq']),
        *((['--save_prefix', name], ['--save_prefix']) for name in ('a/b', '..', 'a;b', 'a b', '')),
        (['--model_type', 'toyy'], ["'toyy'", "mean 'toy'", 'model/model_entry.py']),
        (['--data_type', 'toy_dta'], ["mean 'toy_data'", 'data/data_entry.py', 'another']),
        (['--loss', 'toy_los'], ["mean 'toy_loss'", 'loss.py', 'another']),
        (['--metrics', 'toy_acc', 'toy_ac'], ["mean 'toy_acc'", 'metrics.py', 'another']),
        (['--resume', '--load_model_path', 'a.pth'], ['--resume', '--load_model_path']),
        (['--resume', '--overwrite'], ['--resume', '--overwrite']),
        (['--replay', 1, 1, '--overwrite'], ['--resume', '--overwrite']),
        (['--replay', 0, 1], ['--replay', 'above 0']),
        (['--save_steps', -1], ['--save_steps']),
        (['--batch_size', 6, '--accum', 4], ['--accum 4', '--batch_size 6']),
        (['--class_weights', 1, 2], ['--class_weights', '3']),
        (['--optimizer', 'lion'], ['--optimizer', 'adamw']),
        (['--train_list', ''], ['--train_list', 'data.shapes']),
        (['--val_list', ''], ['--val_list']),
        (['@nowhere.txt'], ['nowhere.txt']),
    ],
    ids=lambda value: ' '.join(map(str, value)) if isinstance(value, list) else str(value),
)
def test_a_mistake_is_named_in_one_line(make_args, capsys, tmp_path, monkeypatch, options, words):
    for names, name in ((DATASETS, 'toy_data'), (LOSSES, 'toy_loss'), (METRICS, 'toy_acc')):
        monkeypatch.setitem(names, name, None)
        monkeypatch.setitem(names, 'another', None)
    check_refused(make_args, options, words, capsys, tmp_path)


def test_world_size_without_a_launcher_is_refused(make_args, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv('WORLD_SIZE', '4')
    check_refused(make_args, [], ['WORLD_SIZE'], capsys, tmp_path)


@pytest.mark.parametrize(
    ('command', 'words'),
    [
        (['train.py', '--ephocs', 3], ['--epochs']),
        (['train.py'], ['--train_list', 'data.shapes']),
        (['eval.py'], ['--load_model_path']),
        pytest.param(
            ['eval.py', '--load_model_path', 'no/such.pth'],
            ['no/such.pth'],
            marks=pytest.mark.slow,
        ),
    ],
)
def test_the_programs_say_it_on_stderr_and_exit_with_2(command, words):
    process = run_python(*command)
    assert process.returncode == 2
    assert process.stdout == ''
    assert process.stderr.count('\n') == 1
    assert all(word in process.stderr for word in words), process.stderr


def test_an_unknown_name_in_a_worker_is_one_line(capsys):
    try:
        choose({'cat': 0}, 'cta', 'class', 'classes.txt')
    except UserError:
        wrapped = ExceptionWrapper(sys.exc_info(), 'in DataLoader worker process 0')
    with pytest.raises(SystemExit), one_line_errors():
        wrapped.reraise()
    assert capsys.readouterr().err.startswith("error: unknown class 'cta'; did you mean 'cat'?")


def test_files_of_options_that_name_each_other_are_one_line(tmp_path, capsys):
    (tmp_path / 'a.txt').write_text(f'@{tmp_path}/a.txt --lr 1\n')
    for words in ([f'@{tmp_path}/a.txt'], ['--epochs', '9' * 400]):
        with pytest.raises(SystemExit) as stop:
            get_train_args(words)
        assert stop.value.code == 2
        assert capsys.readouterr().err.count('\n') == 1


@pytest.mark.parametrize(
    ('text', 'expected'),
    [
        ("MODELS = {**OTHERS, 'net': 'a:b'}", 'net (model/model_entry.py)'),
        ("MODELS = dict(net='a:b')", 'a name (model/model_entry.py)'),
        ('other = 1', 'a name in model/model_entry.py'),
    ],
)
def test_a_registry_may_be_written_in_other_ways(tmp_path, monkeypatch, text, expected):
    (tmp_path / 'model').mkdir()
    (tmp_path / 'model' / 'model_entry.py').write_text(text)
    monkeypatch.setattr(registry, '__file__', str(tmp_path / 'utils' / 'registry.py'))
    registry.list_names.cache_clear()
    assert registry.list_names('model_type') == expected
    registry.list_names.cache_clear()


def test_an_entry_that_is_a_class_instead_of_its_name_is_one_line(
    make_args, capsys, tmp_path, monkeypatch
):
    monkeypatch.setitem(DATASETS, 'mine', dict)
    words = ['data/data_entry.py', "'mine': 'module:Class'"]
    check_refused(make_args, ['--data_type', 'mine'], words, capsys, tmp_path)
