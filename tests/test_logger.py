"""Recorder's sums and Logger's files."""

import csv

import numpy as np
import pytest
import torch

from utils.logger import Logger, Recoder, Recorder


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


def read_log(directory):
    with (directory / 'log.csv').open(newline='') as file:
        return list(csv.DictReader(file))


def test_what_a_killed_save_left_is_cleared_away(tmp_path):
    (tmp_path / '.last.pth.123.tmp').touch()
    with Logger(tmp_path).open(epoch=1):
        assert not list(tmp_path.glob('.*.tmp'))


def test_log_csv_has_a_line_an_epoch_and_goes_on_after_the_last_one(tmp_path):
    with Logger(tmp_path).open() as logger:
        for epoch in (1, 2, 3):
            logger.save_curves(epoch, {'train/loss': 1 / epoch}, {})
    with Logger(tmp_path).open(epoch=2) as logger:  # as after a stop in epoch 3
        logger.save_curves(3, {'train/loss': 0.25, 'val/miou': 0.5}, {'miou': 0.5})
    assert [row['epoch'] for row in read_log(tmp_path)] == ['1', '2', '3']
    assert [row['val/miou'] for row in read_log(tmp_path)] == ['', '', '0.5']


def test_a_fresh_start_clears_what_a_run_wrote_and_nothing_else(tmp_path):
    for name in ('last.pth', '0002_00000010.pth', 'log.csv', 'args.txt', 'notes.md'):
        (tmp_path / name).touch()
    (tmp_path / 'best' / 'camvid_val_pref').mkdir(parents=True)
    with Logger(tmp_path).open():
        pass
    assert (tmp_path / 'notes.md').exists()
    assert not list(tmp_path.glob('*.pth'))
    assert not (tmp_path / 'best').exists()


@pytest.mark.parametrize(('keep', 'left'), [(2, ['0004', '0005']), (0, ['0003', '0004', '0005'])])
def test_only_the_newest_numbered_checkpoints_stay(tmp_path, keep, left):
    logger = Logger(tmp_path)
    for epoch in (3, 4, 5):
        logger.save_checkpoint({'epoch': epoch}, ['last.pth', f'{epoch:04d}_00000000.pth'], keep)
    assert [path.name[:4] for path in sorted(tmp_path.glob('0*.pth'))] == left
    assert (tmp_path / 'last.pth').exists()
