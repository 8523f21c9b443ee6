"""What a run prints, train.log, the costs of a model, and the charts."""

import re
import shlex
import sys

import cv2
import numpy as np
import pytest
from conftest import train

from options import get_train_args
from train import main
from utils.charts import draw_confusion, draw_curves
from utils.console import TRAIN_LOG, Console, format_time
from utils.model_cost import count_bytes, count_multiply_adds, measure_latency
from utils.progress import Progress
from utils.registry import list_names
from utils.scores import format_table, score_classes


def test_the_header_says_what_will_be_trained(make_args, toy_list, capsys):
    args = make_args('--epochs', 1, '--lr', 0.0123)
    main(args)
    out = capsys.readouterr().out
    rows = dict(line.split(maxsplit=1) for line in out.splitlines() if re.match(r'\w+ {2,}', line))
    assert rows['run'] == args.model_dir
    assert 'CPU' in rows['device']
    assert re.search(rf'{toy_list}: \d+ images, \d+ batches of {args.batch_size}', rows['train'])
    assert '5 images' in rows['val']
    assert re.search(r'toy: .* parameters, .* multiply-adds at 32 x 48, .* MB', rows['model'])
    assert 'lr=0.0123' in rows['options']
    assert 'momentum' not in rows['options']


def test_an_epochs_line_has_its_time_and_the_time_that_is_left(make_args, capsys):
    train(make_args('--epochs', 2))
    lines = [line for line in capsys.readouterr().out.splitlines() if ' train | ' in line]
    assert re.search(r'\| [\d.]+ s, [\d.]+ s left$', lines[0])
    assert re.search(r'\| [\d.]+ s$', lines[1])


def test_the_footer_says_what_was_best_where_it_is_and_what_to_do_next(make_args, capsys):
    args = make_args('--epochs', 1)
    main(args)
    footer = capsys.readouterr().out.partition('best: epoch 1')[2]
    for word in ('last.pth', 'log.csv', 'curves.png', 'train.log', 'eval.py', '--resume --epochs'):
        assert word in footer


def test_fast_dev_run_says_what_passed(make_args, capsys):
    main(make_args('--fast_dev_run', '--batch_size', 2))
    assert re.search(r'fast_dev_run passed: data, .*checkpoints', capsys.readouterr().out)


@pytest.mark.slow
def test_train_log_keeps_what_was_printed_and_continues_on_resume(make_args, capsys):
    args = make_args('--epochs', 1)
    main(args)
    printed = capsys.readouterr().out
    path = Console(args, args.model_dir).run_dir.train_log
    first = path.read_text()
    assert printed in first
    assert sys.argv[0] in first.splitlines()[0]
    main(make_args('--epochs', 2, '--resume'))
    assert path.read_text().startswith(first)
    assert 'epoch 2/2 val' in path.read_text()


def test_train_log_keeps_the_error_that_ended_a_run(make_args, monkeypatch):
    def fail(self, epoch):
        raise RuntimeError('a bug')

    monkeypatch.setattr('train.Trainer.val_per_epoch', fail)
    args = make_args('--epochs', 1)
    with pytest.raises(RuntimeError):
        main(args)
    assert Console(args, args.model_dir).run_dir.train_log.read_text().endswith('a bug\n')
    assert not isinstance(sys.stdout, type(TRAIN_LOG))


def test_the_terminals_bar_shows_the_loss_each_second(monkeypatch):
    clock = iter(np.arange(0, 1000, 0.6))
    monkeypatch.setattr('utils.progress.time.perf_counter', lambda: next(clock))
    progress = Progress([{'name': ['a']}] * 4, 'epoch 1/1', print_freq=1000)
    due = [progress.is_due for _ in progress]
    assert not any(due)
    progress.on_terminal = True
    assert [progress.is_due for _ in range(3)] == [True] * 3


TIMES = {0.04: '0.0 s', 8.42: '8.4 s', 90: '90 s', 720: '12 min', 19080: '5.3 h'}


@pytest.mark.parametrize(('seconds', 'text'), TIMES.items())
def test_times_are_written_for_people(seconds, text):
    assert format_time(seconds) == text


def test_help_lists_the_names_of_the_registries():
    from loss import LOSSES
    from metrics import METRICS

    for option, registry in {'loss': LOSSES, 'metrics': METRICS}.items():
        names, _, file = list_names(option).partition(' (')
        assert len(names.split(', ')) > 1
        assert {*names.split(', ')} <= {*registry}
        assert file.endswith('.py)')


def test_costs_are_those_of_the_network(make_args):
    run = train(make_args('--epochs', 1))
    batch = run.evaluator.loader.read_one()
    num_pixels = 32 * 48
    expected = num_pixels * (3 * 9 * 8 + 8 * run.args.num_classes)
    assert count_multiply_adds(run.evaluator, batch) == expected
    assert all(p.requires_grad for p in run.evaluator.model.parameters())
    median_ms, slow_ms = measure_latency(run.evaluator)
    assert 0 < median_ms <= slow_ms
    weights = sum(t.nbytes for t in run.model.state_dict().values())
    assert count_bytes(run) == 3 * weights  # AdamW keeps two numbers a weight


def test_curves_png_is_redrawn_each_epoch(make_args):
    run = train(make_args('--epochs', 2))
    img = cv2.imread(str(run.console.run_dir.curves))
    rows = run.logger.rows
    assert np.array_equal(img[..., ::-1], draw_curves(rows))
    assert not np.array_equal(draw_curves(rows), draw_curves(rows[:1]))


def test_curves_with_gaps_and_one_point_can_be_drawn():
    rows = [{'epoch': 1, 'train/loss': '0.5', 'val/miou': 'nan', 'lr': '0.1'}]
    assert draw_curves(rows).shape[2] == 3
    assert draw_curves([{'epoch': '1', 'train/loss': '', 'lr': ''}]).any()


def test_a_cell_of_the_log_that_is_no_number_is_a_gap():
    rows = [{'epoch': '1', 'val/loss': '0.5', 'lr': '0.1'}, {'epoch': '2', 'val/loss': 'x'}]
    rows[1]['lr'] = '0.1'
    assert np.array_equal(draw_curves(rows), draw_curves([rows[0], rows[1] | {'val/loss': ''}]))


@pytest.mark.slow
def test_a_confusion_matrix_is_drawn_with_its_names():
    img = draw_confusion(np.array([[9, 1], [0, 0]]), ['road', 'sky'])
    assert img.shape[0] == img.shape[1] > 68
    many = draw_confusion(np.eye(1000, dtype=int), [f'a long name {i}' for i in range(1000)])
    assert many.shape[0] <= 2000


def test_the_class_table_counts_the_classes_of_each_mean():
    confusion, names = np.array([[8, 2, 0], [1, 9, 0], [0, 0, 0]]), ['a', 'b', 'mean']
    columns = score_classes({}, confusion, names, ignore_index=255)
    assert columns['precision'][0] == pytest.approx(8 / 9)
    assert columns['recall'][0] == pytest.approx(0.8)
    assert columns['iou'][1] == pytest.approx(9 / 12)
    assert np.isnan(columns['recall'][2])
    rows = [line.split() for line in format_table(names, columns)]
    assert rows[0] == ['class', 'share', 'iou', 'dice', 'precision', 'recall']
    assert rows[-2][2] == f'{(8 / 11 + 9 / 12) / 2:.4f}'
    assert rows[-1] == ['classes', '3', '2', '2', '2', '2']


def test_an_ignored_class_is_in_no_mean():
    confusion, names = np.array([[0, 0], [1, 9]]), ['ignored', 'a']
    columns = score_classes({}, confusion, names, ignore_index=0)
    assert np.isnan(columns['precision'][0])
    assert format_table(names, columns)[-1].split() == ['classes', '2', '1', '1', '1', '1']


def test_scores_of_classes_by_a_metric_of_yours_are_a_column():
    scores = {'mf': 0.5, 'f/a': 0.25, 'f/b': 0.75}
    columns = score_classes(scores, None, ['a', 'b'], ignore_index=255)
    assert format_table(['a', 'b'], columns)[1:3] == ['a            0.2500', 'b            0.7500']


@pytest.mark.slow
def test_the_footer_of_a_fine_tuned_run_can_be_resumed_as_it_stands(make_args, capsys):
    first = train(make_args('--epochs', 1))
    main(make_args('--epochs', 1, '--load_model_path', first.model_dir / 'best.pth', run='tuned'))
    lines = capsys.readouterr().out.splitlines()
    command = next(line for line in lines if '--resume' in line and 'tuned' in line)
    args = get_train_args(shlex.split(command)[2:])
    assert (args.resume, args.epochs) == (True, 11)


def test_an_own_score_of_classes_is_shown_instead_of_the_one_of_that_name():
    scores = {'mrecall': 0.25, 'recall/a': 0.25, 'recall/b': 0.25}
    columns = score_classes(scores, np.eye(2), ['a', 'b'], ignore_index=255)
    assert columns['recall'].tolist() == [0.25, 0.25]
    assert columns['precision'].tolist() == [1, 1]
