"""Files to arrays: the one place that knows color order, bit depth and rotation. Pillow reads
images and labels alike, so palettes stay indices and damaged files are errors, not half gray.
"""

import re
import struct
import warnings
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin, TiffImagePlugin

from utils.errors import UserError, one_line, plural, warn_once
from utils.files import check_readable

MAX_PIXELS = 175_000_000  # of one file, 0.5 GB as RGB; raise it if there is memory for more
Image.MAX_IMAGE_PIXELS = None  # Pillow's own limit
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY = 2**28  # bytes; ICC profiles too
warnings.filterwarnings('ignore', module='PIL')  # odd metadata
FAULTS = (OSError, SyntaxError, ValueError, LookupError, TypeError, RuntimeError, struct.error)
TURNS = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}  # EXIF orientation: Image.Transpose
REMEDIES = {
    'image': 'expected 8 bits and 1, 3 or 4 bands; convert it, as in '
    "`cv2.imwrite('a.png', cv2.imread('a.tif', -1) * (255 / LARGEST))` with the LARGEST value of "
    'the dataset, or override read_image in a dataset of your own to keep every bit',
    'label': 'expected class indices in one band, or RGB colors of 8 bits; save it as such',
}


def read_image(path):
    """(H,W,3) uint8 RGB, upright; UserError for what is broken, too large or deeper than 8 bits."""
    with open_image(path, 'image') as img:
        return decode(img, path, 'RGB')


def read_values(path, is_color=False):
    """What a label file stores, upright: (H,W) uint8, uint16, int32 or float32, of palettes the
    indices; (H,W,3) uint8 RGB if channels differ or, with is_color, of any RGB file. UserError as
    for read_image, and for a JPEG; one band may have 16 or 32 bits.
    """
    with open_image(path, 'label') as img:
        is_lossy_webp = img.format == 'WEBP' and b'VP8 ' in Path(path).read_bytes()[:4096]
        if is_lossy_webp or img.format in ('JPEG', 'MPO') or img.info.get('compression') == 'jpeg':
            kind = 'lossy WebP' if is_lossy_webp else 'JPEG'
            raise UserError(f'label {path} is a {kind}, which smears class indices; use PNG')
        largest, num_bands = find_largest(img), len(img.getbands())
        values = decode(img, path, 'RGB' if num_bands > 2 else img.mode)
    full = 255 if largest < 256 else 65535  # Pillow scales fewer bits up to this
    if img.mode in ('L', 'I') and largest < full:
        return ((values.astype(np.int64) * largest + full // 2) // full).astype(values.dtype)
    is_gray = num_bands > 2 and not is_color and (values[..., :1] == values[..., 1:]).all()
    return values[..., 0].copy() if is_gray or num_bands == 2 else values


def read_size(path):
    """(height, width, has_turn) from the header: the upright size, and whether EXIF turns it."""
    tags = read_tiff_tags(path)
    if tags:  # even if Pillow cannot read the pixels: a custom read_image may
        turn, width, height = tags.get(274), tags[256], tags[257]
    else:
        with open_image(path, 'file') as img:
            turn, (width, height) = read_turn(img), img.size
    return (width, height, True) if turn in (5, 6, 7, 8) else (height, width, turn in TURNS)


def read_mode(path):
    """How the pixels are stored, from the header: 'RGB', 'L' (gray), 'P' (palette), 'RGBA', ..."""
    with open_image(path, 'file') as img:
        return img.mode


@contextmanager
def open_image(path, what):
    """The file as a PIL image whose pixels are not read yet; UserError if it cannot be used."""
    try:
        if tags := read_tiff_tags(path):  # before Pillow calls it no image
            check_depth(path, what, max(tags.get(258, (1,))), tags.get(277, 1))
        img = Image.open(path)
        check_depth(path, what, find_largest(img).bit_length(), len(img.getbands()))
        check_extent(img, path, what)
    except UserError:
        raise
    except FAULTS as error:
        check_readable(path, what)
        raise UserError(f'{path} is not an image that can be read: {one_line(error)}') from error
    with img:
        yield img


def read_tiff_tags(path):
    """The tags of a TIFF's first page; {} of any other file."""
    with suppress(*FAULTS), Path(path).open('rb') as file:
        head = file.read(16)
        tags = TiffImagePlugin.ImageFileDirectory_v2(head[:8] if 42 in head[2:4] else head)
        file.seek(tags.next)
        tags.load(file)
        return tags if 256 in tags and 257 in tags else {}
    return {}


def check_depth(path, what, bits, num_bands):
    """UserError for more than 8 bits, which only the one band of a label may have."""
    max_bits = 8 if what == 'image' or num_bands > 1 else 32
    if what in REMEDIES and (bits > max_bits or num_bands > 4):
        depth = f'{bits} bits per channel, {plural(num_bands, "band")}'
        raise UserError(f'{what} {path} has {depth}; {REMEDIES[what]}')


def find_largest(img):
    """The largest value a channel can store; img.mode hides 2 and 4 bits, and 16 bits of RGB."""
    maxval = re.search(r'ppm.*, (\d+)\)\)\]$', str(img.tile))
    stated = re.search(r'\b(?:L|LA|I|RGB|RGBA);(\d+)', f'{img.tile} {img.mode}')
    bits = int(stated[1]) if stated else 32 if img.mode in 'IF' else 8
    if img.format == 'TIFF':
        bits = max(img.tag_v2.get(258, (1,)))
    elif img.format == 'JPEG2000':
        size = Path(img.filename).read_bytes().partition(b'\xff\x4f\xff\x51')[2]  # its segment
        bits = max(8, (size[38] & 127) + 1)
    return int(maxval[1]) if maxval else 2**bits - 1


def check_extent(img, path, what):
    """UserError for several pages or frames, or too many pixels."""
    num_pages = 1 if img.format in ('MPO', 'PSD') else getattr(img, 'n_frames', 1)
    if img.format == 'TIFF' and num_pages > 1:  # without overviews (bit 0) and masks (bit 2)
        kinds = [img.seek(i) or img.tag_v2.get(254, 0) for i in reversed(range(num_pages))]
        num_pages = sum(kind & 5 == 0 for kind in kinds)
    if num_pages > 1:
        raise UserError(f'{what} {path}: {num_pages} pages, expected one: save one file per page')
    if img.width * img.height > MAX_PIXELS:
        size = f'{img.height} x {img.width} = {img.height * img.width:,} pixels'
        advice = 'cut it into tiles, or raise MAX_PIXELS in data/image_io.py'
        raise UserError(f'{what} {path} has {size}, the limit is {MAX_PIXELS:,}: {advice}')


def decode(img, path, mode):
    """The pixels of an opened image as an array, upright."""
    is_tiff = img.format == 'TIFF'  # which Pillow turns itself
    img.filename = '' if is_tiff else img.filename  # a TIFF mapped to memory is turned wrongly
    try:
        img.load()
        turn = 1 if is_tiff else read_turn(img)
        img = img.convert(mode) if mode != img.mode else img
        pixels = np.array(img.transpose(TURNS[turn]) if turn in TURNS else img)
    except FAULTS as error:
        raise UserError(f'{path} is damaged: {one_line(error)}') from error
    dtype = np.uint8 if pixels.dtype == bool else pixels.dtype.newbyteorder('=')
    return pixels.astype(dtype, copy=False)


def read_turn(img):
    """The EXIF orientation; None, with a warning, if it cannot be read: the pixels are intact."""
    with warnings.catch_warnings(record=True) as faults:
        warnings.simplefilter('always')
        try:  # not PngImageFile.getexif, which decodes the pixels
            turn = Image.Image.getexif(img).get(274)
        except FAULTS as error:
            turn, faults = None, [error]
    if turn is None and faults:
        warn_once(f'{img.filename}: damaged EXIF data, so not turned')
    return turn
