"""Pictures of images, predictions and labels. All are (H,W,3) uint8 RGB."""

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from loss import find_valid
from utils.classes import default_palette, get_class_names, get_palette, name_class
from utils.files import replace_file, write_bytes
from utils.torch_utils import denormalize

WRONG, RIGHT, IGNORED, MISSING = (220, 50, 40), (235, 235, 235), (70, 80, 110), (0, 0, 0)
WHITE, GRAY = (255, 255, 255), (120, 120, 120)
LABEL_COLOR, PRED_COLOR = (60, 200, 60), WRONG  # of points; a right class is green too
MAX_PICTURES = 8  # per epoch and list in TensorBoard
MIN_HEIGHT, MAX_WIDTH = 240, 4000  # pixels: what is smaller is enlarged up to these
LEGEND_WIDTH, LINE_HEIGHT, GAP = 150, 18, 4


def gen_imgs_to_write(pred, batch, args):
    """{name: picture} of a batch's first sample.

    Classes of a map and numbers of a map are shown as 'img', 'pred', 'label', 'error' and 'legend';
    a class as a caption, points (K,2) as rings, x and y in pixels of the image; anything else as
    the image. {} if the image is none (C,H,W).
    """
    if batch['img'].ndim != 4:
        return {}
    img = denormalize(batch['img'][0]).permute(1, 2, 0).cpu().numpy()
    if isinstance(batch['label'], list):
        return {'img': enlarge(img)}
    label, valid = (x[0].cpu().numpy() for x in (batch['label'], find_valid(batch['label'], args)))
    pred = pred[0].float().cpu().numpy()
    if label.ndim == 2 and label.shape[1] == 2 and pred.size == label.size:
        return {'img': draw_points(img, pred.reshape(label.shape), label)}
    if label.ndim == 0 and label.dtype.kind != 'f' and pred.ndim == 1:
        return {'img': draw_caption(img, find_classes(pred), label, get_class_names(args))}
    if label.ndim != 2 or pred.ndim != 3:
        return {'img': enlarge(img)}
    # The image as it is in its file; in training, where it is augmented, as the model sees it.
    full_img = batch['read_full_img']() if 'read_full_img' in batch else None
    img = cv2.resize(img if full_img is None else full_img, label.shape[::-1])
    if label.dtype.kind == 'f':
        imgs, legend = draw_numbers(pred[0], label, valid)
    else:
        imgs, legend = draw_classes(find_classes(pred), label, valid, img, args)
    imgs = {name: enlarge(picture) for name, picture in ({'img': img} | imgs).items()}
    return imgs | {'legend': draw_legend(legend, imgs['img'].shape[0])}


def enlarge(img):
    """The picture, a whole number of times as large if it is small; a long one stays as it is."""
    scale = max(1, min(-(-MIN_HEIGHT // img.shape[0]), MAX_WIDTH // img.shape[1]))
    return cv2.resize(img, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)


def find_classes(pred):
    """Class indices of (C,...) logits; of a single logit 1 where it is positive."""
    return (pred[0] > 0) if len(pred) == 1 else pred.argmax(0)


def draw_classes(classes, label, valid, img, args):
    """'pred' and 'label' over the image and 'error', of (H,W) class indices; and the legend."""
    palette = get_palette(args)
    error = np.full((*label.shape, 3), RIGHT, np.uint8)
    error[classes != label], error[~valid] = WRONG, IGNORED
    label_img = np.where(valid[..., None], mix(img, label2rgb(label, palette)), img)
    imgs = {'pred': mix(img, label2rgb(classes, palette)), 'label': label_img, 'error': error}
    occurring = np.union1d(classes, label[valid])
    legend = {name: palette[i] for i, name in enumerate(get_class_names(args)) if i in occurring}
    return imgs, legend | {'right': RIGHT, 'wrong': WRONG, 'ignored': IGNORED}


def label2rgb(label, palette=None):
    """(H,W) class indices as colors: those of `palette` (number,3), or the default ones."""
    palette = default_palette() if palette is None else palette
    return palette[np.asarray(label).astype(np.int64) % len(palette)]


def mix(img, colors, share=0.6):
    """The colors over the image."""
    return cv2.addWeighted(colors, share, img, 1 - share, 0)


def draw_numbers(pred, label, valid):
    """'pred', 'label' and 'error' of two (H,W) maps of numbers, in the colors of one range; and
    the legend.

    Where the label is not valid it is black; the error's range starts at 0.
    """
    label = np.where(valid, label, np.nan)
    error = np.abs(pred - label)
    (low, high), (_, largest) = get_range(label), get_range(error)
    imgs = {'pred': map_colors(pred, low, high), 'label': map_colors(label, low, high)}
    values = np.linspace(high, low, 5)
    colors = map_colors(values[None], low, high)[0]
    legend = {f'{v:.4g}': color for v, color in zip(values, colors, strict=True)}
    legend |= {'missing': MISSING, f'error: 0 to {largest:.3g}': WHITE}
    return imgs | {'error': map_colors(error, 0, largest)}, legend


def get_range(values):
    """The lowest and the highest finite number; (0, 0) if there is none."""
    known = values[np.isfinite(values)]
    return (float(known.min()), float(known.max())) if known.size else (0.0, 0.0)


def map_colors(values, low, high):
    """(H,W) numbers as colors between low (dark blue) and high (yellow); nan is black."""
    shares = np.nan_to_num((values - low) / max(high - low, 1e-9), nan=0.0).clip(0, 1)
    img = cv2.applyColorMap((shares * 255).astype(np.uint8), cv2.COLORMAP_VIRIDIS)[..., ::-1].copy()
    img[np.isnan(values)] = MISSING
    return img


def draw_legend(legend, height):
    """A picture of {name: color}, as many as there is room for."""
    img = np.full((height, LEGEND_WIDTH, 3), 255, np.uint8)
    room = height // LINE_HEIGHT
    rows = list(legend.items())
    if len(rows) > room:
        rows = [*rows[: room - 1], (f'and {len(rows) - room + 1} more', WHITE)]
    for row, (name, color) in enumerate(rows):
        top = row * LINE_HEIGHT + 4
        cv2.rectangle(img, (4, top), (16, top + 10), [int(c) for c in color], cv2.FILLED)
        write_text(img, name, (22, top + 10))
    return img


def draw_caption(img, pred, label, names):
    """The image with the predicted and the true class below."""
    img = add_border(enlarge(img), bottom=2 * LINE_HEIGHT)
    color = LABEL_COLOR if int(pred) == int(label) else WRONG
    write_text(img, f'pred: {name_class(int(pred), names)}', (4, img.shape[0] - 23), color)
    write_text(img, f'label: {name_class(int(label), names)}', (4, img.shape[0] - 5))
    return img


def draw_points(img, pred, label):
    """The image with rings: green for the label's points, red for the predicted ones."""
    large = enlarge(img)
    scale, radius = large.shape[0] / img.shape[0], max(2, large.shape[0] // 40)
    for points, color in ((label, LABEL_COLOR), (pred, PRED_COLOR)):
        for point in np.nan_to_num(points * scale, nan=-1e4).round().clip(-1e4, 1e4):
            cv2.circle(large, [int(x) for x in point], radius, color, 1, cv2.LINE_AA)
    return large


def caption_panels(imgs, caption):
    """The pictures side by side, with a line of text and their names above."""
    height, panels = max(img.shape[0] for img in imgs.values()), []
    for name, img in imgs.items():
        panels.append(add_border(img, LINE_HEIGHT, height - img.shape[0], right=GAP))
        write_text(panels[-1], name, (4, 13), GRAY)
    img = add_border(np.hstack(panels), LINE_HEIGHT)
    write_text(img, caption, (4, 13))
    return img


def add_border(img, top=0, bottom=0, right=0):
    """The picture with white pixels around it."""
    return cv2.copyMakeBorder(img, top, bottom, 0, right, cv2.BORDER_CONSTANT, value=WHITE)


def write_text(img, text, place, color=(40, 40, 40)):
    """Writes a text whose lower left corner is at `place`, (x, y)."""
    cv2.putText(img, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.42, color, 1, cv2.LINE_AA)


def write_img(path, img):
    """Replaces a file by an RGB picture, in the format of its suffix."""
    write_bytes(path, encode_img(img, Path(path).suffix))


def encode_img(img, suffix):
    """The bytes of a picture file; as JPEG it is small, because TensorBoard's checksum is slow."""
    options = [cv2.IMWRITE_JPEG_QUALITY, 80] if suffix == '.jpg' else []
    return cv2.imencode(suffix, cv2.cvtColor(img, cv2.COLOR_RGB2BGR), options)[1].tobytes()


def write_indices(path, classes, palette):
    """Replaces a PNG file by (H,W) class indices with a palette; 16 bits for over 256."""
    is_deep = classes.max(initial=0) > 255
    img = Image.fromarray(classes.astype(np.uint16 if is_deep else np.uint8))
    if not is_deep:
        img.putpalette(palette[:256].tobytes())
    with replace_file(path, 'wb') as file:
        img.save(file, 'PNG')
