"""TrainState: counts, the best epoch, what is due, and when training ends."""

import math
from argparse import Namespace

import pytest

from utils.train_state import TrainState, is_due


def make_state(epoch=0, **options):
    """A TrainState at the end of an epoch."""
    defaults = {'best_metric': 'miou', 'metrics': ['acc'], 'epochs': 5, 'val_freq': 1}
    defaults |= {'early_stop': 0, 'save_freq': 0, 'overfit': 0}
    state = TrainState(Namespace(**defaults | options), ['loss', 'acc', 'miou'])
    state.epoch = epoch
    return state


def finish_epochs(state, scores, name='miou'):
    """Ends one epoch per score; None is an epoch without validation. Returns which were best."""
    is_best = []
    for score in scores:
        val = {} if score is None else {f'val/{name}': score}
        is_best.append(state.finish_epoch({'train/loss': 1.0} | val))
    return is_best


def test_training_starts_at_0_without_a_best_epoch():
    state = make_state()
    assert (state.epoch, state.step, state.best['epoch']) == (0, 0, 0)
    assert math.isnan(state.best['score'])
    assert not state.is_finished()


def test_a_step_counts_until_its_epoch_ends_and_save_steps_saves_each_third():
    state = make_state(save_steps=3)
    due = []
    for _ in range(7):
        state.count_step()
        due.append(is_due(state.step, 3))
    assert due == [False, False, True, False, False, True, False]
    assert (state.step, state.batch) == (7, 7)
    finish_epochs(state, [0.5])
    assert (state.epoch, state.step, state.batch) == (1, 7, 0)


def test_the_first_metric_selects_the_best_epoch_if_none_is_given():
    assert make_state(best_metric='', metrics=['acc', 'miou']).best_metric == 'acc'
    assert make_state(best_metric='loss', metrics=['acc', 'miou']).best_metric == 'loss'


def test_a_higher_score_is_better_and_an_equal_one_is_not():
    state = make_state()
    assert finish_epochs(state, [0.5, 0.5, 0.6, 0.4]) == [True, False, True, False]
    assert state.best == {'epoch': 3, 'score': 0.6, 'scores': {'miou': 0.6}}


def test_a_lower_loss_is_better_and_an_equal_one_is_not():
    state = make_state(best_metric='loss')
    assert finish_epochs(state, [0.5, 0.7, 0.2, 0.2], 'loss') == [True, False, True, False]
    assert state.best['epoch'] == 3


def test_nan_and_epochs_without_validation_are_never_best_and_any_number_beats_nan():
    state = make_state()
    assert finish_epochs(state, [None, math.nan, 0.1, math.nan]) == [False, False, True, False]
    assert state.best['epoch'] == 3


def test_the_best_epoch_keeps_the_headline_of_its_validation():
    state = make_state(epoch=1)
    state.finish_epoch({'train/loss': 1.0, 'val/miou': 0.5, 'val/iou/a': 0.2, 'val/acc': 0.9})
    assert state.best['scores'] == {'miou': 0.5, 'acc': 0.9}


def test_training_is_finished_after_the_last_epoch():
    assert [make_state(epoch).is_finished() for epoch in (0, 4, 5, 6)] == [False, False, True, True]


@pytest.mark.parametrize(('val_freq', 'last'), [(1, 3), (2, 6)])
def test_early_stop_counts_2_validations_after_the_best(val_freq, last):
    state = make_state(early_stop=2, val_freq=val_freq, epochs=100)
    while not state.is_finished():
        is_validated = (state.epoch + 1) % val_freq == 0
        score = 0.4 if state.best['epoch'] else 0.5  # the first one is the best
        finish_epochs(state, [score if is_validated else None])
    assert state.epoch == last


def test_without_validation_early_stop_never_ends_training():
    assert not make_state(epoch=4, early_stop=1, val_freq=0).is_finished()


def test_what_happens_every_3_epochs_is_due_at_3_and_6_and_every_0_never():
    assert [epoch for epoch in range(1, 8) if is_due(epoch, 3)] == [3, 6]
    assert not any(is_due(epoch, 0) for epoch in range(1, 8))


def test_last_pth_is_written_after_best_and_the_numbered_one():
    state = make_state(save_freq=2)
    names = []
    for score, state.step in ((0.5, 10), (0.6, 20), (0.4, 30), (0.5, 40)):
        finish_epochs(state, [score])
        names.append(state.list_checkpoints())
    assert names == [
        ['best.pth', 'last.pth'],
        ['best.pth', '0002_00000020.pth', 'last.pth'],
        ['last.pth'],
        ['0004_00000040.pth', 'last.pth'],
    ]


def test_a_state_comes_back_from_what_it_keeps():
    state, other = make_state(), make_state()
    finish_epochs(state, [0.5, 0.4])
    state.step, state.batch = 7, 3
    other.load_state_dict(state.state_dict())
    assert vars(other) == vars(state) | {'args': other.args}
    counts = {'epoch': 2, 'step': 7, 'batch': 3, 'best': state.best}
    counts['first_scores'] = {'miou': 0.5}
    by = {'best_metric': 'miou', 'is_lower_better': False}
    assert other.state_dict() == counts | by


@pytest.mark.parametrize(
    ('name', 'epochs', 'learned'),
    [
        ('miou', [{'miou': 0.5}, {'miou': 0.95}], [False, True]),
        ('loss', [{'loss': 2.0}, {'loss': 0.2}, {'loss': 0.1}], [False, False, True]),
        # decibels: no share of 1
        ('miou', [{'miou': 12.0, 'loss': 1.0}, {'miou': 31.0, 'loss': 0.04}], [False, True]),
    ],
)
def test_overfit_has_learned_at_a_score_of_95_percent_or_at_a_20th_of_the_first_error(
    name, epochs, learned
):
    state = make_state(best_metric=name, overfit=8)
    found = []
    for scores in epochs:
        state.finish_epoch({f'val/{score}': value for score, value in scores.items()})
        found.append(state.is_finished())
    assert found == learned


def test_run_json_is_told_how_far_the_run_is():
    state = make_state()
    finish_epochs(state, [0.5])
    facts = state.describe()
    assert (facts['epoch'], facts['epochs'], facts['best_metric']) == (1, 5, 'miou')
    assert facts['best'] == state.best
    assert 'loss' in facts['lower_is_better']


def test_early_stop_counts_from_the_first_best_of_a_search_that_starts_afresh():
    state = make_state(epoch=3, early_stop=3, epochs=100)  # another validation list: best is gone
    assert not state.is_finished()
    finish_epochs(state, [0.5, 0.4, 0.4])
    assert not state.is_finished()
    finish_epochs(state, [0.4])
    assert state.is_finished()


def test_a_finished_run_names_the_option_that_ended_it():
    assert make_state(epoch=5).advise_more() == '--epochs 15'
    assert make_state(epoch=4, early_stop=3).advise_more() == '--early_stop 6'
