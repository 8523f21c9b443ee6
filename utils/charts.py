"""Charts drawn with OpenCV: the curves of a run, and a confusion matrix. (H,W,3) uint8 RGB."""

import math

import cv2
import numpy as np

from metrics import is_lower_better
from utils.scores import get_headline
from utils.viz import write_text

SIZE = 260, 380  # H, W of a chart
MARGINS = 34, 16, 30, 62  # top, right, bottom, left: pixels around its curves
GRID = (228, 228, 228)
COLORS = {'train': (60, 120, 200), 'val': (225, 120, 30), 'lr': (110, 110, 110)}
COLUMNS = 3
MAX_CONFUSION = 2000  # pixels


def draw_curves(rows):
    """(H,W,3) uint8 RGB: a chart per score of log.csv's rows, the learning rate last.

    The best validated epoch of each score is marked.
    """
    names = [n for split in ('val/', 'train/') for n in get_headline(rows[0], split)]
    charts = [draw_score(rows, name) for name in dict.fromkeys(names)]
    charts.append(draw_chart('lr', {'lr': read_points(rows, 'lr')}))
    charts += [np.full_like(charts[0], 255)] * (-len(charts) % COLUMNS)
    lines = [np.hstack(charts[i : i + COLUMNS]) for i in range(0, len(charts), COLUMNS)]
    return np.vstack(lines)


def draw_score(rows, name):
    """A chart of one score, with its best validated epoch."""
    lines = {split: read_points(rows, f'{split}/{name}') for split in ('train', 'val')}
    choose_best = min if is_lower_better(name) else max
    best = choose_best(lines['val'], key=lambda point: point[1], default=None)
    return draw_chart(name, {split: points for split, points in lines.items() if points}, best)


def read_points(rows, name):
    """[(epoch, value)] of a column of log.csv, without gaps."""
    points = [(int(row['epoch']), float(row.get(name) or 'nan')) for row in rows]
    return [point for point in points if math.isfinite(point[1])]


def draw_chart(title, lines, best=None):
    """A chart of {name: [(x, y)]}, with a ring around the point `best`."""
    img = np.full((*SIZE, 3), 255, np.uint8)
    points = [point for line in lines.values() for point in line] or [(1, 0.0)]
    low, high = np.min(points, axis=0), np.max(points, axis=0)
    high = np.where(high > low, high, low + [1, abs(low[1]) * 0.1 + 1e-9])
    top, right, bottom, left = MARGINS
    corner = np.array([left, SIZE[0] - bottom])
    scale = np.array([SIZE[1] - left - right, top + bottom - SIZE[0]]) / (high - low)

    def place(point):
        return tuple(int(v) for v in (corner + (np.array(point) - low) * scale).round())

    for share in (0, 0.5, 1):
        y = low[1] + share * (high[1] - low[1])
        start = place((low[0], y))
        cv2.line(img, start, place((high[0], y)), GRID, 1)
        write_text(img, f'{y:.3g}', (6, start[1] + 4))
    for x in (low[0], high[0]):
        write_text(img, f'{x:.0f}', (place((x, low[1]))[0] - 6, SIZE[0] - 10))
    for i, (name, line) in enumerate(lines.items()):
        path = np.array([place(point) for point in line]).reshape(-1, 1, 2)
        cv2.polylines(img, [path], False, COLORS[name], 2, cv2.LINE_AA)
        write_text(img, name, (SIZE[1] - 50 * (len(lines) - i) - 10, 20), COLORS[name])
    write_text(img, f'{title}  best {best[1]:.4g} in epoch {best[0]}' if best else title, (10, 20))
    if best:
        cv2.circle(img, place(best), 5, COLORS['val'], 2, cv2.LINE_AA)
    return img


def draw_confusion(counts, names):
    """A picture of (C,C) counts, rows: label, columns: prediction: the percent of each row."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    cell = max(2, min(34, MAX_CONFUSION // len(names)))  # pixels; the text needs 20
    left = 12 + 8 * max(map(len, names)) if cell >= 20 else 0
    img = np.full((left + cell * len(names), left + cell * len(names), 3), 255, np.uint8)
    blue = 255 - shares[..., None] * (255 - np.array([30, 90, 170]))
    cells = np.kron(blue, np.ones((cell, cell, 1))).reshape(*img[left:, left:].shape)
    img[left:, left:] = cells.astype(np.uint8)
    for row, name in enumerate(names if left else []):
        y = left + row * cell
        write_text(img, name, (4, y + cell // 2 + 4))
        column = np.full((cell, left, 3), 255, np.uint8)  # turned: the names of the columns
        write_text(column, name, (4, cell // 2 + 4))
        img[:left, y : y + cell] = np.rot90(column)
        for i, share in enumerate(shares[row]):
            ink = (255, 255, 255) if share > 0.5 else (60, 60, 60)
            text = f'{share * 100:.0f}' if share >= 0.005 else ''
            write_text(img, text, (left + i * cell + cell // 2 - 11, y + cell // 2 + 4), ink)
    return img
