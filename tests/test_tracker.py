"""run.json and the code beside it: how a run began, how far it is and how it ended."""

import json

import numpy as np
import pytest
from conftest import read_record, train

from train import Trainer, main
from utils.checkpoint import load_checkpoint
from utils.tracking.run_dir import RunDir


@pytest.mark.parametrize(
    ('error', 'status'), [(KeyboardInterrupt(), 'stopped'), (RuntimeError('boom'), 'failed')]
)
def test_how_a_run_ended_is_kept(make_args, monkeypatch, error, status):
    trainer = Trainer(make_args())

    def fail(batch):
        raise error

    monkeypatch.setattr(trainer, 'step', fail)
    with pytest.raises(type(error)):
        trainer.train()
    record = read_record(trainer)
    assert record['status'] == status
    assert record.get('error') == ('RuntimeError: boom' if status == 'failed' else None)
    assert record['epoch'] == 0
    assert record['end'] >= record['start']


def test_a_run_is_running_until_it_ends(make_args, monkeypatch):
    statuses, trainer = [], Trainer(make_args('--epochs', 2))
    monkeypatch.setattr(
        trainer, 'val_per_epoch', lambda epoch: statuses.append(read_record(trainer)['status'])
    )
    trainer.train()
    assert statuses == ['running'] * 2
    assert read_record(trainer)['status'] == 'finished'


def test_the_last_epoch_and_the_best_one_are_kept(make_args):
    trainer = train(make_args('--epochs', 3))
    record = read_record(trainer)
    assert (record['epoch'], record['epochs']) == (3, 3)
    assert record['best'] == trainer.state.best
    assert record['best']['scores']['miou'] == record['best']['score']


@pytest.mark.slow
def test_a_resumed_run_remembers_how_it_was_run_before(make_args):
    train(make_args('--epochs', 1))
    train(make_args('--epochs', 2, '--resume'))
    record = read_record(train(make_args('--epochs', 3, '--resume')))
    assert [len(earlier['earlier']) for earlier in record['earlier']] == [0, 0]
    assert [earlier['until_epoch'] for earlier in record['earlier']] == [1, 2]
    assert 'option: epochs 1 -> 2' in record['earlier'][0]['changes']


@pytest.mark.slow
def test_a_resumed_child_keeps_the_name_of_its_parent(make_args):
    parent = train(make_args('--epochs', 1)).model_dir / 'best.pth'
    train(make_args('--epochs', 1, '--load_model_path', parent, run='child'))
    child = train(make_args('--epochs', 2, '--resume', run='child'))
    assert f'--load_model_path {parent}' in (child.model_dir / 'args.txt').read_text()
    assert read_record(child)['parent']['path'] == str(parent)


@pytest.mark.slow
def test_code_is_that_of_the_start_and_each_checkpoint_holds_its_own(make_args, monkeypatch):
    def change(text):
        monkeypatch.setattr('utils.tracking.tracker.CODE', {'options.py': text})

    change('x = 1\n')
    trainer = Trainer(make_args('--epochs', 1, '--save_freq', 1))
    change('x = 2\n')  # edited while it runs
    trainer.train()
    code = trainer.model_dir / 'code' / 'options.py'
    assert code.read_text() == 'x = 1\n'
    train(make_args('--epochs', 2, '--save_freq', 1, '--resume'))
    assert code.read_text() == 'x = 2\n'
    paths = sorted(trainer.model_dir.glob('0*.pth'))
    texts = [load_checkpoint(path)['code']['options.py'] for path in paths]
    assert texts == ['x = 1\n', 'x = 2\n']
    earlier = load_checkpoint(paths[1])['provenance']['earlier'][-1]
    assert earlier['until_epoch'] == 1
    assert any(line.startswith('  options.py  +1 -1') for line in earlier['changes'])


@pytest.mark.slow
@pytest.mark.parametrize('status', ['running', 'stopped', 'failed'])
def test_a_run_that_ended_between_its_last_epoch_and_its_end_is_marked_as_finished(
    make_args, status
):
    trainer = train(make_args('--epochs', 1))
    record = read_record(trainer)
    changed = record | {'status': status, 'error': 'x'}
    (trainer.model_dir / 'run.json').write_text(json.dumps(changed))
    main(make_args('--epochs', 1, '--resume'))
    again = read_record(trainer)
    assert (again['status'], again['error'], again['epoch']) == ('finished', '', 1)
    assert {name: again[name] for name in ('command', 'start', 'data')} == {
        name: record[name] for name in ('command', 'start', 'data')
    }


def test_a_finished_run_whose_record_is_gone_is_no_error(make_args):
    trainer = train(make_args('--epochs', 1))
    (trainer.model_dir / 'run.json').unlink()
    main(make_args('--epochs', 1, '--resume'))


@pytest.mark.parametrize('text', ['', '{', '[]', '3', '\xff'])
def test_a_record_that_is_damaged_is_empty(tmp_path, text):
    (tmp_path / 'run.json').write_text(text, encoding='latin-1')
    assert RunDir(tmp_path).read_record() == {}


def test_nothing_is_written_before_training_starts(make_args, tmp_path):
    Trainer(make_args())
    assert not (tmp_path / 'run').exists()


def test_augmentation_with_a_generator_of_its_own_is_warned_of(make_args, monkeypatch, capsys):
    Trainer(make_args())
    assert 'read twice' not in capsys.readouterr().err
    generator = np.random.default_rng()

    def transform(self, img, label):
        return img + generator.integers(0, 9, img.shape, dtype=np.uint8), label

    monkeypatch.setattr('data.list_dataset.ListDataset.transform', transform)
    Trainer(make_args())
    assert 'read twice' in capsys.readouterr().err
