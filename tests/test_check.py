"""`python -m data.check`: every bad line with its place, the classes, and the exit code."""

import numpy as np
import pytest
from conftest import run_python, write_list
from PIL import Image

from data.check import check_data, main
from data.data_entry import DATASETS, get_dataset_by_type
from data.list_dataset import ListDataset
from data.list_file import ListFile
from options import get_train_args
from utils.errors import UserError


@pytest.fixture(autouse=True)
def raises_again(monkeypatch):
    """The command names all missing files instead of raising for them; later tests want that."""
    monkeypatch.setattr(ListFile, 'raises', True)


@pytest.fixture
def path(tmp_path):
    """A list of four pairs."""
    return write_list(tmp_path / 'set', 4)


def check(capsys, *argv):
    """(exit code, printed lines) of the command."""
    code = main(['--num_classes', '3', '--num_workers', '0', *map(str, argv)])
    return code, capsys.readouterr().out.splitlines()


def test_a_sound_list_gives_its_classes_and_exit_code_0(path, capsys):
    code, lines = check(capsys, path)
    assert code == 0
    assert lines[0].startswith('list.txt: 4 images, 32 x 48; 0 ')
    assert ', 1 ' in lines[0]
    assert 'ignored' in lines[0]
    assert lines[-1] == 'no problems found'


def break_lines(path):
    """Line 2 gets a label of an unknown class, line 3 a damaged image, line 4 loses its image."""
    label = np.array(Image.open(path.parent / '1_label.png'))
    label[0, 0] = 77
    Image.fromarray(label).save(path.parent / '1_label.png')
    content = (path.parent / '2.png').read_bytes()
    (path.parent / '2.png').write_bytes(content[: len(content) // 2])
    (path.parent / '3.png').unlink()


def test_every_bad_line_is_named_with_what_is_wrong_and_exit_code_1(path, capsys):
    break_lines(path)
    code, lines = check(capsys, path)
    assert code == 1
    bad = [line for line in lines if line.startswith(f'{path}:')]
    assert [line.removeprefix(f'{path}:')[0] for line in bad] == ['2', '3', '4']
    for line, words in zip(
        bad, (['77', 'num_classes'], ['damaged'], ['does not exist']), strict=True
    ):
        assert all(word in line for word in words), line
    assert lines[-1] == '3 problems'
    assert any(line.startswith('list.txt: 4 images') for line in lines)


def test_lines_with_the_same_fault_are_named_once(tmp_path, capsys):
    path = write_list(tmp_path / 'set', 7)
    for i in (0, 1, 2, 3, 6):
        Image.new('L', (48, 32), 50 + i).save(path.parent / f'{i}_label.png')
    (path.parent / '5.png').unlink()
    code, lines = check(capsys, path)
    assert code == 1
    first, others, missing = lines[:3]
    assert first.startswith(f'{path}:1: label ') and 'the value 50' in first
    assert others.strip() == 'and 4 lines like it: 2-4, 7'
    assert missing.startswith(f'{path}:6: ') and 'does not exist' in missing
    assert lines[-1] == '6 problems'


def test_several_lists_are_checked_and_one_bad_line_is_enough(path, tmp_path, capsys):
    other = write_list(tmp_path / 'other', 2, name='val.txt')
    (other.parent / '0_label.png').unlink()
    code, lines = check(capsys, path, other)
    assert code == 1
    assert [line.split(':')[0] for line in lines if 'does not exist' in line] == [str(other)]
    assert lines[-1] == '1 problem'


class ClassDataset(ListDataset):
    """The class of an image is a column of the list."""

    num_paths = 1

    def read_label(self, kind):
        return int(kind)


@pytest.fixture
def write_table(path, monkeypatch):
    """A function of kinds that writes a CSV list of as many images, for --data_type classes."""
    monkeypatch.setitem(DATASETS, 'classes', 'test_check:ClassDataset')

    def write(*kinds):
        table = path.with_name('list.csv')
        rows = [f'{i}.png,{kind}\n' for i, kind in enumerate(kinds)]
        table.write_text(''.join(['image,kind\n', *rows]))
        return table

    return write


def test_a_csv_list_of_classes_is_counted(write_table, capsys):
    table = write_table(0, 1, 1, 7)
    code, lines = check(capsys, table, '--data_type', 'classes')
    assert code == 1
    assert lines[0].startswith(f'{table}:5: ')
    assert '7' in lines[0]
    assert '0 33.3%, 1 66.7%' in lines[1]
    write_table(0, 1)
    assert check(capsys, table, '--data_type', 'classes')[0] == 0


@pytest.mark.parametrize('data_type', ['list', 'mem_list'])
def test_a_set_in_memory_is_checked_row_by_row_too(path, capsys, data_type):
    break_lines(path)
    code, lines = check(capsys, path, '--data_type', data_type)
    assert code == 1
    assert lines[-1] == '3 problems'


def test_a_class_may_be_named_ignored(path, capsys):
    names = path.with_name('names.txt')
    names.write_text('ground\nignored\nsquare\n')
    code, lines = check(capsys, path, '--class_names', names)
    assert code == 0
    assert lines[0].count('; ground ') == 1
    assert lines[0].count('ignored ') == 2  # the class, and what --ignore_index leaves out


def test_a_list_that_is_spelled_another_way_shares_its_images(path, capsys):
    other = path.parent / 'other.txt'
    other.write_text(''.join(f'../set/{i}.png {i}_label.png\n' for i in range(3)))
    args = get_train_args(
        ['--train_list', str(path), '--val_list', str(other), '--num_classes', '3']
    )
    check_data(args, get_dataset_by_type(args, is_train=True), get_dataset_by_type(args))
    assert '3 images of --val_list' in capsys.readouterr().err


def test_a_class_of_an_image_has_no_direction_that_exif_could_turn(path, write_table, capsys):
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.open(path.parent / '0.png').save(path.parent / '0.png', exif=exif)
    lines = check(capsys, write_table(0, 1, 2), '--data_type', 'classes')[1]
    assert not [line for line in lines if 'EXIF' in line]


def test_what_is_odd_is_a_warning_and_no_error(path, capsys):
    for label in path.parent.glob('*_label.png'):
        values = np.array(Image.open(label))
        values[values == 2] = 0
        Image.fromarray(values).save(label)
    code, lines = check(capsys, path)
    assert code == 0
    assert any(line.startswith('warning: ') and 'never occurs: class 2' in line for line in lines)


@pytest.mark.slow
def test_a_list_that_is_no_list_is_one_line(tmp_path):
    (tmp_path / 'empty.txt').touch()
    for argv in ([tmp_path / 'empty.txt', '--num_classes', 3], [tmp_path / 'empty.txt'], []):
        process = run_python('-m', 'data.check', *argv)
        assert process.returncode == 2
        assert process.stderr.count('\n') == 1, process.stderr


class ArrayDataset(ListDataset):
    """Images and labels are .npy files."""

    def read_image(self, path):
        return np.load(path)

    def read_label(self, path):
        return np.load(path)


def test_files_that_are_no_images_are_read_by_the_datasets_own_methods(path, capsys, monkeypatch):
    monkeypatch.setitem(DATASETS, 'arrays', 'test_check:ArrayDataset')
    for image in path.parent.glob('*.png'):
        np.save(image.with_suffix('.npy'), np.array(Image.open(image)))
    path.write_text(path.read_text().replace('.png', '.npy'))
    code, lines = check(capsys, path, '--data_type', 'arrays')
    assert code == 0
    assert '4 images, 32 x 48' in lines[0]
    options = [
        '--data_type',
        'arrays',
        '--train_list',
        path,
        '--val_list',
        path,
        '--num_classes',
        3,
    ]
    args = get_train_args([*map(str, options), '--num_workers', '0'])
    datasets = [get_dataset_by_type(args, is_train) for is_train in (True, False)]
    check_data(args, *datasets)
    assert '4 images, 32 x 48' in capsys.readouterr().out


@pytest.mark.parametrize('values', ['0 x', '0 0', '0:0 7:3', '0:0 5', '-1 2'])
def test_label_values_that_cannot_be_are_refused_with_the_options(path, values):
    options = f'--train_list {path} --val_list {path} --num_classes 3'.split()
    with pytest.raises(SystemExit, match='2'):
        get_train_args([*options, '--label_values', *values.split()])


def test_images_of_several_modes_are_counted(path, capsys):
    Image.open(path.parent / '1.png').convert('L').save(path.parent / '1.png')
    code, lines = check(capsys, path)
    assert code == 0
    assert '4 images, 32 x 48, RGB 3, L 1; ' in lines[0]


def test_classes_that_never_occur_because_of_another_value_are_a_problem(path, capsys):
    for i in range(4):
        label = np.array(Image.open(path.parent / f'{i}_label.png'))
        Image.fromarray(np.where(label == 0, 0, 255).astype(np.uint8)).save(
            path.parent / f'{i}_label.png'
        )
    code, lines = check(capsys, path, '--num_classes', 2)
    assert code == 1
    assert any('--label_values 0 255' in line for line in lines)


def test_a_wrong_option_is_one_error_and_not_one_per_line(path, capsys):
    with pytest.raises(UserError, match='label_values'):
        check(capsys, path, '--label_values', 0, 'x')


def test_labels_turned_by_exif_beside_images_that_are_not_are_warned_of(path, capsys):
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.open(path.parent / '0_label.png').save(path.parent / '0_label.png', exif=exif)
    assert [line for line in check(capsys, path)[1] if 'EXIF turns 1 image' in line]


def test_a_name_that_read_label_does_not_find_is_a_bad_line(write_table, capsys, monkeypatch):
    monkeypatch.setattr(ClassDataset, 'read_label', lambda self, kind: {'cat': 0}[kind])
    table = write_table('cat', 'cat', 'dog')
    code, lines = check(capsys, table, '--data_type', 'classes')
    assert code == 1
    assert lines[0].startswith(f'{table}:4: ')
    assert "KeyError: 'dog'" in lines[0]


def test_an_own_read_label_is_asked_again_at_every_start(write_table, monkeypatch):
    table = str(write_table(0, 1))
    options = ['--data_type', 'classes', '--num_classes', '2', '--val_list', table]
    args = get_train_args(['--train_list', table, *options])
    sets = get_dataset_by_type(args, is_train=True), get_dataset_by_type(args)
    check_data(args, *sets)
    monkeypatch.setattr(ClassDataset, 'read_label', lambda self, kind: 7)
    with pytest.raises(UserError, match='class 7'):
        check_data(args, *sets)


def test_values_that_label_values_leave_out_are_said_to_be_others(path, capsys):
    code, lines = check(capsys, path, '--num_classes', '2', '--label_values', '0', '200')
    assert code == 1
    assert [line for line in lines if 'other values than --label_values 0 200' in line]
