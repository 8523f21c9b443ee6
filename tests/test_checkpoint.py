"""Checkpoints: written whole or not at all, loaded only when sound, never running code."""

import math
import pickle
import re
import zipfile

import numpy as np
import pytest
import torch

from options import parse_test_args
from utils import checkpoint
from utils.arg_parser import Parser
from utils.checkpoint import load_checkpoint, save_checkpoint
from utils.checkpoint_check import TRACKED
from utils.errors import UserError
from utils.files import replace_file
from utils.weights import get_weights


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


def holds_the_weights(path):
    """Whether a file loads as it was saved; False if it is refused in one line."""
    try:
        state = load_checkpoint(path)
    except UserError as error:
        assert '\n' not in str(error)
        return False
    assert torch.equal(state['model']['w'], torch.arange(5000.0))
    assert state['epoch'] == 3
    return True


def test_every_flipped_bit_is_caught_or_harmless(path):
    content, random = path.read_bytes(), np.random.default_rng(0)
    # Anywhere, and in the headers of the archive, which are at its beginning and end.
    positions = [*random.integers(len(content), size=60), *range(150), *range(-500, 0, 3)]
    results = []
    for position in positions:
        flipped = bytearray(content)
        flipped[position] ^= 1 << random.integers(8)
        path.write_bytes(flipped)
        results.append(holds_the_weights(path))
    assert 0 < sum(results) < len(results)


@pytest.mark.slow
def test_no_bit_of_the_archives_directory_makes_torch_read_something_else(path):
    """Among them the one that marks an entry as a directory, which no checksum covers."""
    content, results = path.read_bytes(), []
    for position in range(len(content) - 900, len(content)):
        flipped = bytearray(content)
        flipped[position] ^= 16
        path.write_bytes(flipped)
        results.append(holds_the_weights(path))
    assert 0 < sum(results) < len(results)


@pytest.mark.parametrize('share', [0, 0.01, 0.5, 0.9, 0.99, 0.999])
def test_a_file_that_ends_early_or_in_zeros_is_refused(path, share):
    content = path.read_bytes()
    kept = content[: int(share * len(content))]
    for rest in (b'', bytes(len(content) - len(kept))):
        path.write_bytes(kept + rest)
        assert not holds_the_weights(path)


@pytest.mark.parametrize('value', [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize('part', ['model', 'ema'])
def test_weights_that_are_not_finite_are_not_saved_and_the_old_file_stands(path, part, value):
    weights = {'w': torch.ones(3), 'num': torch.tensor(3), 'empty': torch.ones(0)}
    bad = weights | {'head.weight': torch.tensor([1.0, value], dtype=torch.float16)}
    state = {'model': weights, 'ema': weights} | {part: bad}
    with pytest.raises(FloatingPointError, match=rf'{part}: head\.weight'):
        save_checkpoint(state, path)
    assert holds_the_weights(path)
    assert list(path.parent.iterdir()) == [path]
    save_checkpoint({'model': weights, 'ema': weights}, path)


def test_a_small_file_that_unpacks_to_a_large_one_is_refused_before_it_is_read(path):
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        archive.writestr('archive/data/9', bytes(50_000_000))
    assert path.stat().st_size < 1_000_000
    with pytest.raises(UserError, match='unpacks to'):
        load_checkpoint(path)


OWN = {
    'model': {'w': torch.ones(2)},
    'ema': {'w': torch.ones(2)},
    'args': {'lr': 0.1, 'metrics': ['miou'], 'resume': False},
    'metrics': {'val/miou': 0.5},
    'epoch': 1,
    'step': 2,
    'best': {'epoch': 1, 'score': math.nan, 'scores': {'miou': 0.5}},
    'code': {'a/b.py': 'x'},
    'probe': {'answer': torch.ones(2), 'device': 'CPU', 'sample': 'abc'},
    'provenance': {
        **{'command': '', 'directory': '/', 'versions': {}, 'earlier': [], 'parent': None},
        'data': {'val': {'list': 'a.txt', 'samples': 3}},
    },
}


@pytest.mark.parametrize(
    'change',
    [
        {'args': [1]},
        {'args': {3: 1}},
        {'epoch': 'three'},
        {'step': None},
        {'epoch': True},
        {'ema': 0.999},
        {'metrics': None},
        {'metrics': {'val/miou': '0.5'}},
        {'best': {'epoch': 1}},
        {'probe': {'device': 'CPU', 'sample': ''}},
        {'provenance': {}},
        {'provenance': OWN['provenance'] | {'data': {'val': {'list': 3, 'samples': 3}}}},
        {'code': {'a.py': 3}},
        {'code': {'../a.py': ''}},
        {'code': {'/a.py': ''}},
        {'code': {'a/../../b.py': ''}},
        {'code': {'a//b.py': ''}},
        {'code': {'a\\b.py': ''}},
        {'code': {'a\0.py': ''}},
        {'code': {'': ''}},
        {'code': {'.': ''}},
    ],
    ids=str,
)
def test_a_malformed_file_of_ours_is_one_line_and_the_same_name_of_others_is_left_out(
    tmp_path, change
):
    path, state = tmp_path / 'a.pth', OWN | change
    torch.save({'format_version': 1} | state, path)
    with pytest.raises(UserError, match=f'malformed.*{next(iter(change))}') as error:
        load_checkpoint(path)
    assert '\n' not in str(error.value)
    torch.save(state, path)
    loaded = load_checkpoint(path)
    assert next(iter(change)) not in loaded
    assert get_weights(loaded)['w'].tolist() == [1, 1]


def test_a_sound_file_of_ours_loads_whole(tmp_path):
    save_checkpoint(OWN, tmp_path / 'a.pth')
    assert load_checkpoint(tmp_path / 'a.pth').keys() == OWN.keys() | {'format_version'}


@pytest.mark.parametrize('part', TRACKED)
def test_a_file_with_a_probe_that_lacks_another_part_is_malformed(tmp_path, part):
    save_checkpoint({k: v for k, v in OWN.items() if k != part}, tmp_path / 'a.pth')
    with pytest.raises(UserError, match=f'malformed.*{part}'):
        load_checkpoint(tmp_path / 'a.pth')


@pytest.mark.parametrize('version', ['1', None, 2])
def test_a_version_that_is_none_of_ours_is_one_line(tmp_path, version):
    torch.save({'format_version': version, 'model': {}}, tmp_path / 'a.pth')
    with pytest.raises(UserError, match='format_version|newer'):
        load_checkpoint(tmp_path / 'a.pth')


def save_evil(path, canary, how):
    """A file that would make the canary if it were unpickled, in one of three formats."""
    state = {'model': {'w': torch.ones(1)}, 'args': Evil(canary)}
    if how == 'pickle':
        path.write_bytes(pickle.dumps(state['args']))
    else:
        torch.save(state, path, _use_new_zipfile_serialization=how == 'zip')


@pytest.mark.parametrize('how', ['zip', 'legacy', 'pickle'])
def test_code_is_named_and_never_run_and_the_advice_is_ours(tmp_path, how):
    canary, path = tmp_path / 'canary', tmp_path / 'evil.pth'
    save_evil(path, canary, how)
    with pytest.raises(UserError, match=r'code \(\w+\.open\).*torch\.save\(') as error:
        load_checkpoint(path)
    assert 'weights_only' not in str(error.value)
    assert not canary.exists()


def test_torchscript_and_whole_modules_are_refused_without_torchs_advice(tmp_path):
    path = tmp_path / 'a.pth'
    for save in (
        lambda: torch.jit.script(torch.nn.Linear(2, 2)).save(path),
        lambda: torch.save(torch.nn.Linear(2, 2), path),
        lambda: path.write_bytes(b'\x80\x02}q\x00.'),
    ):
        save()
        with pytest.raises(UserError) as error:
            load_checkpoint(path)
        assert not re.search('weights.only', str(error.value), re.IGNORECASE)
        assert '\n' not in str(error.value)


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
    monkeypatch.setattr('utils.checkpoint_check.FORMAT_VERSION', 0)
    with pytest.raises(ValueError, match='newer'):
        load_checkpoint(path)


def test_a_newer_format_is_not_malformed_whatever_it_contains(tmp_path):
    torch.save({'format_version': 2, 'model': {}, 'epoch': 'another type'}, tmp_path / 'a.pth')
    with pytest.raises(ValueError, match='newer'):
        load_checkpoint(tmp_path / 'a.pth')


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


def test_a_tensor_that_claims_more_than_its_record_is_refused(path):
    """Its record is cut to one of 5000 numbers."""
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            archive.writestr(name, content[:4] if name.endswith('/data/0') else content)
    with pytest.raises(UserError, match='larger than its record'):
        load_checkpoint(path)


def nest(depth=40):
    """A list that in 40 steps contains 2**40 items."""
    value = ['x']
    for _ in range(depth):
        value = [value, value]
    return value


@pytest.mark.parametrize('version', [{}, {'format_version': 1}])
@pytest.mark.parametrize(
    'value',
    [nest(), torch.zeros(1).expand(10**9), {'a': {'b': nest()}}],
    ids=['list', 'tensor', 'deep'],
)
def test_what_grows_to_many_times_its_size_is_refused(tmp_path, value, version):
    path = tmp_path / 'a.pth'
    torch.save({'model': {'w': torch.ones(2)}, 'args': {'lr': value}} | version, path)
    assert path.stat().st_size < 10_000
    with pytest.raises(UserError, match='grows to many times'):
        load_checkpoint(path)


def test_a_large_buffer_of_bytes_that_two_state_dicts_share_is_loaded(tmp_path):
    weights = {'bank': torch.zeros(20_000_000, dtype=torch.uint8)}
    save_checkpoint({'model': weights, 'ema': weights}, tmp_path / 'a.pth')
    assert len(load_checkpoint(tmp_path / 'a.pth')['ema']['bank']) == 20_000_000


@pytest.mark.parametrize(
    'state',
    [{'model': {'state_dict': {'w': torch.ones(1)}}}, {'ema': {'decay': 0.9}, 'w': torch.ones(1)}],
)
def test_weights_are_found_below_names_of_ours(state):
    assert get_weights(state) == {'w': torch.ones(1)}


@pytest.mark.parametrize('state', [{'epoch': 3}, {'model': {'a': 1}}, {0: torch.ones(1)}])
def test_a_file_without_named_tensors_says_what_it_has(state):
    with pytest.raises(UserError, match=f'no named tensors.*{next(iter(state))}'):
        get_weights(state)


def test_weights_that_are_nan_are_named_before_training_starts_from_them():
    state = {'a.weight': torch.ones(2), 'b.weight': torch.tensor([1, math.nan])}
    with pytest.raises(UserError, match='nan in b.weight'):
        get_weights(state)


def test_a_list_in_a_list_3000_times_is_refused(tmp_path):
    value = []
    for _ in range(3000):
        value = [value]
    torch.save({'a': []}, tmp_path / 'a.pth')
    with pytest.raises(UserError, match='grows'):
        checkpoint.check_growth({'a': value}, tmp_path / 'a.pth')


@pytest.mark.parametrize('value', [np.zeros(2), {'a': 1}, torch.zeros(2)])
def test_a_stored_option_that_cannot_be_typed_is_one_line(value):
    parser = parse_test_args(Parser())
    with pytest.raises(UserError, match='img_size'):
        parser.parse_stored({'img_size': value}, ['img_size'])
