"""The options: what they become, and that a saved run says them again."""

import shlex
from pathlib import Path

import pytest
import torch
from conftest import run_python, train

from model.model_entry import MODELS
from options import (
    INHERITED,
    KINDS,
    get_test_args,
    get_test_result_dir,
    get_train_args,
    get_train_model_dir,
    parse_common_args,
    parse_test_args,
    parse_train_args,
    save_args,
)
from utils.arg_parser import Parser
from utils.checkpoint import load_checkpoint, save_checkpoint
from utils.errors import UserError

DEFAULTS = parse_train_args(Parser()).get_defaults()


def test_an_option_that_is_of_no_kind_says_where_to_add_it():
    parser = parse_train_args(Parser())
    parser.check_kinds(KINDS)
    parser.add_argument('--of_no_kind', help='an option of a clone')
    with pytest.raises(UserError, match="add 'of_no_kind' to a row of KINDS"):
        parser.check_kinds(KINDS)


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
    save_args(make_args('--epochs', 12345), tmp_path)
    lines = (tmp_path / 'args.txt').read_text().splitlines()
    assert f'--epochs 12345  # default: {DEFAULTS["epochs"]}' in lines
    assert f'--optimizer {DEFAULTS["optimizer"]}' in lines


def test_args_txt_begins_with_the_command_that_runs_it_again_in_another_directory(make_args):
    trainer = train(make_args('--epochs', 1))
    first = (trainer.model_dir / 'args.txt').read_text().splitlines()[0]
    words = shlex.split(first.partition('python ')[2])
    assert words[0] == 'train.py'
    again = get_train_args(words[1:])
    assert again.model_dir != trainer.args.model_dir
    assert vars(again) | {'model_dir': ''} == vars(trainer.args) | {'model_dir': ''}


@pytest.mark.parametrize('option', ['--resume', '--overwrite'])
def test_what_is_decided_anew_each_time_is_not_saved(make_args, tmp_path, option):
    save_args(make_args(option), tmp_path)
    assert option not in (tmp_path / 'args.txt').read_text()


def test_the_changed_options_are_those_that_are_not_at_their_defaults(make_args):
    changed = parse_train_args(Parser()).get_changed(
        DEFAULTS | {'lr': 12345.0, 'img_size': [32, 48]}
    )
    assert changed == {'lr': 12345.0, 'img_size': [32, 48]}


def test_a_mistake_raises_a_user_error_which_the_program_prints():
    with pytest.raises(UserError, match='--epohcs.*--epochs'):
        parse_train_args(Parser()).parse_args(['--epohcs', '3'])
    with pytest.raises(UserError, match='--lr.*fast'):
        parse_train_args(Parser()).parse_args(['--lr', 'fast'])


def test_a_run_is_named_after_model_and_prefix(make_args):
    args = make_args('--save_prefix', 'first', '--model_type', 'base_model')
    args.model_dir = ''
    assert get_train_model_dir(args) == Path('checkpoints/base_model_first')
    args.fast_dev_run = True
    assert get_train_model_dir(args) == Path('checkpoints/base_model_first_fast_dev_run')


@pytest.fixture
def checkpoint(make_args, tmp_path):
    """A checkpoint file with options in it, and the args that it contains."""
    args = make_args('--lr', 0.5, '--save_prefix', 'made', '--val_batch_size', 3)
    save_checkpoint({'args': vars(args)}, tmp_path / 'best.pth')
    return tmp_path / 'best.pth', args


def test_evaluation_takes_every_option_that_is_not_typed_from_the_checkpoint(checkpoint):
    path, args = checkpoint
    test_args, state = get_test_args(['--load_model_path', str(path), '--val_batch_size', '2'])
    assert state['args'] == vars(args)
    assert (test_args.num_classes, test_args.img_size) == (3, [32, 48])
    assert test_args.val_list == args.val_list
    assert test_args.val_batch_size == 2
    assert test_args.save_prefix == DEFAULTS['save_prefix']
    typed = {'val_batch_size'}
    taken = [n for n in INHERITED if n not in typed and hasattr(test_args, n)]
    assert all(getattr(test_args, name) == getattr(args, name) for name in taken)


def test_a_model_that_was_compiled_for_training_is_evaluated_as_it_is(checkpoint):
    path, args = checkpoint
    save_checkpoint({'args': vars(args) | {'compile': True}}, path)
    assert not get_test_args(['--load_model_path', str(path)])[0].compile


def test_a_program_that_needs_no_list_takes_weights_alone(checkpoint):
    save_checkpoint({'model': {}}, checkpoint[0])
    words = ['--load_model_path', str(checkpoint[0]), '--num_classes', '3']
    assert get_test_args(words, parse_common_args)[0].num_classes == 3
    with pytest.raises(SystemExit):
        get_test_args(words)


def test_nothing_that_acts_or_says_where_files_are_written_is_taken_from_a_checkpoint(checkpoint):
    path, args = checkpoint
    harmful = {'result_dir': '/', 'save_viz': True, 'use_snapshot': True, 'model_dir': '/'}
    save_checkpoint({'args': vars(args) | harmful | {'gpus': [7]}}, path)
    test_args, _ = get_test_args(['--load_model_path', str(path)])
    assert (test_args.result_dir, test_args.save_viz, test_args.use_snapshot) == ('', False, False)
    assert test_args.gpus is None
    assert not hasattr(test_args, 'model_dir')


def test_an_option_of_a_checkpoint_is_parsed_again_by_its_own_type(checkpoint, capsys):
    path, args = checkpoint
    save_checkpoint({'args': vars(args) | {'num_classes': 'many'}}, path)
    with pytest.raises(SystemExit, match='2'):
        get_test_args(['--load_model_path', str(path)])
    message = capsys.readouterr().err
    assert '--num_classes' in message
    assert 'many' in message


def test_an_evaluation_replays_too(checkpoint, tmp_path):
    path, _ = checkpoint
    args, _ = get_test_args(['--load_model_path', str(path), '--save_viz'])
    save_args(args, tmp_path, parse_test_args)
    assert get_test_args([f'@{tmp_path / "args.txt"}'])[0] == args


def test_results_lie_beside_the_checkpoint_named_after_list_and_prefix(checkpoint):
    path, _ = checkpoint
    argv = ['--load_model_path', str(path), '--val_list', '/a/camvid/test.txt']
    args, _ = get_test_args([*argv, '--save_prefix', 'x'])
    assert get_test_result_dir(args) == path.parent / 'best' / 'camvid_test_x'
    args.load_model_path = 'weights/mine'
    assert get_test_result_dir(args) == Path('weights/mine_results/camvid_test_x')
    args.result_dir = 'here'
    assert get_test_result_dir(args) == Path('here')


def test_a_plain_state_dict_has_no_options_to_take_over(tmp_path, toy_val_list):
    torch.save({'weight': torch.zeros(1)}, tmp_path / 'plain.pth')
    typed = f'--load_model_path {tmp_path / "plain.pth"} --val_list {toy_val_list} --num_classes 9'
    args, _ = get_test_args(typed.split())
    assert args.num_classes == 9
    assert all(getattr(args, name) == DEFAULTS[name] for name in ('model_type', 'loss', 'metrics'))


@pytest.mark.slow
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
        assert ('--use_snapshot' in message) == is_advised


def test_options_prints_where_a_run_would_go():
    process = run_python('options.py', '--save_prefix', 'x', '--model_type', 'mine')
    assert process.stdout == 'checkpoints/mine_x\n'


@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig', 'utf-16'])
def test_a_file_of_options_may_have_a_windows_encoding(tmp_path, encoding):
    (tmp_path / 'args.txt').write_text("--lr 0.5  # it's\n--save_prefix 'a'\n", encoding=encoding)
    args = parse_train_args(Parser()).parse_args([f'@{tmp_path}/args.txt', '--epochs', '3'])
    assert (args.lr, args.save_prefix, args.epochs) == (0.5, 'a', 3)


@pytest.mark.parametrize('content', ["--class_names it's", None])
def test_a_file_of_options_that_cannot_be_read_is_named(tmp_path, content):
    if content:
        (tmp_path / 'args.txt').write_text(content)
    with pytest.raises(UserError, match=r'args\.txt.*(quotation|exist)'):
        parse_train_args(Parser()).parse_args([f'@{tmp_path}/args.txt'])


def test_args_txt_may_have_spaces_in_its_path_and_an_at_sign_in_a_value(make_args, tmp_path):
    args = make_args('--train_list=@list.txt')
    directory = tmp_path / "it's here"
    directory.mkdir()
    save_args(args, directory)
    path = directory / 'args.txt'
    assert get_train_args([f'@{path}']).train_list == '@list.txt'
    command = path.read_text().splitlines()[0].partition(': ')[2]
    assert shlex.split(command)[2] == f'@{path}'
