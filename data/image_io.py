"""Files to arrays: the one place that knows colour order, bit depth and rotation. Pillow reads
images and labels alike, so palettes stay indices and damaged files are errors, not half grey.
"""

import re
import struct
import sys
import warnings
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin, TiffImagePlugin

from utils.errors import UserError, check_readable, one_line, plural

MAX_PIXELS = 175_000_000  # of one file, 0.5 GB as RGB; raise it if there is memory for more
Image.MAX_IMAGE_PIXELS = None  # Pillow's own limit
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY = 2**28  # bytes; ICC profiles too
FAULTS = (OSError, SyntaxError, ValueError, LookupError, TypeError, RuntimeError, struct.error)
TURNS = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}  # EXIF orientation: Image.Transpose
REMEDIES = {
    'image': 'expected 8 bits and 1, 3 or 4 bands; convert it, as in '
    "`cv2.imwrite('a.png', cv2.imread('a.tif', -1) * (255 / LARGEST))` with the LARGEST value of "
    'the dataset, or override read_image in a dataset of your own to keep every bit',
    'label': 'expected class indices in one band, or RGB colours of 8 bits; save it as such',
}
print_once = cache(print)


def read_image(path):
    """(H,W,3) uint8 RGB, upright; grey, palette, RGBA and CMYK images become RGB.

    UserError when the file is broken, no image, too large, has several pages or more than 8 bits.
    """
    with open_image(path, 'image') as img:
        return decode(img, path, 'RGB')


def read_values(path, is_colour=False):
    """What a label file stores, upright: (H,W) uint8, uint16, int32 or float32, of a palette or a
    GIF the indices; (H,W,3) uint8 RGB if channels differ or, with is_colour, of any RGB file.

    UserError as for read_image, but one band may have 16 or 32 bits; no JPEG.
    """
    with open_image(path, 'label') as img:
        if img.format in ('JPEG', 'MPO') or img.info.get('compression') == 'jpeg':
            raise UserError(f'label {path} is a JPEG, which smears class indices; use PNG')
        largest, num_bands = find_depth(img, path)[0], len(img.getbands())
        values = decode(img, path, 'RGB' if num_bands > 2 else img.mode)
    full = 255 if largest < 256 else 65535  # Pillow scales fewer bits to this
    if img.mode in ('L', 'I') and largest < full:
        return ((values.astype(np.int64) * largest + full // 2) // full).astype(values.dtype)
    is_grey = num_bands > 2 and not is_colour and (values[..., :1] == values[..., 1:]).all()
    return values[..., 0].copy() if is_grey or num_bands == 2 else values


def read_size(path):
    """(height, width, has_turn) from the header: the upright size, and whether EXIF turns it."""
    with open_image(path, 'file') as img:
        turn, (width, height) = read_turn(img, path), img.size
        if img.format == 'TIFF':  # some versions of Pillow have swapped img.size
            width, height = img.tag_v2[256], img.tag_v2[257]
    return (width, height, True) if turn > 4 else (height, width, turn > 1)


@contextmanager
def open_image(path, what):
    """The file as a PIL image whose pixels are not read yet; UserError if it cannot be used."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of odd metadata
        try:
            img = Image.open(path)
            fault = find_fault(img, path, what)
        except FAULTS as error:
            check_readable(path, what)
            reason = f'is not an image that can be read: {one_line(error)}'
            raise UserError(f'{path} {find_tiff_fault(path, what) or reason}') from error
        with img:
            if fault:
                raise UserError(f'{what} {path} {fault}')
            yield img


def find_fault(img, path, what):
    """Why an opened file cannot be used as `what`, '' if it can."""
    num_pages = getattr(img, 'n_frames', 1) if img.format not in ('MPO', 'PSD') else 1
    if img.format == 'TIFF' and num_pages > 1:  # without overviews (bit 0) and masks (bit 2)
        kinds = [img.seek(i) or img.tag_v2.get(254, 0) for i in reversed(range(num_pages))]
        num_pages = sum(kind & 5 == 0 for kind in kinds)
    if num_pages > 1:
        return f'has {num_pages} pages, expected one: save one file per page'
    if img.width * img.height > MAX_PIXELS:
        limit = f'limit {MAX_PIXELS:,}: cut it into tiles, or raise MAX_PIXELS in data/image_io.py'
        return f'has {img.height} x {img.width} = {img.height * img.width:,} pixels, {limit}'
    largest, num_bands = find_depth(img, path)
    if largest > 255 and (what == 'image' or what == 'label' and num_bands > 1):
        return describe_depth(largest.bit_length(), num_bands, what)
    return ''


def describe_depth(bits, num_bands, what):
    """'has 16 bits per channel, 4 bands', and the remedy."""
    return f'has {bits} bits per channel, {plural(num_bands, "band")}; {REMEDIES[what]}'


def find_depth(img, path):
    """(largest value a channel can store, number of channels); not in img.mode, because Pillow
    scales 2 and 4 bits up and 16 bits of RGB down.
    """
    if img.format == 'TIFF':
        return 2 ** max(img.tag_v2.get(258, (1,))) - 1, img.tag_v2.get(277, 1)
    codec, _, _, args = tuple(img.tile[0]) if img.tile else ('raw', 0, 0, '')
    stated = re.search(r'\b(?:L|LA|I|RGB|RGBA);(\d+)', f'{args} {img.mode}')
    largest = 2 ** (int(stated[1]) if stated else 32 if img.mode in 'IF' else 8) - 1
    if img.format == 'PPM' and codec != 'raw' and isinstance(args[-1], int):
        largest = args[-1]
    elif img.format == 'JPEG2000':  # bits - 1 is in the 38th byte after the marker
        depth = Path(path).read_bytes().partition(b'\xff\x4f\xff\x51')[2][38] & 127
        largest = max(255, 2 ** (depth + 1) - 1)
    return largest, len(img.getbands())


def find_tiff_fault(path, what):
    """describe_depth of a TIFF that Pillow cannot open; None of any other file."""
    with suppress(*FAULTS), Path(path).open('rb') as file:
        head = file.read(16)
        tags = TiffImagePlugin.ImageFileDirectory_v2(head[:8] if 42 in head[2:4] else head)
        file.seek(tags.next)
        tags.load(file)
        return describe_depth(max(tags[258]), tags.get(277, 1), what)


def decode(img, path, mode):
    """The pixels of an opened image as an array, upright."""
    try:
        img.load()
        turn = 1 if img.format == 'TIFF' else read_turn(img, path)  # Pillow turns a TIFF itself
        img = img.convert(mode) if mode != img.mode else img
        pixels = np.array(img.transpose(TURNS[turn]) if turn > 1 else img)
    except FAULTS as error:
        raise UserError(f'{path} is damaged: {one_line(error)}') from error
    return pixels.astype(np.uint8 if pixels.dtype == bool else pixels.dtype.newbyteorder('='))


def read_turn(img, path):
    """The EXIF orientation, 1 to 8. Metadata never costs pixels: what cannot be read is 1."""
    with warnings.catch_warnings(record=True) as faults:
        warnings.simplefilter('always')
        try:  # not PngImageFile.getexif, which decodes the pixels
            turn = (img.tag_v2 if img.format == 'TIFF' else Image.Image.getexif(img)).get(274)
        except FAULTS as error:
            turn, faults = None, [error]
    if turn is None and faults:
        print_once(f'warning: {path}: damaged EXIF data, so it is not turned', file=sys.stderr)
    return turn if turn in TURNS else 1
