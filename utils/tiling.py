"""Prediction of a large image in overlapping tiles."""

from utils.errors import UserError


def predict_tiles(step, img, size, overlap):
    """The output (1,C,H,W) of `step`, (1,3,h,w) -> (1,C,h,w), for the image (1,3,H,W) in tiles.

    Half of the overlap is taken from each of two tiles, so that the result is that of the whole
    image for a network that sees no farther than overlap / 2 pixels. A tile at the image's border
    is moved inside; a smaller image is one tile.
    """
    height, width = img.shape[-2:]
    output = None
    for top in list_starts(height, size, overlap):
        for left in list_starts(width, size, overlap):
            pred = step(img[..., top : top + size, left : left + size])
            if pred.ndim != 4:
                raise UserError(f'--tile: expected a map from the model, got {tuple(pred.shape)}')
            if output is None:
                output = pred.new_empty(1, pred.shape[1], height, width)
            y, x = (overlap // 2 if start else 0 for start in (top, left))
            output[..., top + y : top + size, left + x : left + size] = pred[..., y:, x:]
    return output


def list_starts(length, size, overlap):
    """Where the tiles along one side of an image start."""
    last = max(length - size, 0)
    return [*range(0, last, size - overlap), last]
