"""Stored label values to class indices: what is read, how it is given, and what refusals say."""

import time
from argparse import Namespace

import numpy as np
import pytest
from PIL import Image

from data.image_io import read_values
from data.labels import (
    check_classes,
    explain_values,
    parse_label_values,
    read_indices,
    to_classes,
)
from utils.classes import count_classes, get_class_names, get_colors, get_palette
from utils.errors import UserError

CAMVID = 'sky 128 128 128\nroad 128 64 128\ncar 64 0 128\nignored 0 0 0\nignored 1 2 3\n'


def make_args(num_classes=2, ignore_index=255, label_values=None, class_names='', loss='ce'):
    return Namespace(
        loss=loss,
        num_classes=num_classes,
        ignore_index=ignore_index,
        label_values=label_values.split() if isinstance(label_values, str) else label_values,
        class_names=str(class_names),
    )


def make_label(*values, dtype=np.uint8):
    """(4, 10 * number of values): ten columns of each value."""
    return np.tile(np.repeat(np.array(values, dtype), 10), (4, 1))


def refuse(values, args, *words):
    """to_classes ends in a UserError of one line that names the file and contains every word."""
    with pytest.raises(UserError) as stop:
        to_classes(values, args, 'a_mask.png')
    message = str(stop.value)
    assert '\n' not in message
    assert all(word in message for word in ('a_mask.png', *words)), message
    return message


def draw_mask(size=(96, 128)):
    """A disc of 255 on 0."""
    y, x = np.mgrid[: size[0], : size[1]]
    return (((y - 50) ** 2 + (x - 60) ** 2 < 30**2) * 255).astype(np.uint8)


def write_classes(tmp_path, text=CAMVID):
    (tmp_path / 'classes.txt').write_text(text)
    return tmp_path / 'classes.txt'


def paint(*colors):
    """(4, 10 * number of colors, 3): ten columns of each color."""
    return np.tile(np.repeat(np.array(colors, np.uint8), 10, axis=0), (4, 1, 1))


# Values as they are


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.int32, np.float32])
def test_values_0_to_2_and_255_are_class_indices_in_4_dtypes(dtype):
    values = make_label(0, 1, 2, 255, dtype=dtype)
    classes = to_classes(values, make_args(3), 'a')
    assert classes.dtype == np.uint8
    assert np.array_equal(classes, values)


def test_args_without_label_values_are_those_of_an_older_run():
    args = make_args()
    del args.label_values
    assert np.array_equal(to_classes(make_label(0, 1), args, 'a'), make_label(0, 1))


def test_a_value_too_many_is_named_with_its_share():
    words = ['contains the value 7 (33.3%)', '--num_classes 3', '--ignore_index 255', '0 to 2']
    refuse(make_label(0, 1, 7), make_args(3), *words)
    refuse(make_label(0, 1, 999, dtype=np.uint16), make_args(3), 'the value 999')
    refuse(make_label(0, 1, -1, dtype=np.int32), make_args(3), 'the value -1')
    refuse(make_label(0, 1, 70000, dtype=np.int32), make_args(3), 'the value 70000')


def test_fractions_and_nan_are_no_class_indices():
    refuse(make_label(0, 0.5, dtype=np.float32), make_args(), 'fractions')
    refuse(make_label(0, np.nan, dtype=np.float32), make_args(), 'nan')


def test_255_as_a_class_is_refused_beyond_256_classes_and_ignore_index_beyond_8_bits():
    values = make_label(0, 1)
    for args in (make_args(257), make_args(2, 256), make_args(2, -1, label_values='0 1')):
        with pytest.raises(UserError, match=f'--ignore_index {args.ignore_index}.*8 bits'):
            to_classes(values, args, 'a')
    assert to_classes(make_label(0, 254), make_args(255), 'a').max() == 254
    assert to_classes(make_label(0, 255), make_args(256, -1), 'a').max() == 255


# What refusals say


@pytest.mark.parametrize('values', [(0, 255), (0, 1, 255), (1, 255), (255,)])
def test_0_and_255_with_2_classes_give_the_option_that_reads_them(values):
    args = make_args(2, ignore_index=254)
    words = '--label_values 0 255 if 255 is class 1', '--ignore_index 255 if it is ignored'
    refuse(make_label(*values), args, *words)


def test_0_and_255_with_one_logit_are_2_classes_too():
    assert count_classes(make_args(1)) == 2
    refuse(make_label(0, 255), make_args(1, ignore_index=254), '--label_values 0 255')
    classes = to_classes(make_label(0, 255), make_args(1, label_values='0 255'), 'a')
    assert np.array_equal(classes, make_label(0, 1))


def test_0_to_3_and_255_with_4_classes_ask_only_for_ignore_index():
    message = refuse(make_label(0, 1, 2, 3, 255), make_args(4, 0), '--ignore_index 255')
    assert '--label_values' not in message


def test_a_whole_list_of_0_and_255_is_explained_although_255_is_ignored():
    line = explain_values(np.array([0, 255]), np.array([90, 10]), make_args())
    assert '--label_values 0 255' in line


@pytest.mark.parametrize('quality', [50, 75, 95])
def test_a_jpeg_mask_saved_as_png_is_smoothed_or_jpeg(tmp_path, quality):
    Image.fromarray(draw_mask()).save(tmp_path / 'a.jpg', quality=quality)
    values = np.array(Image.open(tmp_path / 'a.jpg'))
    num_values = len(np.unique(values))
    words = f'{num_values} values, nearly all near 0 and 255', 'JPEG', 'threshold', 'nearest'
    refuse(values, make_args(), *words)


@pytest.mark.parametrize('size', [(64, 48), (32, 24), (100, 70)])
def test_a_mask_shrunk_bilinearly_is_smoothed(size):
    values = np.array(Image.fromarray(draw_mask()).resize(size, Image.Resampling.BILINEAR))
    refuse(values, make_args(), 'values, nearly all near 0 and 255', 'smoothed')
    refuse(values, make_args(1), 'smoothed')


def test_3_gray_levels_saved_as_jpeg_are_near_3_levels(tmp_path):
    levels = np.repeat(np.array([0, 120, 240], np.uint8), 32)[None].repeat(96, axis=0)
    noise = np.random.default_rng(0).integers(-4, 5, levels.shape)
    values = (levels.astype(int) + noise).clip(0, 255).astype(np.uint8)
    refuse(values, make_args(3), 'nearly all near', 'smoothed')


def test_many_true_classes_are_not_called_smoothed():
    rng = np.random.default_rng(0)
    cityscapes = rng.integers(0, 34, (50, 50)).astype(np.uint8)
    many = rng.integers(0, 182, (50, 50)).astype(np.uint8)
    few = make_label(*[0] * 15, 5, 60, 100, 181)
    for values, num_classes in ((cityscapes, 19), (many, 20), (few, 2), (few, 3)):
        message = refuse(values, make_args(num_classes), 'contains the value')
        assert 'smoothed' not in message


def test_values_0_to_4_with_4_classes_seem_to_start_at_1_and_give_both_ways():
    words = [
        'values 0 to 4 with --num_classes 4: they seem to start at 1, 0 is something else',
        '--label_values 1 2 3 4 (0 is then ignored) or --num_classes 5, or --ignore_index 4',
    ]
    refuse(make_label(0, 1, 2, 3, 4), make_args(4), *words)
    refuse(make_label(0, 4), make_args(4), *words)


def test_values_1_to_4_with_4_classes_seem_to_start_at_1():
    message = refuse(make_label(1, 2, 4, 255), make_args(4), 'values 1 to 4', 'start at 1')
    assert 'something else' not in message


def test_150_classes_that_start_at_1_are_given_in_few_characters():
    values = np.arange(151, dtype=np.uint8)[None]
    message = refuse(values, make_args(150), '--label_values $(seq 150)', '--num_classes 151')
    assert len(message) < 250


@pytest.mark.parametrize('values', [(0, 128), (3, 7), (0, 100)])
def test_2_other_values_with_2_classes_can_be_given(values):
    shown = ' '.join(map(str, values))
    refuse(make_label(*values), make_args(), f'--label_values {shown} if these are the classes')
    classes = to_classes(make_label(*values), make_args(label_values=shown), 'a')
    assert np.array_equal(classes, make_label(0, 1))


# --label_values


def test_the_nth_of_label_values_is_class_n_and_others_are_ignored():
    args = make_args(3, label_values='0 128 255')
    classes = to_classes(make_label(0, 128, 255, 7), args, 'a')
    assert np.array_equal(classes, make_label(0, 1, 2, 255))


def test_pairs_map_several_values_to_one_class_and_may_ignore_one():
    args = make_args(2, ignore_index=9, label_values='7:0 8:1 11:1 0:9')
    classes = to_classes(make_label(7, 8, 11, 0, 5), args, 'a')
    assert np.array_equal(classes, make_label(0, 1, 1, 9, 9))


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.int32, np.float32])
def test_label_values_read_4_dtypes_and_ignore_what_is_out_of_range(dtype):
    assert to_classes(make_label(5, 6, dtype=dtype), make_args(label_values='5 6'), 'a').max() == 1
    extreme = {np.uint8: 255, np.uint16: 65535, np.int32: -70000, np.float32: 1e9}[dtype]
    classes = to_classes(make_label(5, extreme, dtype=dtype), make_args(label_values='5 6'), 'a')
    assert np.array_equal(classes, make_label(0, 255))


def test_label_values_of_16_bits_reach_65535():
    values = make_label(0, 1000, 65535, dtype=np.uint16)
    args = make_args(3, label_values='0 1000 65535')
    assert np.array_equal(to_classes(values, args, 'a'), make_label(0, 1, 2))


def test_label_values_parse_to_a_dict():
    assert parse_label_values(['0', '255']) == {0: 0, 255: 1}
    assert parse_label_values(['7:0', '8:1', '11:0']) == {7: 0, 8: 1, 11: 0}


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        ('0 x', 'expected numbers'),
        ('0 1.5', 'expected numbers'),
        ('0 -1', 'expected numbers'),
        ('0 7:1', 'pairs'),
        ('7:1 0', 'pairs'),
        ('7:x', 'pairs'),
        ('7: 8:1', 'pairs'),
        ('7:1:2', 'pairs'),
        ('0 0', 'each stored value once'),
        ('7:0 7:1', 'each stored value once'),
        ('7:256', 'classes up to 255'),
        ('0 65536', 'up to 65535'),
    ],
)
def test_label_values_that_cannot_be_meant_are_one_line(text, words):
    with pytest.raises(UserError) as stop:
        parse_label_values(text.split())
    message = str(stop.value)
    assert words in message
    assert message.startswith(f'--label_values {text}: expected')
    assert '\n' not in message


def test_label_values_with_a_class_beyond_num_classes_are_refused():
    for text in ('0 128 255', '0:0 9:2'):
        with pytest.raises(UserError, match=r'gives class 2, expected 0 to 1.*--num_classes'):
            to_classes(make_label(0), make_args(label_values=text), 'a')


# Colors


def test_colors_become_classes_and_ignored_lines_ignore_index(tmp_path):
    args = make_args(3, class_names=write_classes(tmp_path))
    colors = paint((64, 0, 128), (128, 128, 128), (128, 64, 128), (0, 0, 0), (1, 2, 3))
    assert np.array_equal(to_classes(colors, args, 'a'), make_label(2, 0, 1, 255, 255))


def test_colors_that_are_no_class_are_named_with_their_share_and_the_remedy(tmp_path):
    args = make_args(3, class_names=write_classes(tmp_path))
    colors = paint(*[(0, 0, 0)] * 5, (9, 8, 7), *[(6, 5, 4)] * 2, (30, 3, 3), (20, 2, 2))
    words = ['4 colors', '6 5 4 (20.0%)', '9 8 7 (10.0%)', 'classes.txt', 'ignored R G B']
    message = refuse(colors, args, *words)
    assert message.count('%') == 3


def test_colors_without_a_class_file_are_shown_with_how_to_give_them():
    colors = paint(*[(0, 0, 0)] * 3, (250, 50, 83))
    words = ['2 colors', '0 0 0 (75.0%)', '250 50 83 (25.0%)', '--class_names FILE', 'name R G B']
    refuse(colors, make_args(), *words)


def test_a_class_file_without_colors_is_none_for_colors(tmp_path):
    args = make_args(2, class_names=write_classes(tmp_path, 'sky\nroad\n'))
    refuse(paint((0, 0, 0), (250, 50, 83)), args, '--class_names FILE', 'name R G B')


def test_colors_in_the_order_b_g_r_say_so(tmp_path):
    args = make_args(2, class_names=write_classes(tmp_path, 'a 0 0 0\nb 250 50 83\n'))
    refuse(paint((0, 0, 0), (83, 50, 250)), args, 'B G R', 'swap')


def test_colors_saved_as_jpeg_are_smoothed(tmp_path):
    args = make_args(2, class_names=write_classes(tmp_path, 'a 0 0 0\nb 250 50 83\n'))
    noise = np.random.default_rng(0).integers(0, 8, (40, 40, 3)).astype(np.uint8)
    refuse(noise, args, 'smoothed or saved as JPEG')


def test_a_color_mask_that_is_all_black_is_read_through_the_class_file(tmp_path):
    args = make_args(3, class_names=write_classes(tmp_path))
    path = tmp_path / 'a.png'
    Image.new('RGB', (4, 3)).save(path)
    assert (read_indices(path, args) == 255).all()  # not the sky, class 0
    Image.new('RGBA', (4, 3), (128, 128, 128, 0)).save(path)
    assert (read_indices(path, args) == 0).all()
    Image.new('L', (4, 3), 1).save(path)  # no colors: indices, whatever the class file says
    assert (read_indices(path, args) == 1).all()


def test_a_palette_label_beside_a_class_file_holds_indices(tmp_path):
    args = make_args(3, class_names=write_classes(tmp_path))
    img = Image.fromarray(make_label(0, 1, 2))
    img.putpalette(bytes([0, 0, 0, 64, 0, 128, 128, 128, 128]) + bytes(759))
    img.save(tmp_path / 'a.png')
    assert np.array_equal(read_indices(tmp_path / 'a.png', args), make_label(0, 1, 2))


@pytest.mark.parametrize('text', ['sky\nroad\n', 'sky 9 9 9\nroad 128 64 128\n'])
def test_class_indices_in_3_equal_channels_are_numbers(tmp_path, text):
    path = tmp_path / 'a.png'
    Image.fromarray(make_label(0, 1)).convert('RGB').save(path)
    for class_names in ('', write_classes(tmp_path, text)):
        args = make_args(class_names=class_names)
        assert np.array_equal(read_indices(path, args), make_label(0, 1))


def test_label_values_read_a_gray_rgb_mask_beside_a_class_file(tmp_path):
    names = write_classes(tmp_path, 'object 0 0 0\nrest 255 255 255\n')
    Image.fromarray(make_label(0, 255)).convert('RGB').save(tmp_path / 'a.png')
    args = make_args(label_values='255 0', class_names=names)
    assert np.array_equal(read_indices(tmp_path / 'a.png', args), make_label(1, 0))


def test_1000_x_1500_colors_take_less_than_100_ms(tmp_path):
    args = make_args(3, class_names=write_classes(tmp_path))
    known = np.array(list(get_colors(args)), np.uint8)
    colors = known[np.random.default_rng(0).integers(0, len(known), (1000, 1500))]
    to_classes(colors, args, 'a')  # builds the table
    times = [measure(lambda: to_classes(colors, args, 'a')) for _ in range(5)]
    assert min(times) < 0.1


def test_a_label_of_class_indices_costs_no_more_than_counting_its_values():
    values = np.random.default_rng(0).integers(0, 11, (360, 480)).astype(np.uint8)
    times = [measure(lambda: to_classes(values, make_args(11), 'a')) for _ in range(20)]
    counted = [measure(lambda: np.bincount(values.ravel())) for _ in range(20)]
    assert min(times) < 1.5 * min(counted)


def measure(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def test_files_of_4_forms_hold_the_same_classes(tmp_path):
    label = make_label(0, 1)
    names = write_classes(tmp_path, 'a 0 0 0\nb 250 50 83\n')
    Image.fromarray(label).save(tmp_path / 'plain.png')
    Image.fromarray(label * 255).save(tmp_path / 'binary.png')
    Image.fromarray(label.astype(bool)).save(tmp_path / 'bits.png')
    Image.fromarray(np.array([(0, 0, 0), (250, 50, 83)], np.uint8)[label]).save(tmp_path / 'c.png')
    for name, args in {
        'plain.png': make_args(),
        'binary.png': make_args(label_values='0 255'),
        'bits.png': make_args(),
        'c.png': make_args(class_names=names),
    }.items():
        assert np.array_equal(read_indices(tmp_path / name, args), label)
        assert np.array_equal(to_classes(read_values(tmp_path / name), args, name), label)


# The class file


def test_ignored_lines_are_colors_and_no_classes(tmp_path):
    args = make_args(3, ignore_index=7, class_names=write_classes(tmp_path))
    assert get_class_names(args) == ['sky', 'road', 'car']
    assert get_colors(args) == {
        (128, 128, 128): 0,
        (128, 64, 128): 1,
        (64, 0, 128): 2,
        (0, 0, 0): 7,
        (1, 2, 3): 7,
    }
    assert get_palette(args)[:3].tolist() == [[128, 128, 128], [128, 64, 128], [64, 0, 128]]


def test_only_lines_named_exactly_ignored_with_a_color_are_no_classes(tmp_path):
    text = 'ignored\nIgnored 1 1 1\nignored parts 2 2 2\n'
    args = make_args(3, class_names=write_classes(tmp_path, text))
    assert get_class_names(args) == ['ignored', 'Ignored', 'ignored parts']
    assert get_colors(args) == {(1, 1, 1): 1, (2, 2, 2): 2}


@pytest.mark.parametrize('text', ['a 1 2 3\nb 1 2 3\n', 'a 1 2 3\nb\nignored 1 2 3\n'])
def test_a_color_of_two_classes_is_refused_where_colors_are_read(tmp_path, text):
    args = make_args(2, class_names=write_classes(tmp_path, text))
    with pytest.raises(UserError, match='two classes the color 1 2 3'):
        get_colors(args)
    assert get_class_names(args) == ['a', 'b']  # as a legend it may stand
    assert np.array_equal(to_classes(make_label(0, 1), args, 'a'), make_label(0, 1))


def test_the_same_color_ignored_twice_is_fine(tmp_path):
    text = 'a 1 2 3\nb\nignored 0 0 0\nignored 0 0 0\n'
    assert len(get_colors(make_args(class_names=write_classes(tmp_path, text)))) == 2


def test_without_a_class_file_there_are_no_colors():
    assert get_colors(make_args()) == {}


def test_one_logit_has_2_names_and_2_colors(tmp_path):
    assert get_class_names(make_args(1)) == ['0', '1']
    args = make_args(1, class_names=write_classes(tmp_path, 'rest 1 1 1\nobject 2 2 2\n'))
    assert get_class_names(args) == ['rest', 'object']
    assert get_palette(args)[:2].tolist() == [[1, 1, 1], [2, 2, 2]]
    args.class_names = str(write_one(tmp_path))
    with pytest.raises(UserError, match=r'names 1 classes.*--num_classes.*2'):
        get_class_names(args)


def write_one(tmp_path):
    (tmp_path / 'one.txt').write_text('object 2 2 2\n')
    return tmp_path / 'one.txt'


# Classification


def test_a_map_of_a_dataset_of_ones_own_is_checked_like_a_file():
    with pytest.raises(UserError, match=r'a\.png contains the value 7 .*0 to 2'):
        check_classes(np.array([[0, 7], [1, 255]]), make_args(3), 'a.png')
    check_classes(np.array([[0, 2], [1, 255]], np.int32), make_args(3), 'a.png')


def test_integers_are_no_numbers_for_a_regression():
    for label in (7, np.full((2, 3), 7, np.uint16)):
        with pytest.raises(UserError, match=r'a\.png.*--loss l1.*floats'):
            check_classes(label, make_args(1, loss='l1'), 'a.png')


@pytest.mark.parametrize('value', [2, np.int64(2), np.uint8(2)])
def test_a_class_number_is_an_int_in_3_forms(value):
    number = check_classes(value, make_args(3), 'a.png')
    assert (number, type(number)) == (2, int)


@pytest.mark.parametrize('value', [4, -1, np.int64(-7)])
def test_what_is_no_class_number_names_sample_value_and_range(value):
    with pytest.raises(UserError) as stop:
        check_classes(value, make_args(3), 'a.png')
    message = str(stop.value)
    assert all(
        word in message for word in ('a.png', f'class {value},', '0 to 2', '--num_classes 3')
    )
    assert 'start at 1' not in message


def test_class_3_of_3_seems_to_start_at_1():
    with pytest.raises(UserError, match=r'a\.png has class 3, expected 0 to 2.*start at 1'):
        check_classes(3, make_args(3), 'a.png')


def test_an_ignored_class_number_passes():
    assert check_classes(255, make_args(3), 'a.png') == 255


def test_one_logit_takes_classes_0_and_1():
    assert [check_classes(v, make_args(1), 'a') for v in (0, 1)] == [0, 1]
    with pytest.raises(UserError, match='expected 0 to 1'):
        check_classes(2, make_args(1), 'a')
