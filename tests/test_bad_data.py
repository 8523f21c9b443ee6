"""Broken lists, images, labels, datasets and models: one line, exit code 2, no run left behind."""

import os

import numpy as np
import pytest
import torch
from conftest import draw_toy, run_python, write_list
from PIL import Image

from data.data_entry import DATASETS
from data.list_dataset import ListDataset
from model.model_entry import MODELS
from train import main
from utils.errors import one_line_errors


@pytest.fixture
def broken(tmp_path):
    """A list of 4 toy pairs for a test to damage."""
    return write_list(tmp_path / 'broken', 4)


def check_refused(make_args, capsys, tmp_path, words, *options):
    """Training ends with code 2 and one line with every word; there is no run directory."""
    with pytest.raises(SystemExit) as stop, one_line_errors():
        main(make_args('--epochs', 1, *options))
    message = capsys.readouterr().err
    assert stop.value.code == 2, message
    assert message.count('\n') == 1, message
    assert all(word in message for word in words), message
    assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize(
    ('content', 'words'),
    [
        (b'', ['list.txt', 'empty']),
        (b'# nothing\n\n', ['list.txt', 'no sample']),
        (b'0.png 0_label.png\n\xff\xfe\x00', ['list.txt:2', 'byte 18', 'UTF-8']),
        (b'0.png 0_label.png\n1.png\x00 b.png', ['list.txt:2', 'NUL', 'UTF-8']),
        (b'0.png 0_label.png\n1.png\n', ['list.txt:2', '"image label"', "'1.png'"]),
        (b'my 0.png 0_label.png\n', ['list.txt:1', 'tabs']),
        (b'0.png 0_label.png\nx.png y.png\n', ['2 files', 'line 2', 'x.png', 'y.png']),
    ],
)
def test_a_broken_list(make_args, capsys, tmp_path, broken, content, words):
    broken.write_bytes(content)
    check_refused(make_args, capsys, tmp_path, words, '--train_list', broken)


def test_a_list_that_is_missing_or_a_directory(make_args, capsys, tmp_path):
    words = [str(tmp_path / 'no.txt'), 'exist']
    check_refused(make_args, capsys, tmp_path, words, '--train_list', tmp_path / 'no.txt')
    check_refused(make_args, capsys, tmp_path, ['directory'], '--val_list', tmp_path)


def test_of_14_missing_files_the_first_5_are_named(make_args, capsys, tmp_path, broken):
    broken.write_text(''.join(f'{i}.png {i}_gone.png\n' for i in range(9)))
    with pytest.raises(SystemExit), one_line_errors():
        main(make_args('--train_list', broken))
    message = capsys.readouterr().err
    assert '14 files' in message
    assert message.count(str(tmp_path / 'broken')) == 6  # with the list itself
    assert '5.png' not in message


def test_a_batch_larger_than_the_list(make_args, capsys, tmp_path):
    check_refused(make_args, capsys, tmp_path, ['--batch_size 16', '8'], '--batch_size', 16)


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 4 // 5])


def flip_bit(path):
    """Makes the checksum of a PNG's pixels wrong."""
    content = bytearray(path.read_bytes())
    content[-30] ^= 1
    path.write_bytes(content)


def save_jpeg(path, cut=False):
    Image.fromarray(draw_toy(0)[0]).save(path, 'JPEG')
    if cut:
        truncate(path)


DAMAGED_IMAGES = {
    'empty': (lambda path: path.write_bytes(b''), ['0.png', 'empty']),
    'truncated png': (truncate, ['0.png', 'damaged']),
    'bit flipped': (flip_bit, ['0.png', 'damaged']),
    'truncated jpeg': (lambda path: save_jpeg(path, cut=True), ['0.png', 'damaged']),
    'html': (lambda path: path.write_text('<html>not found</html>'), ['0.png', 'not an image']),
    '16 bit': (
        lambda path: Image.fromarray(np.full((32, 48), 1000, np.uint16)).save(path),
        ['0.png', '8 bits'],
    ),
    'broken link': (
        lambda path: (path.unlink(), path.symlink_to('nowhere.png')),
        ['0.png', 'exist'],
    ),
}


@pytest.mark.parametrize('data_type', ['list', 'mem_list'])
@pytest.mark.parametrize('fault', DAMAGED_IMAGES)
def test_a_broken_image(make_args, capsys, tmp_path, broken, fault, data_type):
    damage, words = DAMAGED_IMAGES[fault]
    damage(broken.parent / '0.png')
    options = ['--train_list', broken, '--data_type', data_type]
    check_refused(make_args, capsys, tmp_path, words, *options)


@pytest.mark.skipif(os.geteuid() == 0, reason='root may read everything')
def test_an_image_without_read_permission(make_args, capsys, tmp_path, broken):
    (broken.parent / '0.png').chmod(0)
    words = ['0.png', 'Permission']
    check_refused(make_args, capsys, tmp_path, words, '--train_list', broken)


def save_label(path, label, mode=None):
    Image.fromarray(label).convert(mode).save(path)


DAMAGED_LABELS = {
    'colors': (
        lambda path: save_label(path, draw_toy(0)[0]),
        ['0_label.png', 'colors', '--class_names'],
    ),
    'jpeg': (save_jpeg, ['0_label.png', 'JPEG', 'PNG']),
    'a class too many': (
        lambda path: save_label(path, np.full((32, 48), 7, np.uint8)),
        ['0_label.png', '7', '--num_classes 3', '0 to 2'],
    ),
    'another size': (
        lambda path: save_label(path, np.zeros((30, 48), np.uint8)),
        ['0_label.png', '30 x 48', '32 x 48'],
    ),
    '16 bit': (
        lambda path: Image.fromarray(np.full((32, 48), 1000, np.uint16)).save(path),
        ['0_label.png', '1000', '0 to 2'],
    ),
}


@pytest.mark.parametrize('fault', DAMAGED_LABELS)
def test_a_broken_label(make_args, capsys, tmp_path, broken, fault):
    damage, words = DAMAGED_LABELS[fault]
    damage(broken.parent / '0_label.png')
    check_refused(make_args, capsys, tmp_path, words, '--train_list', broken)


def test_an_ignored_value_that_8_bits_cannot_hold(make_args, capsys, tmp_path):
    check_refused(make_args, capsys, tmp_path, ['--ignore_index 256'], '--ignore_index', 256)
    check_refused(make_args, capsys, tmp_path, ['255', '--ignore_index 255'], '--ignore_index', -1)


def test_labels_of_ignored_pixels_alone_train_without_a_nan(make_args, tmp_path, broken):
    for i in range(4):
        save_label(broken.parent / f'{i}_label.png', np.full((32, 48), 255, np.uint8))
    main(make_args('--epochs', 1, '--train_list', broken, '--skip_check'))
    assert (tmp_path / 'run' / 'last.pth').exists()


def test_mixed_sizes_in_a_batch_name_two_files(make_args, capsys, tmp_path, broken):
    img, label = (Image.fromarray(a) for a in draw_toy(0))
    img.resize((40, 30)).save(broken.parent / '0.png')
    label.resize((40, 30), Image.Resampling.NEAREST).save(broken.parent / '0_label.png')
    args = make_args('--epochs', 1, '--train_list', broken)
    args.img_size = None
    with pytest.raises(ValueError, match=r'\d\.png.*\d\.png.*--img_size'):
        main(args)
    assert not (tmp_path / 'run').exists()


@pytest.mark.slow
def test_a_broken_image_met_in_a_worker_ends_in_one_line(broken, toy_val_list, tmp_path):
    truncate(broken.parent / '0.png')
    options = f'--train_list {broken} --val_list {toy_val_list} --num_classes 3 --batch_size 4'
    command = ['train.py', *options.split(), '--num_workers', 1, '--model_dir', tmp_path / 'run']
    process = run_python(*command)
    assert process.returncode == 2
    assert process.stderr.count('\n') == 1, process.stderr
    assert '0.png' in process.stderr
    assert 'damaged' in process.stderr
    assert not (tmp_path / 'run').exists()


class NoDict(ListDataset):
    def __getitem__(self, i):
        return None


class Empty(ListDataset):
    def __len__(self):
        return 0


@pytest.mark.parametrize(
    ('name', 'words'),
    [
        ('NoDict', ['NoDict[', 'NoneType', 'dict']),
        ('Empty', ['Empty', 'no sample']),
    ],
)
def test_a_dataset_that_breaks_the_contract(make_args, capsys, tmp_path, monkeypatch, name, words):
    monkeypatch.setitem(DATASETS, 'mine', f'test_bad_data:{name}')
    check_refused(make_args, capsys, tmp_path, words, '--data_type', 'mine')


def make_model(output):
    """A model class whose forward returns output(img)."""

    class Model(torch.nn.Linear):
        def __init__(self, args):
            super().__init__(1, 1)

        def forward(self, img):
            return output(img)

    return Model


Dict = make_model(lambda img: {'out': img})
Tuple = make_model(lambda img: (img, img))
TwoChannels = make_model(lambda img: img[:, :2])


@pytest.mark.parametrize(
    ('name', 'words'),
    [
        ('Dict', ['dict with out', 'tensor']),
        ('Tuple', ['tuple', 'tensor']),
        ('TwoChannels', ['2, 32, 48)', '(N,3,...)', '--num_classes']),
    ],
)
def test_a_model_that_breaks_the_contract(make_args, capsys, tmp_path, monkeypatch, name, words):
    monkeypatch.setitem(MODELS, 'mine', f'test_bad_data:{name}')
    check_refused(make_args, capsys, tmp_path, ['mine', *words], '--model_type', 'mine')


def test_pretrained_weights_without_network_are_one_line(make_args, capsys, tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError('no network')

    monkeypatch.setattr('torchvision.models._api.load_state_dict_from_url', fail)
    options = ['--model_type', 'mobilenetv3_fcn', '--pretrained']
    check_refused(make_args, capsys, tmp_path, ['--pretrained', 'no network'], *options)
