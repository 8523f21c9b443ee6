"""The files of an evaluation: result.txt, per_image.csv, panels and a line in results.csv."""

import math
import shlex
import sys
from pathlib import Path

from metrics import Scored, holds_classes
from utils.classes import get_class_names
from utils.files import append_row, write_rows
from utils.logger import get_headline
from utils.tracking.run_dir import get_time
from utils.viz import join_panels, panel_name, write_img


class Report:
    """Collects the rows and pictures of one evaluation in `result_dir`."""

    def __init__(self, args, result_dir):
        self.args, self.result_dir = args, Path(result_dir)
        self.panel_dir, self.rows = self.result_dir / 'panels', []
        self.confusion = None  # (C,C) counts, rows: label, columns: prediction
        self.result_dir.mkdir(parents=True, exist_ok=True)
        for panel in self.panel_dir.glob('*.png'):
            panel.unlink()  # of an earlier evaluation in this directory

    def add_image(self, name, scores):
        """Adds one image's scores to per_image.csv."""
        numbers = {k: '' if math.isnan(v) else f'{v:.6f}' for k, v in scores.items()}
        self.rows.append({'image': name} | numbers)

    def add_confusion(self, pred, batch):
        """Counts one image's classes for confusion.csv; nothing for a task without classes."""
        if holds_classes(pred, batch):
            counts = Scored(pred, batch, self.args).confusion.cpu()
            self.confusion = counts if self.confusion is None else self.confusion + counts

    def add_panel(self, name, imgs):
        """Writes one image's panels, named after the image."""
        self.panel_dir.mkdir(exist_ok=True)
        write_img(self.panel_dir / panel_name(name), join_panels(imgs))

    def write(self, scores, drift):
        """Writes the files; `drift` is what changed since training. Returns the lines to print
        about it.
        """
        comparison, _ = drift.compare_scores(scores)
        headline = get_headline(scores)
        command = shlex.join(['python', *sys.argv])
        facts = {'checkpoint': self.args.load_model_path, 'list': self.args.val_list}
        facts |= {'images': len(self.rows), 'date': get_time(), 'command': command}
        numbers = {name: f'{value:.4f}' for name, value in headline.items()}
        tables = [[f'{k:<11} {v}' for k, v in table.items()] for table in (facts, numbers)]
        parts = tables[0], [*drift.describe(), *comparison], tables[1], self._classes(scores)
        text = '\n'.join(''.join(f'{line}\n' for line in part) for part in parts)
        (self.result_dir / 'result.txt').write_text(text, encoding='utf-8')
        write_rows(self.result_dir / 'per_image.csv', self.rows)
        if self.confusion is not None:
            names, counts = get_class_names(self.args), self.confusion.tolist()
            rows = [dict(zip(names, row, strict=True)) for row in counts]
            rows = [{'label': name} | row for name, row in zip(names, rows, strict=True)]
            write_rows(self.result_dir / 'confusion.csv', rows)
        self._add_result(headline, drift)
        return comparison

    def _add_result(self, headline, drift):
        """Adds a line to results.csv beside the checkpoint, which has one per evaluation."""
        checkpoint = Path(self.args.load_model_path)
        row = {'date': get_time(), 'checkpoint': checkpoint.name, 'list': self.args.val_list}
        row |= {'prefix': self.args.save_prefix, 'code': drift.code_state}
        row |= {'changes': '; '.join(drift.changes)}
        row |= {name: f'{value:.6f}' for name, value in headline.items()}
        path = checkpoint.with_name('results.csv')
        try:
            append_row(path, row)
        except OSError as error:  # somebody else's run, perhaps
            print(f'warning: could not append to {path}: {error.strerror}', file=sys.stderr)

    def _classes(self, scores):
        kinds = list(dict.fromkeys(name.split('/')[0] for name in scores if '/' in name))
        names = get_class_names(self.args)
        width = max(map(len, ['class', *names])) + 2
        lines = ['class'.ljust(width) + ''.join(f'{kind:>8}' for kind in kinds)]
        for name in names:
            values = (scores[f'{kind}/{name}'] for kind in kinds)
            lines.append(name.ljust(width) + ''.join(f'{value:8.4f}' for value in values))
        return lines if kinds else []
