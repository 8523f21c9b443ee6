"""Files to arrays: the one place that knows colour order, bit depth and rotation.

Pillow reads both images and labels, so the same rule holds for both, palettes stay indices, and a
truncated or broken file is an error instead of a half-grey picture.
"""

from contextlib import contextmanager

import numpy as np
from PIL import Image, ImageOps

from utils.errors import UserError, one_line


def read_image(path):
    """(H,W,3) uint8 RGB, upright; grey, palette and RGBA images become RGB.

    UserError when the file is broken, no image, or has more than 8 bits a channel.
    """
    with open_image(path) as img:
        if img.mode in ('I', 'F') or is_16_bit(img):
            raise UserError(f'{path} has more than 8 bits a channel; convert it to 8 bits')
        return np.array(decode(img, path).convert('RGB'))


def read_label(path):
    """(H,W) uint8 class indices, upright.

    UserError when the file is broken, a JPEG, a picture in colours, or has more than 8 bits.
    """
    with open_image(path) as img:
        if img.format == 'JPEG':
            raise UserError(f'label {path} is a JPEG, which smears class indices; use PNG')
        if is_16_bit(img):
            raise UserError(f'label {path} has 16 bits, expected class indices in 8 bits')
        if img.mode not in ('L', 'P', '1'):
            raise UserError(f'label {path} holds colours ({img.mode}), expected class indices')
        return np.array(decode(img, path), dtype=np.uint8)


@contextmanager
def open_image(path):
    """The file's header as a PIL image; pixels are not read yet."""
    try:
        img = Image.open(path)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f'{path} is not an image that can be read: {one_line(error)}') from error
    with img:
        yield img


def count_pixels(path):
    """An image's height times its width, from its header."""
    with open_image(path) as img:
        return img.height * img.width


def is_16_bit(img):
    """True for 16 bits a channel; PIL would hand out only the upper 8 of an RGB image's."""
    return img.mode.startswith('I;16') or any(';16' in str(tile[3]) for tile in img.tile)


def decode(img, path):
    """The pixels of an opened image, turned upright as its EXIF tag says."""
    try:
        img.load()
        return ImageOps.exif_transpose(img)
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f'{path} is damaged: {one_line(error)}') from error
