"""Pages that work without network: a template, what the pages share, and data as JSON."""

import csv
import json
import math
import os
from pathlib import Path
from urllib.parse import quote

from utils.files import read_rows, replace_file

HERE = Path(__file__).parent
PARTS = ('page.css', 'page.js')  # what the pages share; a template says {{page.css}}


def read_log(path):
    """The curves of a log.csv; {} if it cannot be read."""
    try:
        return read_curves(read_rows(path))
    except (OSError, csv.Error):
        return {}


def read_curves(rows):
    """{curve: [number or None]} of the rows of log.csv, without the scores of a class."""
    rows = [row for row in rows if to_number(row.get('epoch')) is not None]
    names = dict.fromkeys(name for row in rows for name in row)
    kept = [n for n in names if n and n.count('/') < 2 and not n.startswith('speed/')]
    return {name: [to_number(row.get(name)) for row in rows] for name in kept}


def to_number(text):
    """The finite number that a text contains; None if it is none."""
    try:
        return float(text) if math.isfinite(float(text)) else None
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
    """JSON that may stand in a <script>: no text in it can end that. Floats have 6 digits; nan and
    infinity, which JSON lacks, become null.
    """
    hooks = {'parse_float': lambda text: float(f'{float(text):.6g}'), 'parse_constant': to_number}
    text = json.dumps(json.loads(json.dumps(data), **hooks), separators=(',', ':'))
    return text.replace('<', '\\u003c')
