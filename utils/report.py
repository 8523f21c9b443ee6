"""The files of an evaluation: result.txt, tables, pictures, report.html, a line in results.csv."""

import math
import shlex
import sys
from pathlib import Path

import numpy as np
import torch

from metrics import Scored, holds_classes, is_lower_better
from utils.charts import draw_confusion
from utils.class_table import format_table, make_class_rows
from utils.classes import get_class_names, get_palette, name_class
from utils.files import append_row, read_rows, write_rows
from utils.html_report import write_html
from utils.model_cost import describe_model, measure_latency
from utils.scores import get_headline
from utils.torch_utils import describe_device, repeatable_kernels, seed_step
from utils.tracking.run_dir import RunDir, get_time
from utils.viz import caption_panels, find_classes, gen_imgs_to_write, panel_name, write_img


class Report:
    """Collects the scores and pictures of one evaluation, for `result_dir`."""

    def __init__(self, args, result_dir, evaluator, checkpoint):
        self.args, self.result_dir = args, Path(result_dir)
        self.evaluator, self.checkpoint = evaluator, checkpoint
        self.names, self.images = get_class_names(args), []
        self.stems = set()  # of the pictures' names
        self.confusion = None  # (C,C) counts, rows: label, columns: prediction
        self.result_dir.mkdir(parents=True, exist_ok=True)

    def add_image(self, pred, batch, scores):
        """Adds the next image, a batch of one, with its scores."""
        name, counts = batch['name'][0], self._count_classes(pred, batch)
        image = {'i': len(self.images), 'name': name, 'scores': scores}
        image |= {'cells': list_cells(counts), 'classes': {}, 'pictures': {}}
        if counts is not None and batch['label'].ndim == 1:  # the image has one class
            pair = {'label': int(batch['label'][0]), 'pred': int(find_classes(pred[0]))}
            image['classes'] = {key: name_class(i, self.names) for key, i in pair.items()}
        self.images.append(image)

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
        order = sorted(self.images, key=lambda image: -get_badness(image['scores']))
        self._write_tables(order)
        self._draw_images(order)
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

    def _draw_images(self, order):
        """Draws the worst images and evenly spaced ones; pictures of others that are there stay."""
        number = self.args.save_viz
        even = np.linspace(0, len(self.images) - 1, number).round().astype(int).tolist()
        for i in sorted({image['i'] for image in order[:number]} | set(even)):
            self.images[i]['pictures'] = self._draw_image(self.images[i])

    @torch.no_grad()
    @repeatable_kernels()
    def _draw_image(self, image):
        """Writes an image's panel and, for report.html, its single pictures: {name: path}."""
        batch = self.evaluator.loader.read_one(image['i'])
        seed_step(self.args.seed, image['i'])  # for a model that is stochastic at evaluation
        imgs = gen_imgs_to_write(self.evaluator.step(batch), batch, self.args)
        rank = get_rank(image['scores'])
        caption = f'{image["name"]} | {rank} {image["scores"][rank]:.4f}'
        stem = panel_name(image['name'])
        stem = f'{stem}_{image["i"]}' if stem in self.stems else stem  # a/1.png and a_1.png
        self.stems.add(stem)
        self._write_img(f'panels/{stem}.png', caption_panels(imgs, caption))
        paths = {name: f'pictures/{stem}_{name}.jpg' for name in imgs if name != 'legend'}
        for name, path in paths.items():
            self._write_img(path, imgs[name])
        return paths

    def _write_img(self, path, img):
        (self.result_dir / path).parent.mkdir(exist_ok=True)
        write_img(self.result_dir / path, img)

    def _write_tables(self, order):
        """per_image.csv, worst first; confusion.csv and its picture."""
        rows = [
            {'image': image['name']} | image['classes'] | format_row(image['scores'])
            for image in order
        ]
        write_rows(self.result_dir / 'per_image.csv', rows)
        if self.confusion is None:
            return
        rows = [dict(zip(self.names, row, strict=True)) for row in self.confusion.tolist()]
        rows = [{'label': name} | row for name, row in zip(self.names, rows, strict=True)]
        write_rows(self.result_dir / 'confusion.csv', rows)
        self._write_img('confusion.png', draw_confusion(self.confusion, self.names))

    def _gather(self, facts, headline, classes, lines):
        """What report.html shows."""
        run, stored = RunDir(Path(self.args.load_model_path).parent), self.checkpoint
        palette = get_palette(self.args).tolist()
        for i, row in enumerate(classes[: len(self.names)]):
            row['color'] = palette[i]
        images = [image | {'scores': get_headline(image['scores'])} for image in self.images]
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
            'lower_is_better': [name for name in headline if is_lower_better(name)],
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
