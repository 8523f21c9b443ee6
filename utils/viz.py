"""Pictures of images, predictions and labels. All are (H,W,3) uint8 RGB."""

import os
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from utils.classes import default_palette, get_class_names, get_palette, name_class
from utils.files import write_bytes
from utils.torch_utils import denormalize

WRONG, RIGHT, IGNORED, MISSING = (220, 50, 40), (235, 235, 235), (70, 80, 110), (0, 0, 0)
LABEL_COLOR, PRED_COLOR = (60, 200, 60), WRONG  # of points and captions
MAX_PICTURES = 8  # per epoch and list in TensorBoard
MIN_HEIGHT, MAX_WIDTH = 240, 4000  # pixels: what is smaller is enlarged up to these
LEGEND_WIDTH, LINE_HEIGHT = 150, 18


def gen_imgs_to_write(pred, batch, args):
    """{name: picture} of a batch's first sample, all of one height.

    Classes of a map and numbers of a map are shown as 'img', 'pred', 'label', 'error' and 'legend';
    a class as a caption, points (K,2) as rings, x and y in pixels of the image; anything else as
    the image.
    """
    img, label = get_img(batch), batch['label'][0].cpu().numpy()
    pred = pred[0].float().cpu().numpy()
    if label.ndim == 2 and label.shape[1] == 2 and pred.size == label.size:
        return {'img': draw_points(img, pred.reshape(label.shape), label)}
    if label.ndim == 0 and label.dtype.kind != 'f' and pred.ndim == 1:
        return {'img': draw_caption(img, find_classes(pred), label, get_class_names(args))}
    if label.ndim != 2 or pred.ndim != 3:
        return {'img': enlarge(img)}
    img = cv2.resize(read_full_img(batch, img), label.shape[::-1], interpolation=cv2.INTER_LINEAR)
    if label.dtype.kind == 'f':
        imgs, legend = draw_numbers(pred[0], label)
    else:
        imgs, legend = draw_classes(pred, label, img, args)
    imgs = {name: enlarge(picture) for name, picture in ({'img': img} | imgs).items()}
    return imgs | {'legend': draw_legend(legend, imgs['img'].shape[0])}


def get_img(batch):
    """The first image of a batch as the model sees it, (H,W,3)."""
    return denormalize(batch['img'][0]).permute(1, 2, 0).cpu().numpy()


def read_full_img(batch, default):
    """The first image as it is in its file; `default` in training, where it is augmented."""
    img = batch['read_full_img']() if 'read_full_img' in batch else None
    return default if img is None else img


def enlarge(img):
    """The picture, a whole number of times as large if it is small."""
    scale = find_scale(img)
    return cv2.resize(img, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)


def find_scale(img):
    """How many times as large a small image is drawn; a long one stays as it is."""
    return max(1, min(-(-MIN_HEIGHT // img.shape[0]), MAX_WIDTH // img.shape[1]))


def find_classes(pred):
    """Class indices of (C,...) logits; of a single logit 1 where it is positive."""
    return (pred[0] > 0) if len(pred) == 1 else pred.argmax(0)


def draw_classes(pred, label, img, args):
    """'pred' and 'label' over the image and 'error', of (C,H,W) logits and (H,W) class indices;
    and the legend.
    """
    classes, palette, is_ignored = find_classes(pred), get_palette(args), label == args.ignore_index
    error = np.full((*label.shape, 3), RIGHT, np.uint8)
    error[classes != label], error[is_ignored] = WRONG, IGNORED
    label_img = np.where(is_ignored[..., None], img, mix(img, label2rgb(label, palette)))
    imgs = {'pred': mix(img, label2rgb(classes, palette)), 'label': label_img, 'error': error}
    occurring = np.union1d(classes, label[~is_ignored])
    legend = {name: palette[i] for i, name in enumerate(get_class_names(args)) if i in occurring}
    return imgs, legend | {'right': RIGHT, 'wrong': WRONG, 'ignored': IGNORED}


def mix(img, colors, share=0.6):
    """The colors over the image."""
    return cv2.addWeighted(colors, share, np.ascontiguousarray(img), 1 - share, 0)


def draw_numbers(pred, label):
    """'pred', 'label' and 'error' of two (H,W) maps of numbers, in the colors of one range; and
    the legend.

    Where the label is nan it is black; the error's range starts at 0.
    """
    low, high = (float(np.nan_to_num(f(label), nan=0.0)) for f in (np.nanmin, np.nanmax))
    error = np.abs(pred - label)
    largest = float(np.nan_to_num(np.nanmax(error), nan=0.0))
    imgs = {'pred': map_colors(pred, low, high), 'label': map_colors(label, low, high)}
    values = np.linspace(high, low, 5)
    colors = map_colors(values[None], low, high)[0]
    legend = {f'{v:.4g}': color for v, color in zip(values, colors, strict=True)}
    legend |= {'missing': MISSING, f'error: 0 to {largest:.3g}': (255, 255, 255)}
    return imgs | {'error': map_colors(error, 0, largest)}, legend


def draw_legend(legend, height):
    """A picture of {name: color}, as many as there is room for."""
    img = np.full((height, LEGEND_WIDTH, 3), 255, np.uint8)
    room = height // LINE_HEIGHT
    rows = list(legend.items())
    if len(rows) > room:
        rows = [*rows[: room - 1], (f'and {len(rows) - room + 1} more', (255, 255, 255))]
    for row, (name, color) in enumerate(rows):
        top = row * LINE_HEIGHT + 4
        cv2.rectangle(img, (4, top), (16, top + 10), [int(c) for c in color], cv2.FILLED)
        write_text(img, name, (22, top + 10))
    return img


def map_colors(values, low, high):
    """(H,W) numbers as colors between low (dark blue) and high (yellow); nan is black."""
    shares = np.nan_to_num((values - low) / max(high - low, 1e-9), nan=0.0).clip(0, 1)
    img = cv2.applyColorMap((shares * 255).astype(np.uint8), cv2.COLORMAP_VIRIDIS)[..., ::-1].copy()
    img[np.isnan(values)] = MISSING
    return img


def draw_caption(img, pred, label, names):
    """The image with the predicted and the true class below."""
    img = enlarge(img)
    canvas = np.full((img.shape[0] + 36, img.shape[1], 3), 255, np.uint8)
    canvas[: img.shape[0]] = img
    texts = {'pred': int(pred), 'label': int(label)}
    for row, (title, i) in enumerate(texts.items()):
        text = f'{title}: {name_class(i, names)}'
        color = (0, 120, 0) if int(pred) == int(label) or title == 'label' else WRONG
        write_text(canvas, text, (4, img.shape[0] + 15 + 16 * row), color)
    return canvas


def draw_points(img, pred, label):
    """The image with rings: green for the label's points, red for the predicted ones."""
    scale, img = find_scale(img), np.ascontiguousarray(enlarge(img))
    radius = max(2, img.shape[0] // 40)
    for points, color in ((label, LABEL_COLOR), (pred, PRED_COLOR)):
        for x, y in np.nan_to_num(points * scale, nan=-1e4).round().clip(-1e4, 1e4).astype(int):
            cv2.circle(img, (int(x), int(y)), radius, color, 1, cv2.LINE_AA)
    return img


def label2rgb(label, palette=None):
    """(H,W) class indices as colors: those of `palette` (number,3), or the default ones."""
    palette = default_palette() if palette is None else palette
    return palette[np.asarray(label).astype(np.int64) % len(palette)]


def join_panels(imgs, gap=4):
    """The pictures of gen_imgs_to_write side by side, a white gap between them."""
    height = max(img.shape[0] for img in imgs.values())
    white = np.full((height, gap, 3), 255, np.uint8)
    parts = [part for img in imgs.values() for part in (img, white)]
    return np.concatenate(parts[:-1], axis=1)


def caption_panels(imgs, caption, gap=4):
    """The same, with a line of text and the name of each picture above."""
    panels = join_panels(imgs, gap)
    heading = np.full((2 * LINE_HEIGHT, panels.shape[1], 3), 255, np.uint8)
    write_text(heading, caption, (4, 13))
    left = 0
    for name, img in imgs.items():
        write_text(heading, name, (left + 4, LINE_HEIGHT + 13), (120, 120, 120))
        left += img.shape[1] + gap
    return np.concatenate([heading, panels])


def write_text(img, text, place, color=(40, 40, 40)):
    """Writes a text whose lower left corner is at `place`, (x, y)."""
    cv2.putText(img, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.42, color, 1, cv2.LINE_AA)


def panel_name(name):
    """The name of a sample's panel without suffix, from its whole name: 'a/1.jpg' -> 'a_1'."""
    stem = '_'.join(part for part in Path(name).with_suffix('').parts if part not in '/..')
    return os.fsencode(stem)[-180:].decode(errors='ignore')  # file names have at most 255 bytes


def encode_img(img, suffix='.png'):
    """The bytes of a picture file."""
    return cv2.imencode(suffix, cv2.cvtColor(img, cv2.COLOR_RGB2BGR))[1].tobytes()


def encode_indices(classes, palette):
    """The bytes of a PNG file of (H,W) class indices with a palette; 16 bits for over 256."""
    is_deep = classes.max(initial=0) > 255
    img = Image.fromarray(classes.astype(np.uint16 if is_deep else np.uint8))
    if not is_deep:
        img.putpalette(palette[:256].tobytes())
    img.save(file := BytesIO(), 'PNG')
    return file.getvalue()


def encode_npy(array, dtype=np.float32):
    """The bytes of a .npy file."""
    np.save(file := BytesIO(), array.astype(dtype))
    return file.getvalue()


def write_img(path, img):
    """Replaces a file by an RGB picture, in the format of its suffix."""
    write_bytes(path, encode_img(img, Path(path).suffix))
