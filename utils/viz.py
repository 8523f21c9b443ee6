"""Pictures of images, predictions and labels. All are (H,W,3) uint8 RGB."""

from pathlib import Path

import cv2
import numpy as np

from utils.classes import default_palette, get_class_names, get_palette
from utils.torch_utils import denormalize

WRONG, RIGHT, MISSING = (220, 50, 40), (235, 235, 235), (0, 0, 0)
LABEL_COLOUR, PRED_COLOUR = (60, 200, 60), WRONG  # of points and captions


def gen_imgs_to_write(pred, batch, args):
    """{name: picture} of a batch's first sample, all of one size.

    Classes of a map and numbers of a map are shown as 'img', 'pred', 'label', 'error'; a class as a
    caption, points (K,2) as rings, x and y in pixels of the image; anything else as the image.
    """
    img = denormalize(batch['img'][0]).permute(1, 2, 0).cpu().numpy()
    pred, label = pred[0].float().cpu().numpy(), batch['label'][0].cpu().numpy()
    if label.ndim == 2 and label.shape[1] == 2 and pred.size == label.size:
        return {'img': draw_points(img, pred.reshape(label.shape), label)}
    if label.ndim == 0 and label.dtype.kind != 'f' and pred.ndim == 1:
        return {'img': draw_caption(img, find_classes(pred), label, get_class_names(args))}
    if label.ndim != 2 or pred.ndim != 3:
        return {'img': img}
    imgs = {'img': cv2.resize(img, label.shape[::-1], interpolation=cv2.INTER_LINEAR)}
    is_numbers = label.dtype.kind == 'f'
    return imgs | (draw_numbers(pred[0], label) if is_numbers else draw_classes(pred, label, args))


def find_classes(pred):
    """Class indices of (C,...) logits; of a single logit 1 where it is positive."""
    return (pred[0] > 0) if len(pred) == 1 else pred.argmax(0)


def draw_classes(pred, label, args):
    """'pred', 'label' and 'error' of (C,H,W) logits and (H,W) class indices."""
    classes, palette = find_classes(pred), get_palette(args)
    error = np.full((*label.shape, 3), RIGHT, np.uint8)
    error[classes != label] = WRONG
    error[label == args.ignore_index] = palette[args.ignore_index % 256]
    return {'pred': label2rgb(classes, palette), 'label': label2rgb(label, palette), 'error': error}


def draw_numbers(pred, label):
    """'pred', 'label' and 'error' of two (H,W) maps of numbers, in the colours of one range.

    Where the label is nan it is black; the error's range starts at 0.
    """
    low, high = (np.nan_to_num(f(label), nan=0.0) for f in (np.nanmin, np.nanmax))
    error = np.abs(pred - label)
    imgs = {'pred': map_colours(pred, low, high), 'label': map_colours(label, low, high)}
    return imgs | {'error': map_colours(error, 0, np.nan_to_num(np.nanmax(error), nan=0.0))}


def map_colours(values, low, high):
    """(H,W) numbers as colours between low (dark blue) and high (yellow); nan is black."""
    shares = np.nan_to_num((values - low) / max(high - low, 1e-9), nan=0.0).clip(0, 1)
    img = cv2.applyColorMap((shares * 255).astype(np.uint8), cv2.COLORMAP_VIRIDIS)[..., ::-1].copy()
    img[np.isnan(values)] = MISSING
    return img


def draw_caption(img, pred, label, names):
    """The image, twice as large if it is small, with the predicted and the true class below."""
    scale = max(1, round(160 / img.shape[1]))
    img = cv2.resize(img, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
    canvas = np.full((img.shape[0] + 36, img.shape[1], 3), 255, np.uint8)
    canvas[: img.shape[0]] = img
    texts = {'pred': int(pred), 'label': int(label)}
    for row, (title, i) in enumerate(texts.items()):
        text = f'{title}: {names[i] if i < len(names) else i}'
        colour = (0, 120, 0) if int(pred) == int(label) or title == 'label' else WRONG
        place = (4, img.shape[0] + 15 + 16 * row)
        cv2.putText(canvas, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.45, colour, 1, cv2.LINE_AA)
    return canvas


def draw_points(img, pred, label):
    """The image with rings: green for the label's points, red for the predicted ones."""
    img = np.ascontiguousarray(img)
    radius = max(2, img.shape[0] // 40)
    for points, colour in ((label, LABEL_COLOUR), (pred, PRED_COLOUR)):
        for x, y in np.nan_to_num(points, nan=-1e4).round().clip(-1e4, 1e4).astype(int):
            cv2.circle(img, (int(x), int(y)), radius, colour, 1, cv2.LINE_AA)
    return img


def label2rgb(label, palette=None):
    """(H,W) class indices as colours: those of `palette` (256,3), or the default ones."""
    palette = default_palette() if palette is None else palette
    return palette[np.asarray(label, dtype=np.uint8)]


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
