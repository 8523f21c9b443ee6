"""Random transforms of an image (H,W,3), uint8 RGB or normalized float, and its label map (H,W).

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
    """The same for an image alone, whose label is a class."""
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
        top, left = random.randint(0, missing[0]), random.randint(0, missing[1])
        border = (top, missing[0] - top, left, missing[1] - left, cv2.BORDER_CONSTANT)
        gray = 128 if img.dtype == np.uint8 else 0
        img = cv2.copyMakeBorder(img, *border, value=(gray, gray, gray))
        ignored = np.nan if label.dtype.kind == 'f' else ignore_index
        label = cv2.copyMakeBorder(label, *border, value=ignored)
    top = random.randint(0, img.shape[0] - size[0])
    left = random.randint(0, img.shape[1] - size[1])
    window = np.s_[top : top + size[0], left : left + size[1]]
    return img[window], label[window]


def random_flip(img, label):
    """Both mirrored left to right, half of the time."""
    return (img[:, ::-1], label[:, ::-1]) if random.random() < 0.5 else (img, label)


def random_light(img, contrast=0.15, brightness=15):
    """Contrast around middle gray within +-`contrast`, then brightness within +-`brightness`; a
    float image, which is normalized already, stays as it is.
    """
    if img.dtype != np.uint8:
        return img
    gain = 1 + random.uniform(-contrast, contrast)
    shift = random.uniform(-brightness, brightness)
    table = (np.arange(256) - 128) * gain + 128 + shift
    return cv2.LUT(img, table.round().clip(0, 255).astype(np.uint8))


def resize_image(img, size):
    """The image at (H,W) `size`; shrinking averages, so that fine texture does not alias."""
    if img.shape[:2] == tuple(size):
        return img
    kind = cv2.INTER_AREA if size[0] < img.shape[0] else cv2.INTER_LINEAR
    return cv2.resize(img, size[::-1], interpolation=kind)


def resize_label(label, size):
    """The label at (H,W) `size`, each pixel the value of the nearest."""
    if label.shape[:2] == tuple(size):
        return label
    return cv2.resize(label, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
