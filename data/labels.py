"""What label files store to class indices, and what to say about values that are none."""

import re
from functools import cache

import numpy as np

from data.image_io import read_values
from loss import REGRESSION
from utils.classes import count_classes, get_colors
from utils.errors import UserError, plural

MAX_VALUE = 65535  # the largest stored value that can stand for a class
SMOOTHED = 'smoothed or saved as JPEG; threshold and save as PNG, resize with nearest'


def read_indices(path, args):
    """(H,W) class indices of a label file, uint8, or int32 if --ignore_index is negative. With a
    class file with colors, RGB files are read as colors even if they are all gray: the black of an
    empty mask is a color, not class 0.
    """
    is_color = bool(get_colors(args)) and not getattr(args, 'label_values', None)
    return to_classes(read_values(path, is_color), args, path)


def to_classes(values, args, path):
    """(H,W) class indices or ignore_index of what read_values returned: colors by the class file,
    numbers by --label_values or as they are. UserError says how to read anything else.
    """
    num_classes, ignore_index = count_classes(args), args.ignore_index
    check_bits(args, is_mapped=values.ndim == 3 or bool(getattr(args, 'label_values', None)))
    if values.ndim == 3:
        indices = look_up_colors(values, args, path)
        if indices is not None:
            return indices
        values = values[..., 0]
    if values.dtype.kind == 'f' and not (values == np.rint(values)).all():  # nan is unequal too
        raise UserError(f'label {path} contains fractions or nan, expected class indices')
    if getattr(args, 'label_values', None):
        if values.dtype.itemsize > 2:
            values = values.clip(-1, MAX_VALUE + 1).astype(np.int32)
        return build_table(tuple(args.label_values), ignore_index, num_classes)[values]
    check_map(values, args, path)
    return values.astype(np.int32 if ignore_index < 0 else np.uint8, copy=False)


def check_map(values, args, path):
    """UserError if a map contains what is neither a class index nor ignore_index."""
    is_wrong = values >= count_classes(args)
    is_wrong = is_wrong if values.dtype.kind == 'u' else is_wrong | (values < 0)
    if (is_wrong & (values != args.ignore_index)).any():
        found, counts = np.unique(values.astype(np.int64), return_counts=True)
        raise UserError(f'label {path} {explain_values(found, counts, args)}')


def check_bits(args, is_mapped):
    """UserError for an ignored value, or for classes, that a label map cannot hold. A negative one,
    which ignores nothing, needs stored values that are the classes as they are.
    """
    lowest = 0 if is_mapped else -(2**31)
    if not lowest <= args.ignore_index <= 255 or count_classes(args) > 256:
        options = f'--ignore_index {args.ignore_index}, --num_classes {args.num_classes}'
        expected = f'expected {"0" if is_mapped else "-1"} to 255, and up to 256 classes'
        raise UserError(f'{options}: label maps have 8 bits, {expected}')


def check_label_values(args):
    """UserError if --label_values is not what to_classes understands."""
    check_bits(args, is_mapped=True)
    build_table(tuple(args.label_values), args.ignore_index, count_classes(args))


@cache
def build_table(texts, ignore_index, num_classes):
    """(65538,) uint8: the class of each stored value; the last two are for those out of range."""
    pairs = parse_label_values(texts)
    wrong = [new for new in pairs.values() if new >= num_classes and new != ignore_index]
    if wrong:
        given = f'--label_values {" ".join(texts)} gives class {wrong[0]}'
        raise UserError(f'{given}, expected 0 to {num_classes - 1}: see --num_classes')
    table = np.full(MAX_VALUE + 3, ignore_index, np.uint8)
    table[list(pairs)] = list(pairs.values())
    return table


def parse_label_values(texts):
    """{stored value: class index} of --label_values: ['0', '255'], or pairs ['7:0', '8:1']."""
    given, form = f'--label_values {" ".join(texts)}', r'\d+:\d+' if ':' in texts[0] else r'\d+'
    if not all(re.fullmatch(form, text) for text in texts):
        raise UserError(f'{given}: expected numbers, as in 0 255, or pairs, as in 7:0 8:1')
    table = dict((*map(int, text.split(':')), i)[:2] for i, text in enumerate(texts))
    if len(table) < len(texts) or max(table) > MAX_VALUE or max(table.values()) > 255:
        expected = f'expected each stored value once, up to {MAX_VALUE}, and classes up to 255'
        raise UserError(f'{given}: {expected}')
    return table


def explain_values(found, counts, args):
    """Why sorted values of a file or a list, with their counts, are no classes, and what to do."""
    n, ignored, values = count_classes(args), args.ignore_index, found.tolist()
    given, others = f'with --num_classes {args.num_classes}', [v for v in values if v != ignored]
    if 255 in values and {*values} - {255, ignored} <= {*range(n)}:
        advice = '--label_values 0 255 if 255 is class 1, ' if n == 2 else ''
        shown = ' '.join(map(str, values))
        return f'contains the values {shown} {given}: {advice}--ignore_index 255 if it is ignored'
    levels = find_levels(found, counts, min(n, 4))
    is_mask = levels and levels[0] <= 8 and levels[-1] >= 247
    if levels and len(values) > (n + 1 if is_mask else 4 * len(levels)):
        near = ' and '.join(map(str, levels))
        return f'contains {len(values)} values, nearly all near {near}: {SMOOTHED}'
    if others[0] >= 0 and others[-1] == n:
        zero = ', 0 is something else' if others[0] == 0 else ''
        stored = ' '.join(map(str, range(1, n + 1))) if n <= 20 else f'$(seq {n})'
        ways = f'--label_values {stored} (0 is then ignored) or --num_classes {n + 1}'
        ways += f', or --ignore_index {n} if that is ignored' if others[0] == 0 else ''
        return f'contains values {others[0]} to {n} {given}: they seem to start at 1{zero}: {ways}'
    wrong = next(value for value in others if not 0 <= value < n)
    share = f'{counts[values.index(wrong)] / counts.sum():.1%}'
    shown = ' '.join(map(str, others))
    advice = f': --label_values {shown} if these are the classes' if len(others) == n <= 20 else ''
    line = f'contains the value {wrong} ({share}); {given} and --ignore_index {ignored} values are'
    return f'{line} 0 to {n - 1}{advice}'


def find_levels(found, counts, max_levels):
    """The at most max_levels values that 9 of 10 pixels are near, sorted; [] if there are none."""
    levels, left = [], counts
    while 64 < found[-1] - found[0] <= 255 and left.any() and len(levels) < max_levels:
        levels.append(int(found[left.argmax()]))
        left = left * (np.abs(found - levels[-1]) > 8)
    return sorted(levels) if left.sum() < 0.1 * counts.sum() else []


def look_up_colors(colors, args, path):
    """(H,W) uint8 classes of (H,W,3) uint8 RGB; None for grays of no class: they are numbers."""
    red, green, blue = np.moveaxis(colors.astype(np.int32), -1, 0)
    packed, known = red << 16 | green << 8 | blue, get_colors(args)
    table = build_color_table(tuple(known.items()))
    codes = table[packed]
    if codes.all():
        return (codes - 1).astype(np.uint8)
    if not codes.any() and (red == green).all() and (red == blue).all():
        return None
    found, counts = np.unique(packed[codes == 0], return_counts=True)
    top = sorted(zip(-counts / packed.size, found.tolist(), strict=True))[:3]
    shown = ', '.join(f'{v >> 16} {v >> 8 & 255} {v & 255} ({-share:.1%})' for share, v in top)
    advice = f'add them to {args.class_names}, or `ignored R G B` lines'
    if not known:
        advice = 'give --class_names FILE with one `name R G B` per line'
    elif table[(found & 255) << 16 | found & 0xFF00 | found >> 16].all():
        advice = 'they are B G R of the class file: swap the channels'
    elif len(found) > len(known) + 16:
        advice = SMOOTHED
    colors = plural(len(found), 'color')
    raise UserError(f'label {path} contains {colors} of no class: {shown}; {advice}')


@cache
def build_color_table(colors):
    """(2**24,) uint16: 1 + class of each packed color, 0 for others; untouched pages are free."""
    table = np.zeros(2**24, np.uint16)
    for (red, green, blue), index in colors:
        table[red << 16 | green << 8 | blue] = index + 1
    return table


def check_classes(label, args, name):
    """A sample's class as an int, or its map of classes; UserError if a value is neither a class
    index nor ignore_index, or if the loss expects numbers.
    """
    if args.loss in REGRESSION:
        advice = 'return floats from read_label, because integers are class indices'
        raise UserError(f'label {name}: --loss {args.loss} learns numbers: {advice}')
    if np.ndim(label):
        check_map(label, args, name)
        is_small = label.dtype.kind == 'u' and args.ignore_index < 0  # it cannot hold such padding
        return label.astype(np.int32) if is_small else label
    num_classes = count_classes(args)
    if 0 <= label < num_classes or label == args.ignore_index:
        return int(label)
    hint = '; the classes seem to start at 1, expected 0' if label == num_classes else ''
    expected = f'expected 0 to {num_classes - 1} (--num_classes {args.num_classes})'
    raise UserError(f'label {name} has class {label}, {expected}{hint}')
