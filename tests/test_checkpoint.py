"""Checkpoints: written whole or not at all, loaded only when sound, never running code."""

import pickle
import zipfile

import pytest
import torch

from utils import checkpoint
from utils.checkpoint import get_weights, load_checkpoint, save_checkpoint
from utils.files import replace_file


@pytest.fixture
def path(tmp_path):
    """A sound checkpoint."""
    path = tmp_path / 'last.pth'
    save_checkpoint({'model': {'w': torch.arange(5000.0)}, 'epoch': 3}, path)
    return path


def test_what_was_saved_is_loaded(path):
    state = load_checkpoint(path)
    assert state['epoch'] == 3
    assert torch.equal(state['model']['w'], torch.arange(5000.0))


def test_a_save_that_fails_leaves_the_older_file_and_nothing_else(path, monkeypatch):
    def fail(state, file):
        file.write(b'half')
        raise OSError('disk full')

    monkeypatch.setattr(checkpoint.torch, 'save', fail)
    with pytest.raises(OSError, match='disk full'):
        save_checkpoint({'epoch': 4}, path)
    monkeypatch.undo()
    assert load_checkpoint(path)['epoch'] == 3
    assert list(path.parent.iterdir()) == [path]


def test_two_processes_that_write_one_file_do_not_disturb_each_other(tmp_path, monkeypatch):
    path, pids = tmp_path / 'rows.csv', iter([1, 2])
    monkeypatch.setattr('utils.files.os.getpid', lambda: next(pids))
    with replace_file(path) as one:
        with replace_file(path) as two:
            two.write('two')
        assert path.read_text() == 'two'
        one.write('one')
    assert path.read_text() == 'one'


def test_every_flipped_bit_is_caught_or_harmless(path):
    content = path.read_bytes()
    expected = torch.arange(5000.0)
    for position in range(50, len(content), len(content) // 60):
        path.write_bytes(
            content[:position] + bytes([content[position] ^ 16]) + content[position + 1 :]
        )
        try:
            state = load_checkpoint(path)
        except ValueError:
            continue
        assert torch.equal(state['model']['w'], expected)


class Evil:
    """Makes a file when unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), 'w'))


def damage(path, how):
    """Replaces a checkpoint by something that is none."""
    content = path.read_bytes()
    contents = {
        'empty': b'',
        'text': b'not a checkpoint\n' * 20,
        'truncated': content[: len(content) // 2],
        'zeros': bytes(len(content)),
        'pickle': pickle.dumps({'a': 1}),
    }
    path.write_bytes(contents[how])


@pytest.mark.parametrize('how', ['empty', 'text', 'truncated', 'zeros'])
def test_a_damaged_file_is_named_in_one_line(path, how):
    damage(path, how)
    with pytest.raises(ValueError, match=r'last\.pth') as error:
        load_checkpoint(path)
    assert '\n' not in str(error.value)


def test_a_missing_file_and_a_directory_are_named(tmp_path):
    with pytest.raises(ValueError, match=r'no\.pth.*exist'):
        load_checkpoint(tmp_path / 'no.pth')
    with pytest.raises(ValueError, match='directory'):
        load_checkpoint(tmp_path)


def test_code_in_a_checkpoint_does_not_run(tmp_path):
    canary = tmp_path / 'canary'
    torch.save({'model': Evil(canary)}, tmp_path / 'evil.pth')
    with pytest.raises(ValueError, match=r'evil\.pth.*code \(\w+\.open\)'):
        load_checkpoint(tmp_path / 'evil.pth')
    assert not canary.exists()


def test_a_newer_format_is_refused(path, monkeypatch):
    monkeypatch.setattr(checkpoint, 'FORMAT_VERSION', 0)
    with pytest.raises(ValueError, match='newer'):
        load_checkpoint(path)


def test_a_list_is_no_checkpoint(tmp_path):
    torch.save([1, 2], tmp_path / 'list.pth')
    with pytest.raises(ValueError, match='list.*dict'):
        load_checkpoint(tmp_path / 'list.pth')


def test_equal_weights_under_two_names_are_stored_once(tmp_path):
    weights = {'w': torch.zeros(100_000)}
    save_checkpoint({'model': weights, 'ema': weights}, tmp_path / 'a.pth')
    assert (tmp_path / 'a.pth').stat().st_size < 500_000
    assert zipfile.is_zipfile(tmp_path / 'a.pth')


@pytest.mark.parametrize(
    'state',
    [
        {'model': {'w': torch.zeros(1)}, 'ema': {'w': torch.ones(1)}},
        {'model': {'w': torch.ones(1)}, 'epoch': 3},
        {'state_dict': {'w': torch.ones(1)}},
        {'w': torch.ones(1), 'num_batches': 3},
    ],
)
def test_weights_are_found_in_checkpoints_of_several_kinds(state):
    assert get_weights(state) == {'w': torch.ones(1)}
