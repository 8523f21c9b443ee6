"""Prediction of a large image in overlapping tiles, blended."""

import torch

from utils.errors import UserError


def predict_tiles(step, img, size, overlap):
    """The output (1,C,H,W) of `step`, (1,3,h,w) -> (1,C,h,w), for the image (1,3,H,W) in tiles.

    Of a tile's edge inside the image, overlap / 4 pixels are not used, and the next overlap / 2
    fade in. So the result is that of the whole image for a network that sees no farther than
    overlap / 4 pixels. A tile at the image's border is moved inside; a smaller image is one tile.
    """
    height, width = img.shape[-2:]
    total, weights = None, torch.zeros(height, width, device=img.device)
    for top, rows in list_tiles(height, size, overlap, img.device):
        for left, columns in list_tiles(width, size, overlap, img.device):
            window = rows[:, None] * columns
            place = slice(top, top + len(rows)), slice(left, left + len(columns))
            pred = step(img[..., place[0], place[1]])
            if pred.shape[-2:] != window.shape:
                expected = "expected a map of the tile's size from the model"
                raise UserError(f'--tile: {expected}, got {tuple(pred.shape)}: leave it out')
            if total is None:
                total = torch.zeros(1, pred.shape[1], height, width, device=img.device)
            total[..., place[0], place[1]] += pred * window
            weights[place] += window
    return total / weights


def list_tiles(length, size, overlap, device):
    """[(start, weights of its pixels)] of the tiles along one side of an image."""
    size = min(size, length)
    last = length - size
    starts = [*range(0, last, size - overlap), last] if last else [0]
    inner = torch.arange(size, device=device) + 0.5 - overlap / 4
    fade = (inner / max(overlap / 2, 0.5)).clamp(0, 1)
    ones = torch.ones(size, device=device)
    return [
        (start, (fade if start else ones) * (fade.flip(0) if start < last else ones))
        for start in starts
    ]
