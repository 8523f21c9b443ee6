"""What an evaluation leaves behind: result.txt, per_image.csv and panels."""

import math
import shlex
import sys
from pathlib import Path

from utils.classes import get_class_names
from utils.provenance import now
from utils.tables import append_row, write_rows
from utils.viz import join_panels, panel_name, write_img


def get_headline(scores, prefix=''):
    """The scores that begin with prefix, named without it; not those of a class, as iou/road."""
    own = {k.removeprefix(prefix): v for k, v in scores.items() if k.startswith(prefix)}
    return {name: value for name, value in own.items() if '/' not in name}


def format_scores(scores, prefix=''):
    """'loss 0.4312 | miou 0.7312 | acc 0.9120': the headline."""
    headline = get_headline(scores, prefix)
    return ' | '.join(f'{name} {value:.4f}' for name, value in headline.items())


class Report:
    """Collects the rows and pictures of one evaluation in `result_dir`."""

    def __init__(self, args, result_dir):
        self.args, self.result_dir = args, Path(result_dir)
        self.panel_dir, self.rows = self.result_dir / 'panels', []
        self.result_dir.mkdir(parents=True, exist_ok=True)
        for panel in self.panel_dir.glob('*.png'):
            panel.unlink()  # of an earlier evaluation in this place

    def add_image(self, name, scores):
        """Keeps one image's scores for per_image.csv."""
        numbers = {k: '' if math.isnan(v) else f'{v:.6f}' for k, v in scores.items()}
        self.rows.append({'image': name} | numbers)

    def add_panel(self, name, imgs):
        """Writes one image's panels, named after the image."""
        self.panel_dir.mkdir(exist_ok=True)
        write_img(self.panel_dir / panel_name(name), join_panels(imgs))

    def write(self, scores, notes):
        """Writes per_image.csv, and result.txt with the lines of `notes`."""
        write_rows(self.result_dir / 'per_image.csv', self.rows)
        parts = self._head(), notes, self._scores(scores), self._classes(scores)
        text = '\n'.join(''.join(f'{line}\n' for line in part) for part in parts)
        (self.result_dir / 'result.txt').write_text(text, encoding='utf-8')

    def add_result(self, scores, drift):
        """Adds a line to the run's results.csv, beside those of earlier evaluations."""
        checkpoint = Path(self.args.load_model_path)
        facts = {
            'date': now(),
            'checkpoint': checkpoint.name,
            'list': self.args.val_list,
            'prefix': self.args.save_prefix,
            'code': drift.code_state,
            'changes': '; '.join(drift.changes),
        }
        headline = {name: f'{value:.6f}' for name, value in get_headline(scores).items()}
        path = checkpoint.with_name('results.csv')
        try:
            append_row(path, facts | headline)
        except OSError as error:  # somebody else's run, perhaps
            print(f'warning: {path} gets no line of this: {error.strerror}', file=sys.stderr)

    def _head(self):
        return [
            f'checkpoint  {self.args.load_model_path}',
            f'list        {self.args.val_list}',
            f'images      {len(self.rows)}',
            f'date        {now()}',
            f'command     {shlex.join(["python", *sys.argv])}',
        ]

    def _scores(self, scores):
        return [f'{name:<11} {value:.4f}' for name, value in get_headline(scores).items()]

    def _classes(self, scores):
        kinds = list(dict.fromkeys(name.split('/')[0] for name in scores if '/' in name))
        names = get_class_names(self.args)
        width = max(map(len, ['class', *names])) + 2
        lines = ['class'.ljust(width) + ''.join(f'{kind:>8}' for kind in kinds)]
        for name in names:
            values = (scores[f'{kind}/{name}'] for kind in kinds)
            lines.append(name.ljust(width) + ''.join(f'{value:8.4f}' for value in values))
        return lines if kinds else []
