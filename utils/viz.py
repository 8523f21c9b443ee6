"""Pictures of images, predictions and labels. All are (H,W,3) uint8 RGB."""

from pathlib import Path

import cv2
import numpy as np
import torch

from utils.classes import default_palette, get_palette
from utils.torch_utils import denormalize

WRONG, RIGHT = (220, 50, 40), (235, 235, 235)


def label2rgb(label, palette=None):
    """(H,W) class indices as colours: those of `palette` (256,3), or the default ones."""
    palette = default_palette() if palette is None else palette
    return palette[np.asarray(label, dtype=np.uint8)]


def gen_imgs_to_write(pred, batch, args):
    """{'img', 'pred', 'label', 'error': picture} of a batch's first sample, all of one size.

    Only the image for a task whose pred is not (N,C,H,W) with a label (N,H,W).
    """
    img = denormalize(batch['img'][0]).permute(1, 2, 0).cpu().numpy()
    if pred.ndim != 4 or batch['label'].ndim != 3:
        return {'img': img}
    label = batch['label'][0].cpu().numpy()
    classes = pred[0].max(0).indices.to(torch.uint8).cpu().numpy()
    valid = label != args.ignore_index
    error = np.full((*label.shape, 3), RIGHT, np.uint8)
    error[(classes != label) & valid] = WRONG
    palette = get_palette(args)
    error[~valid] = palette[args.ignore_index % 256]
    return {
        'img': cv2.resize(img, label.shape[::-1], interpolation=cv2.INTER_LINEAR),
        'pred': label2rgb(classes, palette),
        'label': label2rgb(label, palette),
        'error': error,
    }


def join_panels(imgs, gap=4):
    """The pictures of gen_imgs_to_write side by side, a white gap between them."""
    height = next(iter(imgs.values())).shape[0]
    white = np.full((height, gap, 3), 255, np.uint8)
    parts = [part for img in imgs.values() for part in (img, white)]
    return np.concatenate(parts[:-1], axis=1)


def panel_name(name):
    """The file name of a sample's panel, from its whole name: 'a/1.jpg' -> 'a_1.png'."""
    return '_'.join(part for part in Path(name).with_suffix('.png').parts if part not in '/..')


def write_img(path, img):
    """Writes an RGB picture; OSError if it fails, which cv2 does not report."""
    if not cv2.imwrite(str(path), cv2.cvtColor(img, cv2.COLOR_RGB2BGR)):
        raise OSError(f'could not write {path}')
