"""report.html of an evaluation."""

import json


def write_html(path, report):
    """Writes the page."""
    path.write_text(json.dumps(report, default=str), encoding='utf-8')
