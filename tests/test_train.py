"""Training as a whole: it learns, it goes on, and its numbers are those of the evaluation."""

import csv
import math
from pathlib import Path

import pytest
import torch
from conftest import run_python, train, write_list

from eval import Evaluator
from model.model_entry import select_model
from options import get_test_args, get_train_model_dir
from train import Trainer, main
from utils.checkpoint import load_checkpoint
from utils.errors import one_line_errors


def read_log(args):
    with (Path(args.model_dir) / 'log.csv').open(newline='') as file:
        return list(csv.DictReader(file))


def are_equal(one, other):
    """Whether two nested states hold the same numbers, bit for bit."""
    if torch.is_tensor(one):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(are_equal(one[k], other[k]) for k in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(are_equal, one, other))
    return one == other


def get_learned(args, name='last.pth'):
    """What of a checkpoint decides how training goes on."""
    state = load_checkpoint(f'{args.model_dir}/{name}')
    return {k: state[k] for k in ('model', 'ema', 'optimizer', 'scheduler', 'step', 'best')}


def test_eight_images_are_overfitted(make_args):
    options = ['--model_type', 'base_model', '--overfit', 8, '--batch_size', 8, '--lr', 1e-2]
    trainer = Trainer(make_args(*options, '--epochs', 40, '--val_freq', 40))
    assert trainer.train()['score'] > 0.95


def test_the_score_at_the_end_is_the_score_of_eval(make_args):
    trainer = train(make_args('--epochs', 2, '--val_freq', 2))
    printed = load_checkpoint(trainer.model_dir / 'best.pth')['metrics']
    args = get_test_args(['--load_model_path', str(trainer.model_dir / 'best.pth')])
    scores = Evaluator(args, select_model(args)).eval(lambda *_: None)
    assert scores == {k.removeprefix('val/'): v for k, v in printed.items() if k.startswith('val/')}


@pytest.mark.parametrize(('img_size', 'batch_sizes'), [((16, 24), (1, 2, 5)), ((32, 48), (1, 4))])
def test_the_score_does_not_depend_on_val_batch_size(make_args, img_size, batch_sizes):
    scores = []
    for batch_size in batch_sizes:
        args = make_args('--val_batch_size', batch_size, '--img_size', *img_size)
        torch.manual_seed(0)
        scores.append(Evaluator(args, select_model(args)).eval(lambda *_: None))
    for other in scores[1:]:
        assert other == pytest.approx(scores[0], abs=1e-6, nan_ok=True)


@pytest.mark.parametrize(
    'options',
    [
        [],
        ['--optimizer', 'sgd', '--scheduler', 'step', '--lr_step', 1, '--ema', 0.5],
        ['--optimizer', 'adam', '--scheduler', 'poly', '--warmup', 0.5, '--num_workers', 2],
    ],
)
def test_going_on_after_two_epochs_is_training_straight_through(make_args, tmp_path, options):
    options = [*options, '--epochs', 4, '--save_freq', 2]
    straight = make_args(*options, run='straight')
    train(straight)
    (tmp_path / 'stopped').mkdir()  # as it would stand had the run stopped after epoch 2
    (tmp_path / 'straight' / '0002_00000004.pth').rename(tmp_path / 'stopped' / 'last.pth')
    resumed = make_args(*options, '--resume', run='stopped')
    assert train(resumed).num_steps == 8
    assert are_equal(get_learned(straight), get_learned(resumed))
    assert [row['epoch'] for row in read_log(resumed)] == ['3', '4']


def test_a_finished_run_says_so_and_does_nothing(make_args, capsys):
    model_dir = train(make_args('--epochs', 1)).model_dir
    before = {path.name: path.stat().st_mtime_ns for path in model_dir.iterdir()}
    main(make_args('--epochs', 1, '--resume'))
    assert 'is finished: 1 epochs' in capsys.readouterr().out
    after = {path.name: path.stat().st_mtime_ns for path in model_dir.iterdir()}
    assert after.pop('.lock')
    assert before == after


def test_a_finished_run_goes_on_with_more_epochs(make_args):
    train(make_args('--epochs', 1))
    assert train(make_args('--epochs', 3, '--resume')).num_steps == 6
    assert [row['epoch'] for row in read_log(make_args('--resume'))] == ['1', '2', '3']


def test_accumulating_in_parts_gives_the_step_of_the_whole_batch(make_args, monkeypatch):
    monkeypatch.setattr('conftest.ToyNet.forward', lambda self, img: self.head(self.block[0](img)))
    options = ['--optimizer', 'sgd', '--momentum', 0, '--epochs', 1]  # no BatchNorm, no dropout
    whole = train(make_args(*options, run='whole')).model.state_dict()
    parts = train(make_args(*options, '--accum', 2, run='parts')).model.state_dict()
    # Ignored pixels weigh parts a little differently; the toy images hold the same number of them.
    assert all(torch.allclose(whole[name], parts[name], atol=1e-5) for name in whole)


def test_averaged_weights_are_the_ones_that_are_scored(make_args):
    trainer = train(make_args('--ema', 0.9, '--epochs', 2))
    state = load_checkpoint(trainer.model_dir / 'last.pth')
    assert not torch.equal(state['model']['head.weight'], state['ema']['head.weight'])
    args = get_test_args(['--load_model_path', str(trainer.model_dir / 'last.pth')])
    assert torch.equal(select_model(args).head.weight, state['ema']['head.weight'])


@pytest.mark.parametrize('options', [[], ['--ema', 0.9]])
def test_whether_it_is_scored_does_not_change_what_is_learned(make_args, options):
    learned = []
    for val_freq in (0, 1):
        args = make_args(*options, '--val_freq', val_freq, run=f'val_freq_{val_freq}')
        train(args)
        learned.append(get_learned(args) | {'best': None})
    assert are_equal(*learned)


def test_lr_falls_as_the_scheduler_says(make_args):
    cosine = train(make_args('--lr', 0.1, '--epochs', 4, run='cosine'))
    lrs = [float(row['lr']) for row in read_log(cosine.args)]
    wanted = [0.05 * (1 + math.cos(math.pi * epoch / 4)) for epoch in (1, 2, 3, 4)]
    assert lrs == pytest.approx(wanted, abs=1e-6)
    warm = make_args('--lr', 0.1, '--scheduler', 'none', '--warmup', 2, run='warm')
    assert [float(row['lr']) for row in read_log(train(warm).args)] == pytest.approx([0.075, 0.1])


def test_a_clipped_gradient_moves_the_weights_less(make_args):
    options = ['--optimizer', 'sgd', '--momentum', 0, '--wd', 0, '--scheduler', 'none', '--lr', 1]
    args = make_args(*options, '--clip_grad', 1e-3, '--epochs', 1)
    trainer = Trainer(args)
    before = [p.detach().clone() for p in trainer.model.parameters()]
    trainer.train()
    pairs = zip(before, trainer.model.parameters(), strict=True)
    moved = sum(((old - new) ** 2).sum() for old, new in pairs) ** 0.5
    assert 0 < moved <= 2 * 1e-3 * 1.01  # two steps


def test_early_stop_waits_for_so_many_scorings(make_args, monkeypatch):
    scores = iter([0.5, 0.6, 0.4, 0.5, 0.55, 0.9])
    monkeypatch.setattr(Trainer, 'val_per_epoch', lambda self, epoch: {'val/miou': next(scores)})
    trainer = train(make_args('--epochs', 10, '--early_stop', 3))
    assert trainer.epoch == 5
    assert trainer.best == {'epoch': 2, 'score': 0.6, 'scores': {'miou': 0.6}}


def test_best_follows_its_metric_downwards_for_a_loss(make_args, monkeypatch):
    scores = iter([0.5, 0.3, 0.4])
    monkeypatch.setattr(Trainer, 'val_per_epoch', lambda self, epoch: {'val/loss': next(scores)})
    trainer = train(make_args('--epochs', 3, '--best_metric', 'loss'))
    assert trainer.best == {'epoch': 2, 'score': 0.3, 'scores': {'loss': 0.3}}
    assert load_checkpoint(trainer.model_dir / 'best.pth')['epoch'] == 2


def test_fast_dev_run_does_two_batches_of_everything_beside_the_run(make_args, tmp_path):
    train(make_args('--epochs', 1))
    trainer = train(make_args('--fast_dev_run', '--batch_size', 2, '--epochs', 9))
    assert (trainer.epoch, trainer.num_steps) == (1, 2)
    assert trainer.model_dir == tmp_path / 'run_fast_dev_run'
    assert load_checkpoint(tmp_path / 'run' / 'last.pth')['args']['fast_dev_run'] is False


def test_weights_to_start_from_are_taken_and_nothing_else(make_args):
    first = train(make_args('--epochs', 1, run='first'))
    path = first.model_dir / 'last.pth'
    second = Trainer(make_args('--load_model_path', path, run='second'))
    assert are_equal(second.model.state_dict(), first.model.state_dict())
    assert (second.epoch, second.num_steps) == (0, 0)
    assert second.optimizer.state_dict()['state'] == {}


def test_another_number_of_classes_starts_from_what_fits(make_args, capsys):
    first = train(make_args('--epochs', 1, run='first'))
    options = ['--load_model_path', first.model_dir / 'last.pth', '--num_classes', 4]
    Trainer(make_args(*options, '--load_not_strict', run='second'))
    assert '2 (head.weight (3, 8, 1, 1) -> (4, 8, 1, 1)' in capsys.readouterr().out


def test_a_loss_that_is_no_number_stops_the_run_and_names_the_epoch(make_args):
    trainer = Trainer(make_args('--lr', 1e30, '--optimizer', 'sgd', '--epochs', 5))
    with pytest.raises(FloatingPointError, match=r'training loss of epoch \d is (nan|inf).*--lr'):
        trainer.train()


def test_a_run_that_diverges_in_its_first_epoch_is_marked_and_ends_in_one_line(make_args, capsys):
    args = make_args('--lr', 1e30, '--optimizer', 'sgd', '--epochs', 5)
    with pytest.raises(SystemExit, match='2'), one_line_errors():
        main(args)
    error = capsys.readouterr().err.strip()
    assert error.startswith('error: the training loss of epoch')
    assert '\n' not in error
    assert '"status": "failed"' in (get_train_model_dir(args) / 'run.json').read_text()


def test_pictures_are_made_each_viz_freq_steps(make_args, monkeypatch):
    names = []
    monkeypatch.setattr(
        'train.Logger.save_imgs', lambda self, name, imgs, epoch: names.append(name)
    )
    train(make_args('--epochs', 1, '--viz_freq', 2))
    assert names == ['train/0000', 'val/0000', 'val/0002', 'val/0004']


def test_images_that_are_scored_and_trained_on_are_counted(make_args, toy_list, capsys):
    Trainer(make_args('--val_list', toy_list))
    assert '8 images of --val_list are trained on too' in capsys.readouterr().err


def test_train_and_eval_print_the_same_numbers(toy_list, toy_val_list, tmp_path):
    options = f'--train_list {toy_list} --val_list {toy_val_list} --num_classes 3 --epochs 1'
    run_dir = tmp_path / 'run'
    trained = run_python('train.py', *options.split(), '--model_dir', run_dir)
    assert trained.returncode == 0, trained.stderr
    scored = run_python('eval.py', '--load_model_path', run_dir / 'best.pth', '--save_viz')
    assert scored.returncode == 0, scored.stderr
    lines = [line for line in trained.stdout.splitlines() if ' val | ' in line]
    assert lines[-1].removeprefix('epoch 1/1 ') in scored.stdout.splitlines()
    assert not list(tmp_path.glob('run/*.tmp'))


def test_a_run_may_be_interrupted_before_its_first_checkpoint(make_args, monkeypatch):
    def interrupt(self, batch):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, 'step', interrupt)
        train(make_args())
    assert train(make_args('--epochs', 1)).num_steps == 2


def test_one_list_of_one_image_can_be_overfitted(make_args, tmp_path):
    path = write_list(tmp_path / 'one', 1)
    args = make_args('--train_list', path, '--overfit', 1, '--batch_size', 1, '--epochs', 1)
    assert train(args).num_steps == 1
