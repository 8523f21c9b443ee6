"""Writes report.html: an evaluation's scores, classes, images and curves as one page to look at."""

import json
import math
import os
from pathlib import Path
from urllib.parse import quote

from utils.files import replace_file

HERE = Path(__file__).parent
PARTS = ('page.css', 'page.js')  # what the pages share; a template says {{page.css}}


def write_html(path, report):
    """Writes the page of an evaluation; its pictures are files beside it, all else is inside.

    report = {
        'title': str, 'command': str, 'facts': {name: text}, 'options': {name: text},
        'scores': {name: float}, 'lower_is_better': [name], 'drift': [line],
        'classes': [{'class': name, 'color': (R,G,B), 'share': of the labeled pixels,
                     'iou': float or None, ...}],           [] for a task without classes
        'confusion': (C,C) lists of counts, rows: label, columns: prediction; or None,
        'images': [{'name': str, 'scores': {name: float or None},
                    'cells': [(row, column, count)] of its confusion that are not 0,
                    'pictures': {'img': path from the page, 'pred': ..., ...} or {}}],
        'curves': the rows of log.csv,
    }
    A score that is nan is shown as unknown.
    """
    names = list(dict.fromkeys(name for image in report['images'] for name in image['scores']))
    images = [pack_image(image, names) for image in report['images']]
    packed = {'score_names': names, 'images': images, 'curves': read_curves(report['curves'])}
    write_page(path, HERE / 'report.html', report | packed)


def pack_image(image, names):
    """An image of the report for the page, with its scores in the order of `names`."""
    return {
        'name': image['name'],
        'scores': [image['scores'].get(name) for name in names],
        'cells': [number for cell in image['cells'] for number in cell],
        'pictures': {name: quote_path(path) for name, path in image['pictures'].items()},
    }


def read_curves(rows):
    """{curve: [number or None]} of the rows of log.csv, without the scores of a class."""
    rows = [row for row in rows if to_number(row.get('epoch')) is not None]
    names = dict.fromkeys(name for row in rows for name in row)
    kept = [n for n in names if n and n.count('/') < 2 and not n.startswith('speed/')]
    return {name: [to_number(row.get(name)) for row in rows] for name in kept}


def to_number(text):
    """The number that a text contains; None if it is none."""
    try:
        return float(text)
    except (TypeError, ValueError):
        return None


def quote_path(path):
    """A relative path as a URL, whatever characters or bytes its names are made of."""
    return quote(os.fsencode(path))


def write_page(path, template, data):
    """Writes a template with what the pages share and the data in their places."""
    text = Path(template).read_text(encoding='utf-8')
    for name in PARTS:
        text = text.replace(f'{{{{{name}}}}}', (HERE / name).read_text(encoding='utf-8'))
    with replace_file(path, what='a page') as file:
        file.write(text.replace('{{data}}', encode_data(data)))


def encode_data(data):
    """JSON that may stand in a <script>: no text in it can end that."""
    text = json.dumps(round_numbers(data), allow_nan=False, separators=(',', ':'))
    return text.replace('<', '\\u003c')


def round_numbers(value):
    """The value with 6 digits of every float, and None for nan and infinity, which JSON lacks."""
    if isinstance(value, dict):
        return {str(name): round_numbers(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [round_numbers(part) for part in value]
    if isinstance(value, float):
        return float(f'{value:.6g}') if math.isfinite(value) else None
    return value
