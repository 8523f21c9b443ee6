"""The options: what they become, and that a saved run says them again."""

from pathlib import Path

import pytest
import torch
from conftest import run_python

from model.model_entry import MODELS
from options import (
    get_test_args,
    get_test_result_dir,
    get_train_args,
    get_train_model_dir,
    parse_test_args,
    save_args,
)
from utils.checkpoint import load_checkpoint, save_checkpoint


@pytest.mark.parametrize(
    'options',
    [
        [],
        ['--metrics', 'acc', '--class_weights', 1, 2.5, 0, '--wd', 1e-5, '--channels_last'],
        ['--save_prefix', 'a=1.5', '--seed', 7, '--gpus', '--best_metric', 'loss'],
    ],
)
def test_a_saved_run_replays_to_the_same_options(make_args, tmp_path, options):
    args = make_args(*options)
    save_args(args, tmp_path)
    assert get_train_args([f'@{tmp_path / "args.txt"}']) == args


def test_a_saved_run_keeps_paths_with_spaces_and_hashes(make_args, tmp_path):
    args = make_args('--class_names', tmp_path / 'my #1 names.txt')
    save_args(args, tmp_path)
    assert get_train_args([f'@{tmp_path / "args.txt"}']) == args


def test_what_is_typed_after_a_saved_run_wins(make_args, tmp_path):
    save_args(make_args('--lr', 0.5), tmp_path)
    assert get_train_args([f'@{tmp_path / "args.txt"}', '--lr', '0.25']).lr == 0.25


def test_args_txt_marks_what_is_no_default(make_args, tmp_path):
    save_args(make_args('--epochs', 7), tmp_path)
    lines = (tmp_path / 'args.txt').read_text().splitlines()
    assert '--epochs 7  # default: 20' in lines
    assert '--optimizer adamw' in lines


def test_whether_to_resume_is_not_saved(make_args, tmp_path):
    save_args(make_args('--resume'), tmp_path)
    assert '--resume' not in (tmp_path / 'args.txt').read_text()


def test_a_run_is_named_after_model_and_prefix(make_args):
    args = make_args('--save_prefix', 'first', '--model_type', 'base_model')
    args.model_dir = ''
    assert get_train_model_dir(args) == Path('checkpoints/base_model_first')
    args.fast_dev_run = True
    assert get_train_model_dir(args) == Path('checkpoints/base_model_first_fast_dev_run')


@pytest.fixture
def checkpoint(make_args, tmp_path):
    """A checkpoint file with options in it, and the args that it holds."""
    args = make_args('--lr', 0.5, '--save_prefix', 'made', '--val_batch_size', 3)
    save_checkpoint({'args': vars(args)}, tmp_path / 'best.pth')
    return tmp_path / 'best.pth', args


def test_evaluation_takes_every_option_that_is_not_typed_from_the_checkpoint(checkpoint):
    path, args = checkpoint
    test_args = get_test_args(['--load_model_path', str(path), '--val_batch_size', '2'])
    assert (test_args.num_classes, test_args.img_size) == (3, [32, 48])
    assert test_args.val_list == args.val_list
    assert test_args.val_batch_size == 2
    assert test_args.save_prefix == 'pref'


def test_an_evaluation_replays_too(checkpoint, tmp_path):
    path, _ = checkpoint
    args = get_test_args(['--load_model_path', str(path), '--save_viz'])
    save_args(args, tmp_path, parse_test_args)
    assert get_test_args([f'@{tmp_path / "args.txt"}']) == args


def test_results_lie_beside_the_checkpoint_named_after_list_and_prefix(checkpoint):
    path, _ = checkpoint
    args = get_test_args(['--load_model_path', str(path), '--val_list', '/a/camvid/test.txt'])
    assert get_test_result_dir(args) == path.parent / 'best' / 'camvid_test_pref'
    args.load_model_path = 'weights/mine'
    assert get_test_result_dir(args) == Path('weights/mine_results/camvid_test_pref')


def test_a_plain_state_dict_has_no_options_to_take_over(tmp_path, toy_val_list):
    torch.save({'weight': torch.zeros(1)}, tmp_path / 'plain.pth')
    typed = f'--load_model_path {tmp_path / "plain.pth"} --val_list {toy_val_list} --num_classes 9'
    args = get_test_args(typed.split())
    assert (args.num_classes, args.model_type, args.loss) == (9, 'base_model', 'ce')


def test_a_name_that_the_code_has_no_longer_points_to_the_snapshot(checkpoint, capsys, monkeypatch):
    path, _ = checkpoint
    state = load_checkpoint(path)
    save_checkpoint(state | {'code': {'model/model_entry.py': 'MODELS = {...}'}}, path)
    monkeypatch.delitem(MODELS, state['args']['model_type'])
    for option, is_advised in [([], True), (['--model_type', 'tyo'], False)]:
        with pytest.raises(SystemExit):
            get_test_args(['--load_model_path', str(path), *option])
        message = capsys.readouterr().err
        assert 'unknown --model_type' in message
        assert ('--use_snapshot runs the code of then' in message) == is_advised


def test_options_prints_where_a_run_would_go():
    process = run_python('options.py', '--save_prefix', 'x', '--model_type', 'resnet50_fcn')
    assert process.stdout == 'checkpoints/resnet50_fcn_x\n'
