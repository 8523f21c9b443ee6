"""The files of an evaluation: result.txt, tables, pictures, report.html, a line in results.csv."""

import math
import shlex
import sys
from pathlib import Path

import numpy as np

from metrics import DIRECTIONS, Scored, holds_classes, is_lower_better
from utils.charts import draw_confusion
from utils.class_table import format_table, make_class_rows
from utils.classes import get_class_names, get_palette, name_class
from utils.files import append_row, read_rows, write_bytes, write_rows
from utils.html_report import write_html
from utils.model_cost import describe_model, measure_latency
from utils.scores import get_headline
from utils.torch_utils import describe_device
from utils.tracking.run_dir import RunDir, get_time
from utils.viz import caption_panels, encode_img, find_classes, gen_imgs_to_write, panel_name

JPEG = '.jpg'  # of the pictures in report.html; the panels are .png


class Gallery:
    """The pictures of the `number` worst images, and of as many evenly spaced ones."""

    def __init__(self, number, num_images):
        self.number = number
        self.even = set(np.linspace(0, num_images - 1, number).round().astype(int).tolist())
        self.badness, self.files = {}, {}  # by image; the files as {path: content}

    def add(self, i, name, badness, draw):
        """Keeps image i's pictures, {name: picture} of `draw()`, if it is one of these."""
        worst = sorted(self.badness, key=self.badness.get)[-self.number :]
        is_worst = self.number and (len(worst) < self.number or badness > self.badness[worst[0]])
        if not (is_worst or i in self.even):
            return
        self.badness[i] = badness
        self.files[i] = self._encode(i, name, *draw())
        for other in sorted(self.badness, key=self.badness.get)[: -self.number]:
            if other not in self.even:
                del self.badness[other], self.files[other]

    def _encode(self, i, name, imgs, caption):
        panel, taken = panel_name(name), {path for files in self.files.values() for path in files}
        if f'panels/{panel}' in taken:  # a/1.png and a_1.png
            panel = f'{Path(panel).stem}_{i}.png'
        files = {f'panels/{panel}': encode_img(caption_panels(imgs, caption))}
        for title, img in imgs.items():
            if title != 'legend':
                path = f'pictures/{Path(panel).stem}_{title}{JPEG}'
                files[path] = encode_img(img, JPEG)
        return files

    def list_pictures(self, i):
        """{name: path} of image i's pictures for report.html; {} if it has none."""
        paths = [path for path in self.files.get(i, {}) if path.endswith(JPEG)]
        return {Path(path).stem.rpartition('_')[2]: path for path in paths}

    def write(self, directory):
        """Writes the pictures; those of other images that are there stay."""
        for path, content in (item for files in self.files.values() for item in files.items()):
            (directory / path).parent.mkdir(exist_ok=True)
            write_bytes(directory / path, content)


class Report:
    """Collects the scores and pictures of one evaluation, for `result_dir`."""

    def __init__(self, args, result_dir, evaluator, checkpoint):
        self.args, self.result_dir = args, Path(result_dir)
        self.evaluator, self.checkpoint = evaluator, checkpoint
        self.gallery = Gallery(args.save_viz, len(evaluator.loader.sampler))
        self.names, self.images = get_class_names(args), []
        self.confusion = None  # (C,C) counts, rows: label, columns: prediction
        self.result_dir.mkdir(parents=True, exist_ok=True)

    def add_image(self, i, pred, batch, scores):
        """Adds image i, a batch of one, with its scores."""
        name, counts = batch['name'][0], self._count_classes(pred, batch)
        image = {'name': name, 'scores': scores, 'cells': list_cells(counts), 'classes': {}}
        if counts is not None and batch['label'].ndim == 1:  # the image has one class
            pair = {'label': int(batch['label'][0]), 'pred': int(find_classes(pred[0]))}
            image['classes'] = {key: name_class(i, self.names) for key, i in pair.items()}
        self.images.append(image)
        rank = get_rank(scores)
        caption = f'{name} | {rank} {scores[rank]:.4f}'
        badness = get_badness(scores)
        self.gallery.add(
            i, name, badness, lambda: (gen_imgs_to_write(pred, batch, self.args), caption)
        )

    def _count_classes(self, pred, batch):
        """Adds an image's (C,C) counts to the confusion; None for a task without classes."""
        if not holds_classes(pred, batch):
            return None
        counts = Scored(pred, batch, self.args).confusion.cpu().numpy()
        self.confusion = counts if self.confusion is None else self.confusion + counts
        return counts

    def write(self, scores, drift):
        """Writes the files; `drift` is what changed since training. Returns the lines to print
        about it.
        """
        comparison, _ = drift.compare_scores(scores)
        headline, facts = get_headline(scores), self._list_facts()
        classes = make_class_rows(scores, self.confusion, self.names, self.args.ignore_index)
        numbers = {name: f'{value:.4f}' for name, value in headline.items()}
        tables = [[f'{k:<11} {v}' for k, v in table.items()] for table in (facts, numbers)]
        lines = [*drift.describe(), *comparison]
        parts = tables[0], lines, tables[1], format_table(classes)
        text = '\n'.join(''.join(f'{line}\n' for line in part) for part in parts)
        (self.result_dir / 'result.txt').write_text(text, encoding='utf-8')
        self._write_tables()
        self.gallery.write(self.result_dir)
        content = self._gather(facts, headline, classes, lines)
        write_html(self.result_dir / 'report.html', content)
        self._add_result(headline, drift)
        return comparison

    def _list_facts(self):
        median_ms, slow_ms = measure_latency(self.evaluator)
        latency = f'{median_ms:.1f} ms an image (median), {slow_ms:.1f} ms (95th percentile)'
        return {
            'checkpoint': self.args.load_model_path,
            'list': self.args.val_list,
            'images': len(self.images),
            'date': get_time(),
            'command': shlex.join(['python', *sys.argv]),
            'model': f'{self.args.model_type}, {describe_model(self.evaluator)}',
            'latency': f'{latency} on {describe_device(self.evaluator.loader.device)}',
        }

    def _write_tables(self):
        """per_image.csv, worst first; confusion.csv and its picture."""
        rows = [
            {'image': image['name']} | image['classes'] | format_row(image['scores'])
            for image in sorted(self.images, key=lambda image: -get_badness(image['scores']))
        ]
        write_rows(self.result_dir / 'per_image.csv', rows)
        if self.confusion is None:
            return
        rows = [dict(zip(self.names, row, strict=True)) for row in self.confusion.tolist()]
        rows = [{'label': name} | row for name, row in zip(self.names, rows, strict=True)]
        write_rows(self.result_dir / 'confusion.csv', rows)
        picture = encode_img(draw_confusion(self.confusion, self.names))
        write_bytes(self.result_dir / 'confusion.png', picture)

    def _gather(self, facts, headline, classes, lines):
        """What report.html shows."""
        run, stored = RunDir(Path(self.args.load_model_path).parent), self.checkpoint
        palette = get_palette(self.args).tolist()
        for i, row in enumerate(classes[: len(self.names)]):
            row['color'] = palette[i]
        images = [
            image
            | {'scores': get_headline(image['scores']), 'pictures': self.gallery.list_pictures(i)}
            for i, image in enumerate(self.images)
        ]
        return {
            'title': f'{self.args.load_model_path} on {self.args.val_list}',
            'facts': facts,
            'scores': headline,
            'drift': lines,
            'command': (stored.get('provenance') or {}).get('command', ''),
            'options': {k: str(v) for k, v in stored.get('args', {}).items()},
            'classes': classes[: len(self.names)],
            'confusion': None if self.confusion is None else self.confusion.tolist(),
            'images': images,
            'curves': read_rows(run.log),
            'lower_is_better': [n for n in ('loss', *DIRECTIONS) if is_lower_better(n)],
        }

    def _add_result(self, headline, drift):
        """Adds a line to results.csv beside the checkpoint, which has one per evaluation."""
        checkpoint = Path(self.args.load_model_path)
        row = {'date': get_time(), 'checkpoint': checkpoint.name, 'list': self.args.val_list}
        row |= {'prefix': self.args.save_prefix, 'code': drift.code_state}
        row |= {'changes': '; '.join(drift.changes)} | format_row(headline)
        path = checkpoint.with_name('results.csv')
        try:
            append_row(path, row)
        except OSError as error:  # somebody else's run, perhaps
            print(f'warning: could not append to {path}: {error.strerror}', file=sys.stderr)


def format_row(scores):
    """{name: text} for a CSV file; nan is blank."""
    return {k: '' if math.isnan(v) else f'{v:.6f}' for k, v in scores.items()}


def get_rank(scores):
    """The name of the score that images are ordered by: the first metric's, or the loss."""
    own = [name for name in get_headline(scores) if not name.startswith('loss')]
    return [*own, 'loss'][0]


def get_badness(scores):
    """A number that is higher the worse an image's score is; lowest without a score."""
    score = scores[get_rank(scores)]
    sign = 1 if is_lower_better(get_rank(scores)) else -1
    return -math.inf if math.isnan(score) else sign * score


def list_cells(counts):
    """[[label, prediction, count]] of the cells of (C,C) counts that are not 0; [] for None."""
    if counts is None:
        return []
    rows, columns = np.nonzero(counts)
    return np.stack([rows, columns, counts[rows, columns]], axis=1).tolist()
