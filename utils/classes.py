"""The classes' names and colors, from the file of --class_names."""

import re
from functools import cache

import numpy as np

from utils.errors import UserError
from utils.files import read_text


def get_class_names(args):
    """One name per class: from --class_names, else '0', '1', ..."""
    if not args.class_names:
        return [str(i) for i in range(count_classes(args))]
    return [name for name, _ in read_classes(args.class_names, count_classes(args))[0]]


def name_class(i, names):
    """The name of class index i; of any other label value 'ignored (i)'."""
    return names[i] if 0 <= i < len(names) else f'ignored ({i})'


def count_classes(args):
    """How many classes there are: one logit, --num_classes 1, means two."""
    return max(args.num_classes, 2)


def get_colors(args):
    """{(R,G,B): class index, or ignore_index} of --class_names; {} without colors."""
    if not args.class_names:
        return {}
    classes, ignored = read_classes(args.class_names, count_classes(args))
    colors = dict.fromkeys(ignored, args.ignore_index)
    for i, (_, color) in enumerate(classes):
        if color in colors:
            shown = ' '.join(map(str, color))
            raise UserError(f'{args.class_names} gives two classes the color {shown}')
        if color:
            colors[color] = i
    return colors


def get_palette(args):
    """(256,3) uint8 RGB, or more rows for more classes: a color per label value."""
    palette = default_palette(max(256, count_classes(args)))
    if args.class_names:
        for i, (_, color) in enumerate(read_classes(args.class_names, count_classes(args))[0]):
            palette[i] = palette[i] if color is None else color
    if 0 <= args.ignore_index < len(palette):
        palette[args.ignore_index] = 255 if args.ignore_index >= count_classes(args) else 0
    return palette


@cache  # every picture asks for the palette
def read_classes(path, num_classes):
    """([(name, (R,G,B) or None)], [(R,G,B) of lines named 'ignored']) of a file of classes;
    UserError if there are not num_classes, each of its own name.
    """
    classes = []
    for line in read_text(path, '--class_names file').splitlines():
        colored = re.fullmatch(r'(.+?)' + r'[\s,;]+(\d{1,3})' * 3, line.strip())
        name, *color = colored.groups() if colored else [line]
        if any(int(channel) > 255 for channel in color):
            raise UserError(f"{path}: expected colors from 0 to 255, got '{line.strip()[:80]}'")
        if name.strip() and not re.match(r'name\W+r\W+g\W+b$', name.lower()):  # a CSV's header
            classes.append((' '.join(name.split()), tuple(map(int, color)) or None))
    ignored = [color for name, color in classes if name == 'ignored' and color]
    classes = [row for row in classes if row[0] != 'ignored' or not row[1]]
    if len(classes) != num_classes:
        fault = f'names {len(classes)} classes, by --num_classes expected {num_classes}'
        raise UserError(f'{path} {fault}')
    names = [name for name, _ in classes]
    twice = max(names, key=names.count)
    if names.count(twice) > 1:
        raise UserError(f"{path} names two classes '{twice}'")
    return classes, ignored


def default_palette(num_colors=256):
    """(num_colors,3) uint8 RGB: hues a golden-ratio step apart, so neighbors differ clearly."""
    numbers = np.arange(num_colors)
    hues = numbers * 0.618034 % 1
    channels = [np.abs((hues * 6 + shift) % 6 - 3) - 1 for shift in (0, 4, 2)]
    value = 0.95 - 0.35 * (numbers // 7 % 3) / 2
    colors = np.stack(channels, axis=1).clip(0.15, 1) * value[:, None]
    return (colors * 255).round().astype(np.uint8)
