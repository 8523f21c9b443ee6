"""Charts drawn with OpenCV: the curves of a run, and a confusion matrix. (H,W,3) uint8 RGB."""

import cv2
import numpy as np

from metrics import is_lower_better
from utils.html_report import read_curves
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
    curves = read_curves(rows)
    names = sorted(curves, key=lambda name: not name.startswith('val/'))
    charts = []
    for title in dict.fromkeys(name.partition('/')[2] for name in names if '/' in name):
        lines = {split: list_points(curves, f'{split}/{title}') for split in ('train', 'val')}
        charts.append(draw_chart(title, lines))
    charts.append(draw_chart('lr', {'lr': list_points(curves, 'lr')}))
    charts += [np.full_like(charts[0], 255)] * (-len(charts) % COLUMNS)
    lines = [np.hstack(charts[i : i + COLUMNS]) for i in range(0, len(charts), COLUMNS)]
    return np.vstack(lines)


def list_points(curves, name):
    """[(epoch, value)] of a curve, without gaps."""
    values = curves.get(name, [])
    return [(x, y) for x, y in zip(curves.get('epoch', []), values, strict=False) if y is not None]


def draw_chart(title, lines):
    """A chart of {name: [(x, y)]}, with a ring around the best point of 'val'."""
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
    lines = {name: line for name, line in lines.items() if line}
    for i, (name, line) in enumerate(lines.items()):
        path = np.array([place(point) for point in line]).reshape(-1, 1, 2)
        cv2.polylines(img, [path], False, COLORS[name], 2, cv2.LINE_AA)
        write_text(img, name, (SIZE[1] - 50 * (len(lines) - i) - 10, 20), COLORS[name])
    if 'val' in lines:
        choose_best = min if is_lower_better(title) else max
        best = choose_best(lines['val'], key=lambda point: point[1])
        cv2.circle(img, place(best), 5, COLORS['val'], 2, cv2.LINE_AA)
        title = f'{title}  best {best[1]:.4g} in epoch {best[0]:.0f}'
    write_text(img, title, (10, 20))
    return img


def draw_confusion(counts, names):
    """A picture of (C,C) counts, rows: label, columns: prediction: the percent of each row."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    cell = max(2, min(34, MAX_CONFUSION // len(names)))  # pixels
    blue = 255 - shares[..., None] * (255 - np.array([30, 90, 170]))
    img = np.kron(blue, np.ones((cell, cell, 1))).astype(np.uint8)
    if cell < 20:  # no room for text
        return img
    for row, column in np.argwhere(shares >= 0.005).tolist():
        ink = (255, 255, 255) if shares[row, column] > 0.5 else (60, 60, 60)
        place = column * cell + cell // 2 - 11, row * cell + cell // 2 + 4
        write_text(img, f'{shares[row, column] * 100:.0f}', place, ink)
    width = 12 + 8 * max(map(len, names))
    labels = np.full((len(img), width, 3), 255, np.uint8)
    for row, name in enumerate(names):
        write_text(labels, name, (4, row * cell + cell // 2 + 4))
    corner = np.full((width, width, 3), 255, np.uint8)
    return np.vstack([np.hstack([corner, np.rot90(labels)]), np.hstack([labels, img])])
