"""Recorder's sums and Logger's files."""

import math

import numpy as np
import torch

from utils.files import read_rows
from utils.logger import Logger, Recoder, Recorder, read_epochs
from utils.scores import format_scores, get_headline


def test_a_short_last_batch_weighs_what_it_holds():
    values = torch.arange(10.0)
    recorder = Recorder()
    for batch in values.split(4):  # 4, 4 and 2
        recorder.record('x', batch.sum(), len(batch))
    assert recorder.summary() == {'x': 4.5}


def test_vectors_are_divided_class_by_class_and_nothing_counted_is_nan():
    recorder = Recorder()
    recorder.record('iou', torch.tensor([1, 2, 0]), torch.tensor([2, 2, 0]))
    recorder.record('iou', torch.tensor([0, 1, 0]), torch.tensor([2, 2, 0]))
    first, second, third = recorder.summary()['iou']
    assert (first, second) == (0.25, 0.75)
    assert np.isnan(third)


def test_pixel_counts_stay_exact_beyond_what_float32_holds():
    recorder = Recorder()
    recorder.record('acc', torch.tensor(2**24), 1)
    recorder.record('acc', torch.tensor(1), 0)
    assert recorder.summary() == {'acc': 2**24 + 1}


def test_recording_keeps_no_graph():
    recorder = Recorder()
    recorder.record('loss', torch.ones(1, requires_grad=True).sum())
    assert not recorder.sums['loss'].requires_grad


def test_the_ancestors_name_still_works():
    assert Recoder is Recorder


def test_a_number_is_not_rounded_to_float32():
    recorder = Recorder()
    recorder.record_all({'miou': (0.6, 1), 'acc': (torch.tensor(1), torch.tensor(3))})
    assert recorder.summary() == {'miou': 0.6, 'acc': 1 / 3}


def test_a_summary_starts_afresh():
    recorder = Recorder()
    recorder.record('x', 6, 2)
    assert recorder.summary() == {'x': 3}
    assert recorder.summary() == {}
    recorder.record('x', 5)
    assert recorder.summary() == {'x': 5}


def read_log(directory):
    return read_rows(directory / 'log.csv')


def test_save_curves_returns_the_means_and_the_next_epoch_starts_from_nothing(tmp_path):
    with Logger(tmp_path, ['sky', 'road']).open() as logger:
        logger.record_scalar('train/acc', 1, 2)
        logger.record_scalar('train/acc', 2, 2)
        logger.record_scalar('train/iou', torch.tensor([1, 0]), torch.tensor([4, 0]))
        logger.record_scalars('val', {'loss': 0.5})
        scores = logger.save_curves(1)
        assert math.isnan(scores.pop('train/iou/road'))
        expected = {'train/acc': 0.75, 'train/miou': 0.25, 'train/iou/sky': 0.25, 'val/loss': 0.5}
        assert scores == expected
        logger.record_scalar('train/acc', 1, 4)
        assert logger.save_curves(2) == {'train/acc': 0.25}
    rows = read_log(tmp_path)
    assert [row['train/acc'] for row in rows] == ['0.75', '0.25']
    assert [row['val/loss'] for row in rows] == ['0.5', '']


def test_log_csv_has_a_line_per_epoch_and_continues_after_the_last_one(tmp_path):
    with Logger(tmp_path).open() as logger:
        for epoch in (1, 2, 3):
            logger.record_scalar('train/loss', 1 / epoch)
            logger.save_curves(epoch)
    with Logger(tmp_path).open(epoch=2) as logger:  # as after a stop in epoch 3
        logger.record_scalars('val', {'miou': 0.5})
        logger.record_scalar('train/loss', 0.25)
        assert logger.save_curves(3) == {'val/miou': 0.5, 'train/loss': 0.25}
    assert [row['epoch'] for row in read_log(tmp_path)] == ['1', '2', '3']
    assert [row['train/loss'] for row in read_log(tmp_path)] == ['1', '0.5', '0.25']
    assert [row['val/miou'] for row in read_log(tmp_path)] == ['', '', '0.5']


def test_the_headline_holds_no_score_of_a_class():
    scores = {'train/loss': 0.1, 'val/loss': 0.25, 'val/miou': 0.5, 'val/iou/road': 0.125}
    assert get_headline(scores, 'val/') == {'loss': 0.25, 'miou': 0.5}
    assert format_scores(scores, 'val/') == 'loss 0.2500 | miou 0.5000'


def test_a_log_that_somebody_edited_is_continued_with_the_rows_that_name_an_epoch(tmp_path):
    path = tmp_path / 'log.csv'
    path.write_text('epoch,train/loss\n1,0.5\n,\nx,0.1\n2\n3,0.2\n')
    assert [row['epoch'] for row in read_epochs(path, 2)] == ['1', '2']
    path.write_bytes(b'\x00garbage\n1\n')
    assert read_epochs(path, 2) == []
