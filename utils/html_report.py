"""Static HTML pages: a template beside this file, with the data as JSON in it. No torch here."""

import json
import math
from pathlib import Path

from utils.files import replace_file

PARTS = ('page.css', 'page.js')  # what the templates share


def write_page(path, template, data):
    """Writes `data`, plain types, as a page that opens from the disk; nan becomes null."""
    directory = Path(__file__).parent / 'html'
    page = (directory / template).read_text(encoding='utf-8')
    for name in PARTS:
        page = page.replace(f'{{{{{name}}}}}', (directory / name).read_text(encoding='utf-8'))
    text = json.dumps(clean(data), allow_nan=False, separators=(',', ':'), default=str)
    # A name such as </script> must not end the block that holds the data.
    page = page.replace('{{data}}', text.replace('<', '\\u003c'))
    with replace_file(path) as file:
        file.write(page)


def clean(value):
    """The same with null for numbers that JSON does not have: nan and inf."""
    if isinstance(value, dict):
        return {str(name): clean(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [clean(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
