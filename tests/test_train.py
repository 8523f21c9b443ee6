"""Training as a whole: it learns, it resumes, and its numbers are those of the evaluation."""

import math
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import run_python, train, write_list
from test_resume import are_equal
from torch import nn
from torch.utils.data import Dataset

import eval as evaluation
from data.data_entry import DATASETS
from data.image_io import read_image
from data.list_file import ListFile
from eval import Evaluator
from model.model_entry import MODELS, select_model
from options import get_test_args, get_train_model_dir
from train import Trainer, main
from utils.checkpoint import load_checkpoint
from utils.errors import UserError, one_line_errors
from utils.files import read_rows


def read_log(args):
    return read_rows(Path(args.model_dir) / 'log.csv')


def get_learned(args, name='last.pth'):
    """What of a checkpoint decides how training continues."""
    state = load_checkpoint(f'{args.model_dir}/{name}')
    return {k: state[k] for k in ('model', 'ema', 'optimizer', 'scheduler', 'step', 'best')}


def get_val_scores(checkpoint):
    """{name: score} of the validation that a checkpoint keeps."""
    metrics = checkpoint['metrics'].items()
    return {k.removeprefix('val/'): v for k, v in metrics if k.startswith('val/')}


def evaluate(path, *options):
    """(args, {name: score}) of a checkpoint file, as eval.py computes them."""
    args, checkpoint = get_test_args(['--load_model_path', str(path), *map(str, options)])
    return args, Evaluator(args, select_model(args, checkpoint)).eval()


@pytest.mark.slow
def test_eight_images_are_overfitted(make_args):
    options = ['--overfit', 8, '--batch_size', 8, '--lr', 0.1, '--epochs', 20, '--val_freq', 20]
    assert train(make_args(*options, '--best_metric', 'miou')).state.best['score'] > 0.95


def test_the_score_at_the_end_is_the_score_of_eval(make_args):
    path = train(make_args('--epochs', 2, '--val_freq', 2)).model_dir / 'best.pth'
    assert evaluate(path)[1] == get_val_scores(load_checkpoint(path))


@pytest.mark.parametrize(('img_size', 'batch_sizes'), [((16, 24), (1, 2, 5)), ((32, 48), (1, 4))])
def test_the_score_does_not_depend_on_val_batch_size(make_args, img_size, batch_sizes):
    scores = []
    for batch_size in batch_sizes:
        args = make_args('--val_batch_size', batch_size, '--img_size', *img_size)
        torch.manual_seed(0)
        scores.append(Evaluator(args, select_model(args)).eval())
    for other in scores[1:]:
        assert other == pytest.approx(scores[0], abs=1e-6, nan_ok=True)


def test_a_finished_run_says_so_and_does_nothing(make_args, capsys):
    model_dir = train(make_args('--epochs', 1)).model_dir
    before = {path.name: path.stat().st_mtime_ns for path in model_dir.iterdir()}
    main(make_args('--epochs', 1, '--resume'))
    output = capsys.readouterr().out
    assert 'finished' in output
    assert '--epochs' in output
    after = {path.name: path.stat().st_mtime_ns for path in model_dir.iterdir()}
    assert after.pop('.lock')
    assert before == after


@pytest.mark.slow
def test_a_finished_run_continues_with_more_epochs(make_args):
    train(make_args('--epochs', 1))
    assert train(make_args('--epochs', 3, '--resume')).state.step == 6
    assert [row['epoch'] for row in read_log(make_args('--resume'))] == ['1', '2', '3']


@pytest.mark.slow
def test_accumulating_in_parts_gives_the_step_of_the_whole_batch(make_args, monkeypatch):
    monkeypatch.setattr('conftest.ToyNet.forward', lambda self, img: self.head(self.block[0](img)))
    options = ['--optimizer', 'sgd', '--momentum', 0, '--epochs', 1]  # no BatchNorm, no dropout
    options += ['--overfit', 8]  # no augmentation, whose padding is ignored
    whole = train(make_args(*options, run='whole')).model.state_dict()
    parts = train(make_args(*options, '--accum', 2, run='parts')).model.state_dict()
    # Ignored pixels weigh parts a little differently; the toy images hold the same number of them.
    assert all(torch.allclose(whole[name], parts[name], atol=1e-5) for name in whole)


def test_averaged_weights_are_the_ones_that_are_evaluated(make_args):
    trainer = train(make_args('--ema', 0.9, '--epochs', 2))
    state = load_checkpoint(trainer.model_dir / 'last.pth')
    assert not torch.equal(state['model']['head.weight'], state['ema']['head.weight'])
    args, checkpoint = get_test_args(['--load_model_path', str(trainer.model_dir / 'last.pth')])
    assert torch.equal(select_model(args, checkpoint).head.weight, state['ema']['head.weight'])


@pytest.mark.slow
@pytest.mark.parametrize('options', [[], ['--ema', 0.9]])
def test_validation_does_not_change_what_is_learned(make_args, options):
    learned = []
    for val_freq in (0, 1):
        args = make_args(*options, '--val_freq', val_freq, run=f'val_freq_{val_freq}')
        train(args)
        learned.append(get_learned(args) | {'best': None})
    assert are_equal(*learned)


@pytest.mark.slow
def test_lr_falls_as_the_scheduler_says(make_args):
    cosine = train(make_args('--lr', 0.1, '--scheduler', 'cosine', '--epochs', 4, run='cosine'))
    lrs = [float(row['lr']) for row in read_log(cosine.args)]
    num_steps = len(cosine.train_loader)
    steps = [[epoch + i / num_steps for i in range(num_steps)] for epoch in range(4)]
    expected = [
        sum(0.05 * (1 + math.cos(math.pi * x / 4)) for x in epoch) / num_steps for epoch in steps
    ]
    assert lrs == pytest.approx(expected, abs=1e-6)  # means over the steps of each epoch
    warm = make_args('--lr', 0.1, '--scheduler', 'none', '--warmup', 2, run='warm')
    lrs = [float(row['lr']) for row in read_log(train(warm).args)]
    assert lrs == pytest.approx([0.0375, 0.0875])


def test_a_clipped_gradient_moves_the_weights_less(make_args):
    options = ['--optimizer', 'sgd', '--momentum', 0, '--wd', 0, '--scheduler', 'none', '--lr', 1]
    args = make_args(*options, '--clip_grad', 1e-3, '--epochs', 1)
    trainer = Trainer(args)
    before = [p.detach().clone() for p in trainer.model.parameters()]
    trainer.train()
    pairs = zip(before, trainer.model.parameters(), strict=True)
    moved = sum(((old - new) ** 2).sum() for old, new in pairs) ** 0.5
    assert 0 < moved <= 2 * 1e-3 * 1.01  # two steps


def fake_validation(monkeypatch, name, scores):
    """Each validation gives the next of `scores` and computes nothing."""
    scores = iter(scores)
    monkeypatch.setattr(
        Trainer,
        'val_per_epoch',
        lambda self, epoch: self.logger.record_scores('val', {name: next(scores)}),
    )


@pytest.mark.slow
def test_early_stop_waits_for_3_validations(make_args, monkeypatch):
    fake_validation(monkeypatch, 'miou', [0.5, 0.6, 0.4, 0.5, 0.55, 0.9])
    trainer = train(make_args('--epochs', 10, '--early_stop', 3, '--best_metric', 'miou'))
    assert trainer.state.epoch == 5
    assert trainer.state.best == {'epoch': 2, 'score': 0.6, 'scores': {'miou': 0.6}}


def test_best_follows_its_metric_downwards_for_a_loss(make_args, monkeypatch):
    fake_validation(monkeypatch, 'loss', [0.5, 0.3, 0.4])
    trainer = train(make_args('--epochs', 3, '--best_metric', 'loss'))
    assert trainer.state.best == {'epoch': 2, 'score': 0.3, 'scores': {'loss': 0.3}}
    assert load_checkpoint(trainer.model_dir / 'best.pth')['epoch'] == 2


@pytest.mark.slow
def test_fast_dev_run_does_two_batches_of_everything_beside_the_run(make_args, tmp_path):
    train(make_args('--epochs', 1))
    trainer = train(make_args('--fast_dev_run', '--batch_size', 2, '--epochs', 9))
    assert (trainer.state.epoch, trainer.state.step) == (1, 2)
    assert trainer.model_dir == tmp_path / 'run_fast_dev_run'
    assert load_checkpoint(tmp_path / 'run' / 'last.pth')['args']['fast_dev_run'] is False


@pytest.mark.slow
def test_weights_to_start_from_are_taken_and_nothing_else(make_args):
    first = train(make_args('--epochs', 1, run='first'))
    path = first.model_dir / 'last.pth'
    second = Trainer(make_args('--load_model_path', path, run='second'))
    assert are_equal(second.model.state_dict(), first.model.state_dict())
    assert (second.state.epoch, second.state.step) == (0, 0)
    assert second.optimizer.state_dict()['state'] == {}


def test_another_number_of_classes_starts_from_what_fits(make_args, capsys):
    first = train(make_args('--epochs', 1, run='first'))
    options = ['--load_model_path', first.model_dir / 'last.pth', '--num_classes', 4]
    Trainer(make_args(*options, '--load_not_strict', run='second'))
    assert 'head.weight (3, 8, 1, 1) -> (4, 8, 1, 1)' in capsys.readouterr().out


def test_a_loss_that_is_no_number_stops_the_run_and_names_the_epoch(make_args):
    trainer = Trainer(make_args('--lr', 1e30, '--optimizer', 'sgd', '--epochs', 5))
    with pytest.raises(FloatingPointError, match=r'epoch \d.*(nan|inf).*--lr'):
        trainer.train()


def test_a_run_that_diverges_in_its_first_epoch_is_marked_and_ends_in_one_line(make_args, capsys):
    args = make_args('--lr', 1e30, '--optimizer', 'sgd', '--epochs', 5)
    with pytest.raises(SystemExit, match='2'), one_line_errors():
        main(args)
    error = capsys.readouterr().err.strip()
    assert error.startswith('error: ')
    assert 'loss' in error
    assert '\n' not in error
    assert '"status": "failed"' in (get_train_model_dir(args) / 'run.json').read_text()


def test_pictures_are_those_of_every_viz_freq_th_sample_in_each_epoch(make_args, monkeypatch):
    seen = []

    def save_imgs(self, name, imgs, epoch, caption):
        seen.append((epoch, name, caption))

    monkeypatch.setattr('train.Logger.save_imgs', save_imgs)
    train(make_args('--epochs', 2, '--viz_freq', 2))
    shown = {f'train/{i:04d}': f'{i}.png' for i in (0, 2, 4, 6)}
    shown |= {f'val/{i:04d}': f'{100 + i}.png' for i in (0, 2, 4)}
    for epoch in (1, 2):
        pictures = [(name, caption) for when, name, caption in seen if when == epoch]
        assert sorted(pictures) == sorted(shown.items())


def test_images_that_are_in_both_lists_are_counted(make_args, toy_list, capsys, tmp_path):
    other = tmp_path / 'other.txt'
    other.write_text(toy_list.read_text())
    Trainer(make_args('--val_list', other, '--data_root', toy_list.parent))
    warning = capsys.readouterr().err
    assert all(word in warning for word in ('8 images', '--val_list', '--train_list'))


@pytest.mark.slow
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
    assert train(make_args('--epochs', 1)).state.step == 2


def test_one_list_of_one_image_can_be_overfitted(make_args, tmp_path):
    path = write_list(tmp_path / 'one', 1)
    args = make_args('--train_list', path, '--overfit', 1, '--batch_size', 1, '--epochs', 1)
    assert train(args).state.step == 20


def record_step_randomness(monkeypatch):
    """A list that gets what each forward pass draws from the three global generators."""
    numbers, step = [], Trainer.step

    def draw_and_step(self, batch):
        numbers.append((random.random(), np.random.rand(), torch.rand(1).item()))
        return step(self, batch)

    monkeypatch.setattr(Trainer, 'step', draw_and_step)
    return numbers


@pytest.mark.slow
def test_a_steps_random_numbers_are_the_same_with_0_and_2_workers(make_args, monkeypatch):
    runs = []
    for num_workers in (0, 2):
        with monkeypatch.context() as patch:
            runs.append(record_step_randomness(patch))
            train(make_args('--num_workers', num_workers, run=f'workers_{num_workers}'))
    assert len(runs[0]) == 4
    assert len({*sum(runs[0], ())}) == 12  # no step repeats another's
    assert runs[0] == runs[1]


@pytest.mark.slow
def test_a_resumed_step_has_the_random_numbers_that_it_has_straight_through(make_args, monkeypatch):
    numbers = record_step_randomness(monkeypatch)
    train(make_args('--epochs', 2, run='straight'))
    train(make_args('--epochs', 1))
    train(make_args('--epochs', 2, '--resume'))
    assert numbers[4:] == numbers[:4]


class ToyClasses(Dataset):
    """A classifier's dataset: images of the toy list, 0 if the rectangle is bright, 1 if dark."""

    def __init__(self, args, list_path, is_train):
        self.files = ListFile(list_path, args.data_root)

    def __len__(self):
        return len(self.files)

    def __getitem__(self, i):
        img = torch.from_numpy(read_image(self.files[i][0]).transpose(2, 0, 1).copy())
        name = self.files.entry(i)[0]
        return {'img': img, 'label': torch.tensor(int(Path(name).stem) % 2), 'name': name}


class ToyClassifier(nn.Sequential):
    """(N,3,H,W) -> (N,C)."""

    def __init__(self, args):
        conv = nn.Conv2d(3, 8, 3, padding=1)
        pool = nn.AdaptiveAvgPool2d(1)
        super().__init__(conv, nn.ReLU(), pool, nn.Flatten(), nn.Linear(8, args.num_classes))


def test_a_classifier_learns_and_evaluates_to_the_score_of_its_training(
    make_args, monkeypatch, capsys
):
    monkeypatch.setitem(DATASETS, 'toy_classes', 'test_train:ToyClasses')
    monkeypatch.setitem(MODELS, 'toy_classifier', 'test_train:ToyClassifier')
    entries = ['--data_type', 'toy_classes', '--model_type', 'toy_classifier', '--num_classes', 2]
    options = [*entries, '--loss', 'ce', '--metrics', 'acc', '--lr', 0.03, '--epochs', 20]
    trainer = train(make_args(*options, '--viz_freq', 1, '--val_freq', 20))
    assert trainer.state.best['score'] == 1
    path = trainer.model_dir / 'best.pth'
    trained = get_val_scores(load_checkpoint(path))
    argv = ['--load_model_path', str(path), '--save_viz', '--val_batch_size', '2']
    assert evaluation.main(*get_test_args(argv)) == 0
    assert 'acc 1.0000 (training 1.0000, equal)' in capsys.readouterr().out
    row = read_rows(path.with_name('results.csv'))[-1]
    assert {name: float(row[name]) for name in trained} == pytest.approx(trained, abs=1e-6)
    result_dir = path.with_suffix('')
    assert len(read_rows(next(result_dir.rglob('per_image.csv')))) == 5
    assert len(list(result_dir.rglob('panels/*.png'))) == 5
    row = read_rows(next(result_dir.rglob('per_image.csv')))[0]
    assert row['label'] == row['pred']


@pytest.mark.parametrize('imgs', [{}, None])
def test_a_task_without_pictures_trains(make_args, monkeypatch, imgs):
    monkeypatch.setattr('train.gen_imgs_to_write', lambda *_: imgs)
    train(make_args('--epochs', 1))


def test_a_model_without_a_parameter_to_learn_is_one_line(make_args, monkeypatch):
    args = make_args()
    model = select_model(args).requires_grad_(False)
    monkeypatch.setattr('train.select_model', lambda *_: model)
    with pytest.raises(UserError, match='no parameter that requires a gradient'):
        Trainer(args)
