"""Random transforms of an image (H,W,C), uint8 RGB or normalized float, and its label map (H,W).

They use `random`, which is seeded for each sample of each epoch.
"""

import random

import cv2
import numpy as np


def augment_pair(img, label, size, ignore_index):
    """Both at (H,W) `size`, with a random crop, flip and brightness."""
    img, label = random_scale_crop(img, label, size, ignore_index)
    img, label = random_flip(img, label)
    return random_light(img), label


def augment_image(img, size):
    """The image as `augment_pair` returns it, for a label that is a class."""
    return augment_pair(img, np.zeros(img.shape[:2], np.uint8), size, 0)[0]


def random_scale_crop(img, label, size, ignore_index, smallest=0.85, largest=1.25):
    """Resizes to `size` times a random scale, then cuts or pads to `size` at a random place.

    Padding is gray, 0 in a normalized float image; its label is ignore_index, nan for floats.
    """
    scale = random.uniform(smallest, largest)
    scaled = [round(side * scale) for side in size]
    img, label = resize_image(img, scaled), resize_label(label, scaled)
    missing = [max(full - side, 0) for full, side in zip(size, scaled, strict=True)]
    if any(missing):
        place = [random.randint(0, side) for side in missing]
        around = [(before, side - before) for before, side in zip(place, missing, strict=True)]
        gray = 128 if img.dtype == np.uint8 else 0
        img = np.pad(img, [*around, (0, 0)], constant_values=gray)
        unknown = np.nan if label.dtype.kind == 'f' else ignore_index
        label = np.pad(label, around, constant_values=unknown)
    top = random.randint(0, img.shape[0] - size[0])
    left = random.randint(0, img.shape[1] - size[1])
    window = np.s_[top : top + size[0], left : left + size[1]]
    return img[window], label[window]


def random_flip(img, label):
    """Both mirrored left to right, half of the time."""
    if random.random() < 0.5:
        return img[:, ::-1].copy(), label[:, ::-1].copy()  # torch takes no negative strides
    return img, label


def random_light(img, contrast=0.15, brightness=15):
    """Contrast around middle gray within +-`contrast`, then brightness within +-`brightness`; a
    float image, which is normalized already, stays as it is.
    """
    if img.dtype != np.uint8:
        return img
    gain = 1 + random.uniform(-contrast, contrast)
    shift = random.uniform(-brightness, brightness)
    table = (np.arange(256) - 128) * gain + 128 + shift
    return cv2.LUT(img, table.round().clip(0, 255).astype(np.uint8)).reshape(img.shape)


def resize_image(img, size):
    """The image at (H,W) `size`; shrinking averages, so that fine texture does not alias."""
    if img.shape[:2] == tuple(size):
        return img
    is_smaller = size[0] * size[1] < img.shape[0] * img.shape[1]
    kind = cv2.INTER_AREA if is_smaller else cv2.INTER_LINEAR
    # In one call if OpenCV can: it averages up to 4 channels, and drops the axis of a single one.
    parts = [img] if img.shape[2] in (2, 3, 4) else np.moveaxis(img, 2, 0)
    return np.dstack([cv2.resize(part, size[::-1], interpolation=kind) for part in parts])


def resize_label(label, size):
    """The label at (H,W) `size`, each pixel the value of the nearest."""
    if label.shape[:2] == tuple(size):
        return label
    return cv2.resize(label, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
