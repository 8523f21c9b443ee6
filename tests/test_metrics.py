"""Metrics against counts made pixel by pixel, in plain Python."""

import math
from argparse import Namespace

import pytest
import torch
from test_loss import OTHER_TASK, make_tasks

from metrics import METRICS, compute_metrics, summarize
from utils.classes import count_classes
from utils.errors import UserError
from utils.logger import Recorder

ARGS = Namespace(num_classes=4, ignore_index=255, metrics=['acc', 'miou', 'mdice'])


def make_batch(num_samples, seed=0, ignore_index=255):
    generator = torch.Generator().manual_seed(seed)
    pred = torch.randn(num_samples, 4, 7, 9, generator=generator)
    label = torch.randint(0, 3, (num_samples, 7, 9), generator=generator)  # class 3 never occurs
    label[torch.rand(label.shape, generator=generator) < 0.2] = ignore_index
    return pred, {'label': label.to(torch.uint8)}


def count_by_hand(pred, label, ignore_index=255):
    """(hits, labels, predictions) of each class."""
    hits, labels, predictions = [0] * 4, [0] * 4, [0] * 4
    for scores, right in zip(pred.movedim(1, -1).reshape(-1, 4), label.flatten(), strict=True):
        if right == ignore_index:
            continue
        found = max(range(4), key=lambda c: scores[c])
        labels[right] += 1
        predictions[found] += 1
        hits[right] += int(found == right)
    return hits, labels, predictions


@pytest.mark.parametrize('ignore_index', [255, 0])
def test_scores_are_what_counting_pixels_gives(ignore_index):
    pred, batch = make_batch(3, ignore_index=ignore_index)
    args = Namespace(**{**vars(ARGS), 'ignore_index': ignore_index})
    recorder = Recorder()
    recorder.record_all(compute_metrics(pred, batch, args))
    scores = summarize(recorder.summary(), 'abcd')
    hits, labels, predictions = count_by_hand(pred, batch['label'], ignore_index)
    kept = [c for c in range(4) if c != ignore_index]  # an ignored class is in no mean
    sums = [(hits[c], labels[c], predictions[c]) for c in kept]
    iou = [hit / (is_class + found - hit) for hit, is_class, found in sums]
    dice = [2 * hit / (is_class + found) for hit, is_class, found in sums]
    assert scores['acc'] == sum(hits) / sum(labels)
    assert [scores[f'iou/{"abcd"[c]}'] for c in kept] == pytest.approx(iou, abs=1e-12)
    assert scores['miou'] == pytest.approx(sum(iou) / len(kept), abs=1e-12)
    assert scores['mdice'] == pytest.approx(sum(dice) / len(kept), abs=1e-12)


def test_scores_do_not_depend_on_how_7_images_are_cut_into_batches():
    pred, batch = make_batch(7)
    summaries = []
    for size in (1, 3, 7):
        recorder = Recorder()
        for start in range(0, 7, size):
            part = {'label': batch['label'][start : start + size]}
            recorder.record_all(compute_metrics(pred[start : start + size], part, ARGS))
        summaries.append(recorder.summary())
    assert summaries[0] == summaries[1] == summaries[2]


def test_a_class_that_is_neither_there_nor_found_is_left_out_of_the_mean():
    pred = torch.zeros(1, 4, 1, 2)
    pred[0, 1] = 1  # class 1 everywhere
    recorder = Recorder()
    recorder.record_all(compute_metrics(pred, {'label': torch.tensor([[[1, 0]]])}, ARGS))
    scores = summarize(recorder.summary(), 'abcd')
    assert scores['iou/d'] != scores['iou/d']  # nan
    assert scores['miou'] == (0.0 + 0.5) / 2


def test_an_image_of_ignored_pixels_changes_no_score():
    pred, batch = make_batch(2)
    ignored = {'label': torch.full_like(batch['label'], 255)}
    alone, together = Recorder(), Recorder()
    for recorder in (alone, together):
        recorder.record_all(compute_metrics(pred, batch, ARGS))
    together.record_all(compute_metrics(pred, ignored, ARGS))
    assert together.summary() == alone.summary()


def test_l1_is_the_mean_absolute_error():
    args = Namespace(metrics=['l1'], ignore_index=255, num_classes=2)
    pred, batch = torch.tensor([[1.0, 2.0]]), {'label': torch.tensor([[0.0, 4.0]])}
    recorder = Recorder()
    recorder.record_all(compute_metrics(pred, batch, args))
    assert recorder.summary() == {'l1': 1.5}


def test_a_classifier_is_evaluated_too():
    pred = torch.tensor([[1.0, 0, 0, 0], [0, 0, 0, 1.0]])
    pairs = compute_metrics(pred, {'label': torch.tensor([0, 1])}, ARGS)
    assert [int(number) for number in pairs['acc']] == [1, 2]


@pytest.mark.parametrize('name', METRICS)
def test_an_entry_gives_sums_and_counts_of_one_shape_and_a_number_for_its_task(make_args, name):
    args, num_fitting = make_args('--metrics', name), 0
    for pred, batch in make_tasks(3).values():
        args.num_classes = pred.shape[1]
        try:
            pairs = compute_metrics(pred, batch, args)
        except OTHER_TASK:
            continue
        num_fitting += 1
        for value, count, *_ in pairs.values():
            assert torch.as_tensor(value).shape == torch.as_tensor(count).shape
        recorder = Recorder()
        recorder.record_all(pairs)
        scores = summarize(recorder.summary(), range(count_classes(args)))
        assert all(isinstance(score, float) for score in scores.values())
    if not num_fitting:
        pytest.skip(f'{name} fits none of the tasks {", ".join(make_tasks(3))}')


@pytest.mark.parametrize(
    'scores', [0.5, {'bad': 0.5}, (1, 2), {'bad': (torch.ones(3), torch.ones(3))}]
)
def test_a_metric_that_returns_something_else_is_one_line(monkeypatch, scores):
    monkeypatch.setitem(METRICS, 'bad', (lambda scored: scores, 'higher'))
    pred, batch = make_batch(1)
    with pytest.raises(UserError, match=r'--metrics bad: expected .*sum, count'):
        compute_metrics(pred, batch, Namespace(**vars(ARGS) | {'metrics': ['bad']}))


@pytest.mark.parametrize('score', ['near/rmse', 'loss', 'loss_ce', 'acc'])
def test_a_score_has_a_name_of_its_own(monkeypatch, score):
    monkeypatch.setitem(METRICS, 'mine', (lambda scored: {score: (1, 2)}, 'lower'))
    pred, batch = make_batch(1)
    with pytest.raises(UserError, match=f"--metrics mine returns the score '{score}'"):
        compute_metrics(pred, batch, Namespace(**vars(ARGS) | {'metrics': ['acc', 'mine']}))


def test_a_direction_is_higher_or_lower(monkeypatch):
    monkeypatch.setitem(METRICS, 'mine', (lambda scored: {'mine': (1, 2)}, 'lowr'))
    pred, batch = make_batch(1)
    with pytest.raises(UserError, match="mine: expected 'higher' or 'lower', got 'lowr'"):
        compute_metrics(pred, batch, Namespace(**vars(ARGS) | {'metrics': ['mine']}))


def test_a_transform_may_be_of_the_math_module(monkeypatch):
    monkeypatch.setitem(METRICS, 'root', (lambda scored: {'root': (18, 2, math.sqrt)}, 'lower'))
    pred, batch = make_batch(1)
    recorder = Recorder()
    args = Namespace(**vars(ARGS) | {'metrics': ['root']})
    recorder.record_all(compute_metrics(pred, batch, args))
    assert summarize(recorder.summary(), []) == {'root': 3.0}
