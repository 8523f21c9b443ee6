"""The files of an evaluation: result.txt, tables, pictures, report.html, a line in results.csv."""

import csv
import math
import os
import shlex
import sys
from pathlib import Path

import numpy as np
import torch

from metrics import Scored, holds_classes, is_lower_better
from utils.arg_parser import expand
from utils.charts import draw_confusion
from utils.classes import get_class_names, get_palette, name_class
from utils.errors import warn_once
from utils.files import append_row, replace_file, write_rows
from utils.html_report import quote_path, read_log, write_page
from utils.model_cost import describe_model, measure_latency
from utils.scores import format_table, get_headline, score_classes
from utils.torch_utils import describe_device, repeatable_kernels, seed_step
from utils.tracking.run_dir import RunDir, get_time
from utils.viz import caption_panels, find_classes, gen_imgs_to_write, write_img

TEMPLATE = Path(__file__).with_name('report.html')


class Report:
    """Collects the scores and pictures of one evaluation, for `result_dir`."""

    def __init__(self, args, result_dir, evaluator, checkpoint):
        self.args, self.result_dir = args, Path(result_dir)
        self.evaluator, self.checkpoint = evaluator, checkpoint
        self.names = get_class_names(args)
        self.images = []  # dicts for report.html, see _fill_page
        self.confusion = None  # (C,C) counts, rows: label, columns: prediction
        self.result_dir.mkdir(parents=True, exist_ok=True)
        warn_of_another_list(self.result_dir / 'args.txt', args.val_list)

    def add_image(self, pred, batch, scores):
        """Adds the next image, a batch of one, with its scores."""
        image = {'name': batch['name'][0], 'scores': scores, 'pictures': {}}
        image |= {'cells': [], 'classes': {}}
        if holds_classes(pred, batch):
            counts = Scored(pred, batch, self.args).confusion.cpu().numpy()
            self.confusion = counts if self.confusion is None else self.confusion + counts
            cells = np.nonzero(counts)
            image['cells'] = np.column_stack([*cells, counts[cells]]).tolist()
            if batch['label'].ndim == 1:  # the image has one class
                pair = {'label': int(batch['label'][0]), 'pred': int(find_classes(pred[0]))}
                image['classes'] = {k: name_class(i, self.names) for k, i in pair.items()}
        self.images.append(image)

    def write(self, scores, drift):
        """Writes the files; `drift` is what changed since training. Returns the lines to print
        about it.
        """
        comparison, _ = drift.compare_scores(scores)
        lines, facts = [*drift.describe(), *comparison], self._list_facts()
        headline = get_headline(scores)
        classes = score_classes(scores, self.confusion, self.names, self.args.ignore_index)
        parts = [
            [f'{name:<11} {fact}' for name, fact in facts.items()],
            lines,
            [f'{name:<11} {score:.4f}' for name, score in headline.items()],
            format_table(self.names, classes) if classes else [],
        ]
        text = '\n'.join(''.join(f'{line}\n' for line in part) for part in parts)
        with replace_file(self.result_dir / 'result.txt') as file:
            file.write(text)
        rank = get_rank(headline)
        badness = np.array([image['scores'].get(rank, math.nan) for image in self.images])
        badness = badness if is_lower_better(rank) else -badness
        order = np.argsort(-badness, kind='stable').tolist()  # without a score comes last
        self._write_tables(order)
        self._draw_images(order, rank)
        page = self._fill_page(facts, headline, classes, lines, rank)
        write_page(self.result_dir / 'report.html', TEMPLATE, page)
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

    def _write_tables(self, order):
        """per_image.csv, worst first; confusion.csv and its picture."""
        images = [self.images[i] for i in order]
        rows = [{'image': x['name']} | x['classes'] | format_row(x['scores']) for x in images]
        write_rows(self.result_dir / 'per_image.csv', rows)
        if self.confusion is None:
            return
        with replace_file(self.result_dir / 'confusion.csv') as file:
            table = csv.writer(file)
            table.writerow(['label', *self.names])  # no dicts: a class may be named label
            table.writerows([n, *r] for n, r in zip(self.names, self.confusion, strict=True))
        write_img(self.result_dir / 'confusion.png', draw_confusion(self.confusion, self.names))

    @torch.no_grad()
    @repeatable_kernels()
    def _draw_images(self, order, rank):
        """Writes a panel and, for report.html, single pictures of the worst images and of evenly
        spaced ones; pictures of others that are there stay.
        """
        number, stems = self.args.save_viz, set()
        even = np.linspace(0, len(self.images) - 1, number).round().astype(int).tolist()
        for i in sorted({*order[:number], *even}):
            image, batch = self.images[i], self.evaluator.loader.read_one(i)
            seed_step(self.args.seed, i)  # for a model that is stochastic at evaluation
            imgs = gen_imgs_to_write(self.evaluator.step(batch), batch, self.args)
            if not imgs:
                continue
            stem = panel_name(image['name'])
            stem = f'{stem}_{i}' if stem in stems else stem  # a/1.png and a_1.png
            stems.add(stem)
            caption = f'{image["name"]} | {rank} {image["scores"].get(rank, math.nan):.4f}'
            paths = {name: f'pictures/{stem}_{name}.jpg' for name in imgs if name != 'legend'}
            image['pictures'] = {name: quote_path(path) for name, path in paths.items()}
            panel = {f'panels/{stem}.png': caption_panels(imgs, caption)}
            for path, img in (panel | {paths[name]: imgs[name] for name in paths}).items():
                (self.result_dir / path).parent.mkdir(exist_ok=True)
                write_img(self.result_dir / path, img)

    def _fill_page(self, facts, headline, classes, lines, rank):
        """What report.html shows. Of an image: its name, {score: number}, the cells of its
        confusion that are not 0 as [row, column, count], and {picture: path from the page}.
        """
        palette, stored = get_palette(self.args).tolist(), self.checkpoint
        rows = [
            {'class': name, 'color': palette[i]} | {k: float(v[i]) for k, v in classes.items()}
            for i, name in enumerate(self.names)
        ]
        run = RunDir(Path(self.args.load_model_path).parent)
        return {
            'title': f'{self.args.load_model_path} on {self.args.val_list}',
            'facts': facts,
            'scores': headline,
            'main_score': rank,
            'lower_is_better': [name for name in headline if is_lower_better(name)],
            'drift': lines,
            'command': (stored.get('provenance') or {}).get('command', ''),
            'options': {k: str(v) for k, v in stored.get('args', {}).items()},
            'classes': rows if classes else [],
            'confusion': None if self.confusion is None else self.confusion.tolist(),
            'images': [x | {'scores': get_headline(x['scores'])} for x in self.images],
            'curves': read_log(run.log),
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
    return next((name for name in scores if not name.startswith('loss')), 'loss')


def panel_name(name):
    """The name of a sample's panel without suffix, from its whole name: 'a/1.jpg' -> 'a_1'."""
    stem = '_'.join(part for part in Path(name).with_suffix('').parts if part not in '/..')
    return os.fsencode(stem)[-180:].decode(errors='ignore')  # file names have at most 255 bytes


def warn_of_another_list(path, val_list):
    """Warns if args.txt is of results for another list, whose directory and name are the same."""
    words = expand([f'@{path}']) if path.exists() else []
    stored = words[words.index('--val_list') + 1] if '--val_list' in words else val_list
    if Path(stored).resolve() != Path(val_list).resolve():
        advice = 'another --save_prefix keeps both'
        warn_once(f'the results for {stored} in {path.parent} are replaced; {advice}')
