"""Stored label values to class indices, and what to say when they are none."""

import numpy as np

from utils.classes import count_classes, get_colours
from utils.errors import UserError

MAX_VALUE = 65535


def to_classes(values, args, path):
    """(H,W) uint8 class indices and ignore_index, from what read_values returned.

    Colours (H,W,3) go through the class file, numbers through --label_values if it is given.
    UserError says what was found and how to read it.
    """
    if not 0 <= args.ignore_index <= 255:
        raise UserError(f'--ignore_index {args.ignore_index}: label maps have 8 bits, 0 to 255')
    if values.ndim == 3:
        return colours_to_classes(values, args, path)
    if values.dtype.kind == 'f' or values.min() < 0 or values.max() > MAX_VALUE:
        kind = f'{values.dtype} from {values.min()} to {values.max()}'
        raise UserError(f'label {path} holds {kind}, expected class indices')
    counts = np.bincount(values.ravel())
    if getattr(args, 'label_values', None):
        table = np.full(MAX_VALUE + 1, args.ignore_index, np.uint8)
        for stored, index in parse_label_values(args.label_values).items():
            table[stored] = index
        return table[values]
    found = np.flatnonzero(counts)
    wrong = found[(found >= count_classes(args)) & (found != args.ignore_index)]
    if len(wrong):
        raise UserError(f'label {path} {explain_values(counts, found, wrong, args)}')
    return values.astype(np.uint8, copy=False)


def parse_label_values(texts):
    """{stored value: class} of --label_values: '0 255', or as pairs '7:0 8:1'."""
    pairs = [text.split(':') for text in texts]
    try:
        if {len(pair) for pair in pairs} == {1}:
            table = {int(stored): i for i, (stored,) in enumerate(pairs)}
        else:
            table = {int(stored): int(index) for stored, index in pairs}
    except ValueError as error:
        expected = 'integers such as 0 255, or pairs such as 7:0 8:1'
        raise UserError(f'--label_values: expected {expected}, got {" ".join(texts)}') from error
    is_in_range = all(0 <= s <= MAX_VALUE and 0 <= i <= 255 for s, i in table.items())
    if not is_in_range or len(table) < len(texts):
        raise UserError(f'--label_values {" ".join(texts)}: a value is twice there or too large')
    return table


def explain_values(counts, found, wrong, args):
    """What label values that are no class indices may be, and the remedy."""
    num_classes, shown = count_classes(args), ' '.join(map(str, found[:8]))
    line = f'holds the values {shown}{" ..." if len(found) > 8 else ""}'
    line += f', expected 0 to {num_classes - 1} (--num_classes {args.num_classes}), or the '
    line += f'ignored {args.ignore_index}'
    if found.max() == num_classes and len(found) > 1:
        values = ' '.join(str(value) for value in range(1, num_classes + 1))
        return (
            f'{line}: with --num_classes {num_classes} they seem to start at 1; give '
            f'--label_values {values} (0 is then ignored), or --num_classes {num_classes + 1}'
        )
    near = counts[:8].sum() + counts[248:256].sum()
    if len(found) > num_classes + 1 and counts[248:256].sum() and near > 0.9 * counts.sum():
        return (
            f'holds {len(found)} values, nearly all near 0 and 255: smoothed, or saved as JPEG '
            'before; threshold it, resize it with nearest and save it as PNG'
        )
    if len(found) <= num_classes:
        return f'{line}; to read them as classes give --label_values {shown}'
    return (
        f'{line}; the value {wrong[0]} is none of --num_classes {num_classes}: see --label_values'
    )


def colours_to_classes(colours, args, path):
    """Class indices of (H,W,3) uint8 RGB, from the colours of --class_names."""
    known = get_colours(args)
    packed = colours.astype(np.int32) @ np.array([65536, 256, 1])
    found, inverse, counts = np.unique(packed, return_inverse=True, return_counts=True)
    rgb = [(value >> 16, value >> 8 & 255, value & 255) for value in found.tolist()]
    order = np.argsort(-counts)
    unknown = [i for i in order if rgb[i] not in known]
    if unknown:
        shares = [
            f'{" ".join(map(str, rgb[i]))} ({counts[i] / packed.size:.1%})' for i in unknown[:4]
        ]
        advice = 'add them to the file of --class_names, or lines `ignored R G B`'
        if not known:
            advice = 'give --class_names FILE with one `name R G B` per line'
        raise UserError(
            f'label {path} holds colours {", ".join(shares)} that are no class: {advice}'
        )
    classes = np.array([known[colour] for colour in rgb], np.uint8)
    return classes[inverse].reshape(packed.shape)


def check_class(value, args, name):
    """A class number of a sample; UserError if it is out of range."""
    num_classes = count_classes(args)
    if 0 <= value < num_classes or value == args.ignore_index:
        return int(value)
    hint = '; the classes seem to start at 1, expected 0' if value == num_classes else ''
    raise UserError(f'{name} has class {value}, expected 0 to {num_classes - 1}{hint}')
