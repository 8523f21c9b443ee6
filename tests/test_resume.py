"""--resume: wherever a run was killed, it ends with the weights and logs of one that was not."""

import json
import math

import pytest
import torch
from conftest import read_record, train
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.optim import lr_scheduler

from options import get_train_args, get_train_model_dir
from train import Trainer, main
from utils.checkpoint import load_checkpoint, save_checkpoint
from utils.errors import UserError
from utils.files import read_rows

EPOCHS, STEPS = 3, 2  # steps of an epoch
OPTIONS = ['--epochs', EPOCHS, '--save_steps', 1]


class Killed(BaseException):
    """Ends a run in the middle, as a kill would."""


def kill_at(monkeypatch, method, number):
    """Raises Killed when a method of Trainer is called for the number-th time, from 1."""
    calls, original = [], getattr(Trainer, method)

    def count_and_call(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == number:
            raise Killed
        return original(self, *args, **kwargs)

    monkeypatch.setattr(Trainer, method, count_and_call)


def train_until(make_args, monkeypatch, method, number, *options, **kwargs):
    """Trains until a method is called for the number-th time."""
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, method, number)
        train(make_args(*options, **kwargs))


def are_equal(one, other):
    """Whether two nested states hold the same numbers, bit for bit."""
    if torch.is_tensor(one):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(are_equal(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(are_equal, one, other))
    return one == other or (one != one and other != other)


def get_result(model_dir, name='last.pth'):
    """What of a finished run must not depend on where it was killed."""
    state = load_checkpoint(model_dir / name)
    names = ('model', 'ema', 'optimizer', 'scheduler', 'scaler', 'epoch', 'step', 'batch', 'best')
    rows = [
        {k: v for k, v in row.items() if not k.startswith('speed/')}
        for row in read_rows(model_dir / 'log.csv')
    ]
    return {name: state[name] for name in names} | {'log': rows}


def read_curves(model_dir):
    """{tag: [(step, value)]} of the curves that do not depend on speed, as TensorBoard reads."""
    curves = {}
    for path in sorted(model_dir.glob('events*')):
        events = EventAccumulator(str(path), size_guidance={'scalars': 0, 'images': 0})
        events.Reload()
        for tag in events.Tags()['scalars']:
            if not tag.startswith('speed/'):
                points = [(event.step, event.value) for event in events.Scalars(tag)]
                curves.setdefault(tag, []).extend(points)
        for tag in events.Tags()['images']:
            points = [(event.step, len(event.encoded_image_string)) for event in events.Images(tag)]
            curves.setdefault(tag, []).extend(points)
        for tag in events.Tags()['tensors']:
            curves.setdefault(tag, []).extend((event.step, '') for event in events.Tensors(tag))
    # Files of one second are named by number: their order by name is that of the text, 10 before 9.
    return {tag: sorted(points) for tag, points in curves.items()}


@pytest.fixture
def straight(make_args):
    """A run that nothing interrupted."""
    return train(make_args(*OPTIONS, run='straight')).model_dir


PLACES = [('update', n) for n in (1, 2, 3, 5, EPOCHS * STEPS)]
PLACES += [('val_per_epoch', 1), ('val_per_epoch', EPOCHS), ('finish_epoch', 2)]
PLACES = [('update', 4), *(pytest.param(place, marks=pytest.mark.slow) for place in PLACES)]


@pytest.mark.parametrize('place', PLACES, ids=str)
def test_a_run_that_was_killed_anywhere_ends_as_it_does_straight_through(
    make_args, monkeypatch, straight, place
):
    train_until(make_args, monkeypatch, *place, *OPTIONS)
    resumed = train(make_args(*OPTIONS, '--resume')).model_dir
    assert are_equal(get_result(straight), get_result(resumed))
    assert are_equal(get_result(straight, 'best.pth'), get_result(resumed, 'best.pth'))
    assert read_curves(straight) == read_curves(resumed)


@pytest.mark.slow
@pytest.mark.parametrize(
    'options',
    [
        ['--optimizer', 'sgd', '--scheduler', 'step', '--lr_step', 1, '--ema', 0.5],
        ['--optimizer', 'adam', '--scheduler', 'poly', '--warmup', 0.5, '--accum', 2],
        ['--amp', 'bf16', '--loss', 'ce_dice', '--metrics', 'mdice'],
        ['--overfit', 4, '--epochs', 1],
    ],
)
def test_two_kills_change_nothing_whatever_the_options(make_args, monkeypatch, options):
    options = [*OPTIONS, *options]
    straight = train(make_args(*options, run='straight')).model_dir
    train_until(make_args, monkeypatch, 'update', 2, *options)
    train_until(make_args, monkeypatch, 'update', 3, *options, '--resume')
    resumed = train(make_args(*options, '--resume')).model_dir
    assert are_equal(get_result(straight), get_result(resumed))


def one_cycle(optimizer, args, steps_per_epoch):
    return lr_scheduler.OneCycleLR(optimizer, args.lr, args.epochs * steps_per_epoch)


def warm_up_and_fall(optimizer, args, steps_per_epoch):
    warmup = lr_scheduler.LinearLR(optimizer, 0.1, total_iters=2)
    fall = lr_scheduler.CosineAnnealingLR(optimizer, args.epochs * steps_per_epoch - 2)
    return lr_scheduler.SequentialLR(optimizer, [warmup, fall], [2])


@pytest.mark.slow
@pytest.mark.parametrize('select_scheduler', [one_cycle, warm_up_and_fall])
def test_a_scheduler_of_torch_continues_where_it_was_and_takes_over_more_epochs(
    make_args, monkeypatch, select_scheduler
):
    monkeypatch.setattr('train.select_scheduler', select_scheduler)
    straight = train(make_args(*OPTIONS, run='straight')).model_dir
    train_until(make_args, monkeypatch, 'update', 4, *OPTIONS)
    resumed = train(make_args(*OPTIONS, '--resume')).model_dir
    assert are_equal(get_result(straight), get_result(resumed))
    longer = train(make_args(*OPTIONS, '--epochs', 5, '--resume'))
    whole = train(make_args(*OPTIONS, '--epochs', 5, run='whole'))
    assert longer.scheduler.get_last_lr() == whole.scheduler.get_last_lr()


@pytest.mark.slow
def test_a_scheduler_that_is_stepped_once_per_epoch_resumes_too(make_args, monkeypatch):
    """As after an edit of train.py."""
    finish_epoch = Trainer.finish_epoch

    def select(optimizer, args, steps_per_epoch):
        return lr_scheduler.LambdaLR(optimizer, lambda epoch: 0.5**epoch)

    def update(self, batch):
        pred, losses = self.compute_gradients(batch)
        self.optimizer.step()
        return pred, losses

    def step_and_finish(self, epoch):
        self.scheduler.step()
        finish_epoch(self, epoch)

    monkeypatch.setattr('train.select_scheduler', select)
    monkeypatch.setattr(Trainer, 'update', update)
    monkeypatch.setattr(Trainer, 'finish_epoch', step_and_finish)
    straight = train(make_args('--epochs', 3, run='straight')).model_dir
    train(make_args('--epochs', 2))
    resumed = train(make_args('--epochs', 3, '--resume')).model_dir
    assert are_equal(get_result(straight), get_result(resumed))


@pytest.mark.slow
@pytest.mark.parametrize('num_workers', [(0, 2), (2, 0), (2, 1)])
def test_the_number_of_workers_may_change_within_an_epoch(
    make_args, monkeypatch, straight, num_workers
):
    before, after = num_workers
    train_until(make_args, monkeypatch, 'update', 4, *OPTIONS, '--num_workers', before)
    resumed = train(make_args(*OPTIONS, '--num_workers', after, '--resume')).model_dir
    assert are_equal(get_result(straight), get_result(resumed))


def test_no_sample_is_read_twice(make_args, monkeypatch):
    train_until(make_args, monkeypatch, 'update', 2, *OPTIONS)
    trainer, seen = Trainer(make_args(*OPTIONS, '--resume')), []
    read = type(trainer.train_loader.samples).read

    def read_and_note(self, i):
        if self is trainer.train_loader.samples:
            seen.append(i)
        return read(self, i)

    monkeypatch.setattr('data.list_dataset.ListDataset.read', read_and_note)
    trainer.train_per_epoch = lambda epoch, train=trainer.train_per_epoch: (
        train(epoch) if epoch == 1 else (_ for _ in ()).throw(Killed)
    )
    with pytest.raises(Killed):
        trainer.train()
    assert len(seen) == 4  # one batch of two is left


def test_nothing_to_resume_is_said_with_the_absolute_path(make_args, capsys, tmp_path):
    train(make_args('--epochs', 1, '--resume'))
    assert f'no run to resume in {tmp_path / "run"}; starting' in capsys.readouterr().out


def test_a_run_that_was_renamed_is_not_continued_in_the_directory_of_its_old_name(
    make_args, tmp_path, monkeypatch
):
    train(make_args('--epochs', 1))
    renamed = (tmp_path / 'run').rename(tmp_path / 'final')
    options = f'@{renamed / "args.txt"}'
    monkeypatch.setattr('sys.argv', ['train.py', options, '--resume'])
    with pytest.raises(UserError, match=f'--model_dir {renamed} '):
        Trainer(get_train_args([options, '--resume']))
    assert Trainer(get_train_args([options, '--resume', '--model_dir', str(renamed)])).state.step


def damage(path, how):
    """Makes a checkpoint useless in one of the ways that disks do."""
    content = path.read_bytes()
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 1
    new = {'half': content[: len(content) // 2], 'zeros': bytes(len(content)), 'bit': flipped}
    if how == 'gone':
        path.unlink()
    else:
        path.write_bytes(new.get(how, b''))


@pytest.mark.slow
@pytest.mark.parametrize('how', ['half', 'zeros', 'bit', 'empty', 'gone'])
def test_the_newest_whole_checkpoint_is_used_and_named(make_args, capsys, how):
    options = ['--epochs', 3, '--save_freq', 1, '--best_metric', 'loss']
    straight = train(make_args(*options, run='straight')).model_dir
    run = train(make_args(*options)).model_dir
    for name in ('last.pth', 'best.pth', '0003_00000006.pth'):
        damage(run / name, how)
    capsys.readouterr()
    resumed = train(make_args(*options, '--resume')).model_dir
    output = ''.join(capsys.readouterr())
    assert f'resuming from {run / "0002_00000004.pth"}: 2 epochs done' in output
    for name in ('last.pth', 'best.pth', '0003_00000006.pth'):
        assert (f'{run / name}' in output) == (how != 'gone')
    assert are_equal(get_result(straight), get_result(resumed))
    assert read_curves(straight).keys() == read_curves(resumed).keys()
    assert [row['epoch'] for row in read_rows(run / 'log.csv')] == ['1', '2', '3']


@pytest.mark.slow
@pytest.mark.parametrize('option', [[], ['--epochs', 9], ['--allow_changes']])
def test_with_files_of_which_none_loads_nothing_is_touched(make_args, option, capsys):
    run = train(make_args('--epochs', 1)).model_dir
    for path in run.glob('*.pth'):
        path.write_bytes(b'x')
    before = {path: path.read_bytes() for path in run.iterdir() if path.is_file()}
    with pytest.raises(UserError, match='last.pth, best.pth'):
        main(make_args(*option, '--resume'))
    after = {path: path.read_bytes() for path in run.iterdir() if path.is_file()}
    assert {k: v for k, v in after.items() if k.name != '.lock'} == {
        k: v for k, v in before.items() if k.name != '.lock'
    }


def test_weights_alone_are_not_resumed(make_args):
    run = train(make_args('--epochs', 1)).model_dir
    (run / 'best.pth').unlink()
    save_checkpoint({'model': load_checkpoint(run / 'last.pth')['model']}, run / 'last.pth')
    with pytest.raises(UserError, match='last.pth'):
        main(make_args('--resume'))


@pytest.mark.slow
def test_a_numbered_checkpoint_that_is_newer_than_last_is_used(make_args, monkeypatch, capsys):
    """Killed between the files of one epoch: last.pth, the commit point, is still the old one."""
    options = [*OPTIONS[:2], '--save_freq', 1, '--best_metric', 'loss']
    straight = train(make_args(*options, run='straight')).model_dir
    names = []

    def save_some(state, path):
        names.append(path.name)
        if len(names) == number:
            raise Killed
        save_checkpoint(state, path)

    for number in range(2, 11):
        names.clear()
        run = f'run_{number}'
        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr('utils.logger.save_checkpoint', save_some)
            train(make_args(*options, run=run))
        resumed = train(make_args(*options, '--resume', run=run)).model_dir
        assert are_equal(get_result(straight), get_result(resumed))
        assert are_equal(get_result(straight, 'best.pth'), get_result(resumed, 'best.pth'))
        record = json.loads((resumed / 'run.json').read_text())
        assert record['best']['epoch'] == load_checkpoint(resumed / 'best.pth')['epoch']


# ---- What resuming may change ----


def read_files(model_dir):
    return {p: p.read_bytes() for p in model_dir.rglob('*') if p.is_file() and p.name != '.lock'}


# Options of the resumed run, and what the error says.
CHANGES = [
    (['--optimizer', 'sgd'], ['optimizer adamw -> sgd']),
    (['--num_classes', 4], ['num_classes 3 -> 4']),
    (['--model_type', 'base_model'], ['model_type toy -> base_model']),
    (['--ema', 0.9], ['ema 0.0 -> 0.9']),
    (['--ema', 0.9, '--allow_changes'], ['ema 0.0 -> 0.9']),
    (['--optimizer', 'sgd', '--allow_changes'], ['optimizer adamw -> sgd']),
    (['--loss', 'dice'], ['loss ce -> dice', '--allow_changes']),
    (['--batch_size', 2], ['batch_size 4 -> 2', '--allow_changes']),
    (['--seed', 1], ['seed 0 -> 1', '--allow_changes']),
    (['--scheduler', 'poly'], ['scheduler cosine -> poly', '--allow_changes']),
    (['--amp', 'fp16'], ['amp off -> fp16', '--allow_changes']),
    (['--loss', 'dice', '--seed', 2], ['loss ce -> dice', 'seed 0 -> 2']),
]


def test_what_changes_the_experiment_is_refused_and_nothing_is_written(make_args):
    run = train(make_args('--epochs', 2)).model_dir
    before = read_files(run)
    for options, words in CHANGES:
        with pytest.raises(UserError) as error:
            main(make_args('--epochs', 3, *options, '--resume'))
        assert all(word in str(error.value) for word in words), options
        assert '\n' not in str(error.value)
        assert read_files(run) == before, options


@pytest.mark.slow
def test_another_training_list_is_refused_and_another_place_of_it_is_not(
    make_args, toy_list, tmp_path
):
    run = train(make_args('--epochs', 1)).model_dir
    before = read_files(run)
    moved, shorter = tmp_path / 'moved.txt', tmp_path / 'shorter.txt'
    moved.write_text(toy_list.read_text())
    shorter.write_text(''.join(toy_list.read_text().splitlines(keepends=True)[:6]))
    # The root is where relative paths of both lists begin; the validation list's are there too.
    val = tmp_path / 'val.txt'
    val.write_text(moved.read_text())
    options = ['--epochs', 2, '--data_root', toy_list.parent, '--val_list', val, '--resume']
    with pytest.raises(UserError, match='training list.*--allow_changes'):
        main(make_args(*options, '--train_list', shorter))
    assert read_files(run) == before
    main(make_args(*options, '--train_list', moved))
    main(make_args(*options, '--train_list', shorter, '--epochs', 3, '--allow_changes'))
    assert load_checkpoint(run / 'last.pth')['epoch'] == 3


@pytest.mark.slow
def test_lr_weight_decay_and_momentum_act_from_the_next_step_on(make_args, capsys):
    options = ['--epochs', 2, '--scheduler', 'cosine', '--save_freq', 1]
    train(make_args(*options))
    trainer = Trainer(make_args(*options, '--epochs', 4, '--resume'))
    group = trainer.optimizer.param_groups[0]
    assert group['lr'] == pytest.approx(0.003 * 0.5)  # half of four epochs are done
    assert '0 -> 0.0015' in capsys.readouterr().out
    changes = ['--lr', 0.01, '--wd', 0.5, '--momentum', 0.8, '--beta', 0.9, '--clip_grad', 1]
    trainer = Trainer(make_args(*options, *changes, '--epochs', 4, '--resume'))
    group, output = trainer.optimizer.param_groups[0], capsys.readouterr().out
    assert group['lr'] == pytest.approx(0.01 * 0.5)
    assert (group['weight_decay'], group['betas']) == (0.5, (0.8, 0.9))
    for word in ('lr 0.003 -> 0.01', 'weight_decay 0.0001 -> 0.5', 'momentum 0.9 -> 0.8'):
        assert word in output
    trainer.train()
    assert trainer.scheduler.get_last_lr()[0] == pytest.approx(0, abs=1e-9)


@pytest.mark.slow
def test_a_changed_lr_changes_what_is_learned(make_args, tmp_path):
    learned = []
    for run, options in (('same', []), ('other', ['--lr', 0.03])):
        train(make_args('--epochs', 3, '--save_freq', 1, '--best_metric', 'loss', run=run))
        for name in ('last.pth', 'best.pth', '0003_00000006.pth'):
            (tmp_path / run / name).unlink()
        options = [*options, '--best_metric', 'loss', '--save_freq', 1]
        trainer = train(make_args('--epochs', 3, *options, '--resume', run=run))
        learned.append(trainer.model.head.weight)
    assert not torch.equal(*learned)


@pytest.mark.slow
@pytest.mark.parametrize(('before', 'after'), [(4, 2), (2, 4)])
def test_another_batch_size_keeps_the_place_in_the_epoch_and_in_the_schedule(
    make_args, monkeypatch, before, after
):
    steps = 8 // before
    options = ['--epochs', 4, '--save_steps', 1]
    place = ('update', steps + steps // 2 + 1)  # in the middle of epoch 2
    train_until(make_args, monkeypatch, *place, *options, '--batch_size', before)
    options = [*options, '--batch_size', after, '--allow_changes', '--resume']
    trainer = Trainer(make_args(*options))
    num_batches = 8 // after
    assert (trainer.state.epoch, trainer.state.batch) == (1, num_batches // 2)
    assert trainer.scheduler.last_epoch == num_batches * 3 // 2
    middle = 0.003 * (1 + math.cos(math.pi * 1.5 / 4)) / 2
    assert trainer.optimizer.param_groups[0]['lr'] == pytest.approx(middle)
    trainer.train()
    assert trainer.optimizer.param_groups[0]['lr'] == pytest.approx(0, abs=1e-9)


@pytest.mark.slow
def test_changes_that_are_allowed_are_applied_and_kept(make_args, capsys):
    train(make_args('--epochs', 1))
    options = ['--loss', 'ce_dice', '--amp', 'bf16', '--scheduler', 'none', '--seed', 3]
    options += ['--epochs', 2, '--resume']
    trainer = train(make_args(*options, '--allow_changes'))
    assert 'loss ce -> ce_dice' in capsys.readouterr().out
    assert 'train/loss_dice' in read_rows(trainer.model_dir / 'log.csv')[-1]
    assert trainer.optimizer.param_groups[0]['lr'] == pytest.approx(0.003)
    assert read_record(trainer)['args']['loss'] == 'ce_dice'
    train(make_args(*options, '--epochs', 3))  # no longer a change


# ---- The best epoch ----


def fake_scores(monkeypatch, **scores):
    """Each validation gives the next number of each score."""
    lists = {name: iter(values) for name, values in scores.items()}

    def validate(self, epoch):
        self.logger.record_scores('val', {name: next(lists[name]) for name in lists})

    monkeypatch.setattr(Trainer, 'val_per_epoch', validate)


@pytest.mark.slow
def test_another_best_metric_is_looked_up_in_the_log_if_its_weights_are_there(
    make_args, monkeypatch, capsys
):
    fake_scores(monkeypatch, miou=[0.5, 0.6, 0.7], loss=[0.4, 0.3, 0.5])
    options = ['--best_metric', 'miou']
    train(make_args('--epochs', 2, *options))
    capsys.readouterr()
    trainer = train(make_args('--epochs', 3, '--best_metric', 'loss', '--resume'))
    assert trainer.state.best == {'epoch': 2, 'score': 0.3, 'scores': {'miou': 0.6, 'loss': 0.3}}
    assert 'epoch 2, 0.3000' in capsys.readouterr().out
    assert load_checkpoint(trainer.model_dir / 'best.pth')['epoch'] == 2


@pytest.mark.slow
def test_a_best_epoch_by_another_metric_whose_weights_are_gone_starts_afresh(
    make_args, monkeypatch, capsys
):
    fake_scores(monkeypatch, miou=[0.5, 0.6, 0.4], loss=[0.1, 0.3, 0.2])
    train(make_args('--epochs', 2, '--best_metric', 'miou'))
    trainer = train(make_args('--epochs', 3, '--best_metric', 'loss', '--resume'))
    assert 'afresh' in capsys.readouterr().out
    assert trainer.state.best == {'epoch': 3, 'score': 0.2, 'scores': {'miou': 0.4, 'loss': 0.2}}


@pytest.mark.slow
def test_scores_of_another_validation_list_are_not_compared(
    make_args, monkeypatch, capsys, toy_list
):
    fake_scores(monkeypatch, miou=[0.9, 0.4])
    train(make_args('--epochs', 1, '--best_metric', 'miou'))
    options = ['--epochs', 2, '--best_metric', 'miou', '--val_list', toy_list, '--resume']
    trainer = train(make_args(*options))
    assert 'another validation list' in capsys.readouterr().out
    assert trainer.state.best['epoch'] == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ('metric', 'change', 'best'),
    [
        ('loss', ['--loss', 'dice'], 2),
        ('miou', ['--loss', 'dice'], 1),  # the score means the same
        ('miou', ['--img_size', 64, 48], 2),
    ],
)
def test_scores_of_another_loss_or_other_labels_are_not_compared(
    make_args, monkeypatch, metric, change, best
):
    fake_scores(monkeypatch, miou=[0.9, 0.4], loss=[0.1, 0.5])
    options = ['--best_metric', metric]
    train(make_args('--epochs', 1, *options))
    options += [*change, '--resume', '--allow_changes']
    assert train(make_args('--epochs', 2, *options)).state.best['epoch'] == best


@pytest.mark.slow
def test_a_score_whose_direction_has_changed_is_looked_up_again(make_args, monkeypatch):
    fake_scores(monkeypatch, miou=[0.5, 0.6, 0.7])
    train(make_args('--epochs', 2, '--best_metric', 'miou'))
    monkeypatch.setattr('utils.resume.is_lower_better', lambda score: True)
    monkeypatch.setattr('utils.train_state.is_lower_better', lambda score: True)
    trainer = train(make_args('--epochs', 3, '--best_metric', 'miou', '--resume'))
    assert trainer.state.best['epoch'] == 3  # epoch 1, the best of the log, has no weights left


@pytest.mark.slow
@pytest.mark.parametrize('what', ['gone', 'older', 'damaged'])
def test_best_pth_is_made_to_hold_the_best_epoch(make_args, monkeypatch, capsys, what):
    fake_scores(monkeypatch, miou=[0.5, 0.6])
    run = train(make_args('--epochs', 2, '--save_freq', 1, '--best_metric', 'miou')).model_dir
    if what == 'older':
        (run / 'best.pth').write_bytes((run / '0001_00000002.pth').read_bytes())
    else:
        damage(run / 'best.pth', 'gone' if what == 'gone' else 'half')
    main(make_args('--epochs', 2, '--save_freq', 1, '--best_metric', 'miou', '--resume'))
    assert load_checkpoint(run / 'best.pth')['epoch'] == 2
    assert 'best: epoch 2' in capsys.readouterr().out


@pytest.mark.slow
def test_best_pth_never_holds_the_middle_of_an_epoch(make_args, monkeypatch, capsys):
    options = ['--epochs', 3, '--save_steps', 1, '--best_metric', 'miou']
    fake_scores(monkeypatch, miou=[0.5, 0.4, 0.3])
    train_until(make_args, monkeypatch, 'update', 4, *options)  # in epoch 2; epoch 1 is the best
    run = get_train_model_dir(make_args())
    (run / 'best.pth').unlink()
    with pytest.raises(Killed), monkeypatch.context() as patch:
        kill_at(patch, 'update', 1)
        main(make_args(*options, '--resume'))
    assert not (run / 'best.pth').exists()
    assert 'starts afresh' in capsys.readouterr().out


@pytest.mark.slow
def test_a_class_file_in_another_order_is_other_data(make_args, tmp_path, capsys):
    path = tmp_path / 'classes.txt'
    path.write_text('a\nb\nc\n')
    options = ['--class_names', path]
    train(make_args('--epochs', 1, *options))
    path.write_text('b\na\nc\n')
    with pytest.raises(UserError, match='class file.*--allow_changes'):
        train(make_args('--epochs', 2, '--resume', *options))
    train(make_args('--epochs', 2, '--resume', '--allow_changes', *options))
