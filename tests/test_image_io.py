"""Files to arrays: depth, palettes, rotation, pages, metadata, and what is refused and how."""

import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from data import image_io
from data.image_io import read_image, read_size, read_values
from utils.errors import UserError

ROOT = Path(__file__).parent.parent
RGB = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
GRAY = RGB[..., 0]
TURNED = {  # what each EXIF orientation makes of stored pixels
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a),
}
NUM_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # per pixel, of the color types of a PNG
BAD_EXIF = b'Exif\0\0II*\0'


def save(path, pixels, mode=None, **options):
    img = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    (img.convert(mode) if mode else img).save(path, **options)
    return path


def write_png(path, rows, bits, color_type=0, chunks=(), late_chunks=()):
    """A PNG of any depth from rows of samples; further chunks come before or after the pixels."""
    height, width = len(rows), len(rows[0]) // NUM_SAMPLES[color_type]
    scanlines = b''
    for row in rows:
        text = ''.join(f'{value:0{bits}b}' for value in row)
        text += '0' * (-len(text) % 8)
        scanlines += b'\0' + int(text, 2).to_bytes(len(text) // 8, 'big')
    header = struct.pack('>IIBBBBB', width, height, bits, color_type, 0, 0, 0)
    pixels = (b'IDAT', zlib.compress(scanlines))
    content = b'\x89PNG\r\n\x1a\n'
    for kind, data in [(b'IHDR', header), *chunks, pixels, *late_chunks, (b'IEND', b'')]:
        check = zlib.crc32(kind + data)
        content += struct.pack('>I', len(data)) + kind + data + struct.pack('>I', check)
    path.write_bytes(content)
    return path


def write_tiff(path, pixels, kind=1, photometric=1, is_big=False, extra=()):
    """An uncompressed TIFF of (H,W,bands) of any dtype; kind is its SampleFormat: 3 is float."""
    height, width, num_bands = pixels.shape
    bits = pixels.dtype.itemsize * 8
    data = pixels.tobytes()
    start = 16 if is_big else 8
    tags = [(256, [width]), (257, [height]), (258, [bits] * num_bands), (259, [1])]
    tags += [(262, [photometric]), (273, [start]), (277, [num_bands]), (278, [height])]
    tags += [(279, [len(data)]), (339, [kind] * num_bands), *extra]
    count, field, room = ('<Q', '<HHQ', 8) if is_big else ('<H', '<HHI', 4)
    entry_size = 4 + 2 * room
    ifd = start + len(data)
    rest_at = ifd + struct.calcsize(count) + entry_size * len(tags) + room
    entries = rest = b''
    for tag, values in sorted(tags):
        packed = struct.pack(f'<{len(values)}I', *values)
        if len(packed) > room:
            place = struct.pack('<Q' if is_big else '<I', rest_at + len(rest))
            rest += packed
        else:
            place = packed.ljust(room, b'\0')
        entries += struct.pack(field, tag, 4, len(values)) + place
    head = (
        struct.pack('<2sHHHQ', b'II', 43, 8, 0, ifd)
        if is_big
        else struct.pack('<2sHI', b'II', 42, ifd)
    )
    table = struct.pack(count, len(tags)) + entries + b'\0' * room
    path.write_bytes(head + data + table + rest)
    return path


def refuse(read, path, *words):
    """Reading ends in a UserError of one line that contains the file's name and every word."""
    with pytest.raises(UserError) as stop:
        read(path)
    message = str(stop.value)
    assert '\n' not in message
    assert path.name in message
    assert all(word in message for word in words), message
    return message


def run_python(code, *args):
    command = [sys.executable, '-c', code, *map(str, args)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)


# Images


@pytest.mark.parametrize('mode', ['L', 'RGBA', 'P', 'LA', '1', 'RGB'])
def test_images_of_6_modes_become_the_same_rgb_as_on_the_screen(tmp_path, mode):
    img = Image.fromarray(RGB).convert(mode)
    pixels = read_image(save(tmp_path / 'a.png', img))
    assert pixels.dtype == np.uint8
    assert pixels.flags.writeable and pixels.flags.c_contiguous
    assert np.array_equal(pixels, np.array(img.convert('RGB')))


@pytest.mark.parametrize(('bits', 'step'), [(1, 255), (2, 85), (4, 17), (8, 1)])
def test_gray_of_1_2_4_and_8_bits_spans_0_to_255_as_an_image(tmp_path, bits, step):
    rows = [[0, 1, 2**bits - 1], [1, 0, 1]]
    pixels = read_image(write_png(tmp_path / 'a.png', rows, bits))
    assert np.array_equal(pixels, np.repeat(np.array(rows)[..., None] * step, 3, axis=2))


def test_colors_come_in_the_order_r_g_b(tmp_path):
    pixels = np.full((4, 4, 3), (200, 100, 50), np.uint8)
    assert read_image(save(tmp_path / 'a.png', pixels))[0, 0].tolist() == [200, 100, 50]


@pytest.mark.parametrize('mode', ['CMYK', 'YCbCr', 'L', 'RGB'])
def test_a_jpeg_of_4_color_spaces_becomes_rgb(tmp_path, mode):
    red = Image.new('RGB', (16, 16), (220, 30, 40)).convert(mode)
    pixels = read_image(save(tmp_path / 'a.jpg', red, quality=95))
    expected = np.array(red.convert('RGB'))[0, 0].astype(int)
    assert np.abs(pixels[8, 8] - expected).max() < 12


def test_a_16_bit_bmp_of_5_6_5_bits_is_an_image_of_at_most_8(tmp_path):
    masks = struct.pack('<III', 0xF800, 0x07E0, 0x001F)
    header = struct.pack('<IiiHHIIiiII', 40, 2, 1, 1, 16, 3, 4, 0, 0, 0, 0)
    content = header + masks + struct.pack('<HH', 0xF800, 0x001F)
    head = struct.pack('<2sIHHI', b'BM', 14 + len(content), 0, 0, 14 + 40 + 12)
    (tmp_path / 'a.bmp').write_bytes(head + content)
    assert read_image(tmp_path / 'a.bmp').tolist() == [[[255, 0, 0], [0, 0, 255]]]


@pytest.mark.parametrize(
    ('num_bands', 'photometric', 'kind', 'dtype', 'words'),
    [
        (1, 1, 1, np.uint16, '16 bits per channel, 1 band;'),
        (3, 2, 1, np.uint16, '16 bits per channel, 3 bands'),
        (4, 2, 1, np.uint16, '16 bits per channel, 4 bands'),
        (4, 1, 1, np.uint16, '16 bits per channel, 4 bands'),  # not known to Pillow
        (13, 1, 1, np.uint16, '16 bits per channel, 13 bands'),
        (1, 1, 2, np.int16, '16 bits per channel, 1 band;'),
        (1, 1, 1, np.uint32, '32 bits per channel, 1 band;'),
        (1, 1, 3, np.float32, '32 bits per channel, 1 band;'),
        (3, 2, 3, np.float32, '32 bits per channel, 3 bands'),
        (1, 1, 3, np.float16, '16 bits per channel, 1 band;'),
        (1, 1, 3, np.float64, '64 bits per channel, 1 band;'),
        (7, 1, 1, np.uint8, '8 bits per channel, 7 bands'),
    ],
)
@pytest.mark.parametrize('is_big', [False, True])
def test_a_tiff_of_more_than_8_bits_or_4_bands_says_both_ways_out(
    tmp_path, num_bands, photometric, kind, dtype, words, is_big
):
    pixels = np.zeros((4, 5, num_bands), dtype)
    path = write_tiff(tmp_path / 'a.tif', pixels, kind, photometric, is_big)
    refuse(read_image, path, words, 'expected 8 bits', 'cv2.imwrite', 'override read_image')
    assert read_size(path) == (4, 5, False)  # for a read_image of one's own


@pytest.mark.parametrize('color_type', [0, 2, 4, 6])
def test_a_16_bit_png_of_4_kinds_is_refused_as_an_image(tmp_path, color_type):
    rows = [[1000] * NUM_SAMPLES[color_type]]
    path = write_png(tmp_path / 'a.png', rows, 16, color_type)
    refuse(read_image, path, '16 bits per channel', 'override read_image')


@pytest.mark.parametrize('magic', ['P2', 'P3', 'P5', 'P6'])
def test_a_ppm_with_a_largest_value_of_65535_is_16_bits(tmp_path, magic):
    path = tmp_path / 'a.ppm'
    body = b' '.join([b'9'] * 3) if magic in ('P2', 'P3') else bytes(6)
    path.write_bytes(f'{magic} 1 1 65535\n'.encode() + body)
    refuse(read_image, path, '16 bits per channel')


@pytest.mark.parametrize('name', ['a.jp2', 'a.j2k'])
def test_a_jpeg_2000_of_16_bits_is_refused_and_one_of_8_is_read(tmp_path, name):
    path = save(tmp_path / name, GRAY.astype(np.uint16) * 200)
    refuse(read_image, path, '16 bits per channel, 1 band')
    path = save(tmp_path / name, RGB)
    assert np.array_equal(read_image(path), RGB)
    content = bytearray(path.read_bytes())
    content[content.index(b'\xff\x4f\xff\x51') + 42] = 11  # says 12 bits
    path.write_bytes(content)
    refuse(read_image, path, '12 bits per channel, 3 bands')


def test_the_line_of_the_message_converts_16_bits_in_4_bands_to_8(tmp_path, monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 4096, (4, 5, 4)).astype(np.uint16)
    path = write_tiff(tmp_path / 'a.tif', pixels, photometric=2)
    line = refuse(read_image, path).split('`')[1]
    monkeypatch.chdir(tmp_path)
    exec(line, {'cv2': cv2, 'LARGEST': 4095})
    expected = (pixels[..., :3] * (255 / 4095)).round()
    assert np.abs(read_image(tmp_path / 'a.png') - expected).max() <= 1


# Broken files


@pytest.mark.parametrize('suffix', ['png', 'jpg', 'tif', 'bmp', 'webp', 'gif'])
def test_a_file_cut_in_half_is_damaged_or_no_image_in_6_formats(tmp_path, suffix):
    path = save(tmp_path / f'a.{suffix}', np.tile(RGB, (20, 20, 1)))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match=r'is damaged|is not an image') as stop:
        read_image(path)
    assert '\n' not in str(stop.value)


def test_a_flipped_bit_in_a_png_is_damage(tmp_path):
    path = save(tmp_path / 'a.png', RGB)
    content = bytearray(path.read_bytes())
    content[-30] ^= 1
    path.write_bytes(content)
    refuse(read_image, path, 'is damaged')
    refuse(read_values, path, 'is damaged')


def test_a_web_page_an_empty_a_missing_file_and_a_directory_say_what_they_are(tmp_path):
    (tmp_path / 'page.jpg').write_text('<html>not found</html>')
    (tmp_path / 'empty.png').touch()
    (tmp_path / 'folder.png').mkdir()
    for read in (read_image, read_values, read_size):
        refuse(read, tmp_path / 'page.jpg', 'is not an image')
        refuse(read, tmp_path / 'empty.png', 'is empty')
        refuse(read, tmp_path / 'missing.png', 'does not exist')
        refuse(read, tmp_path / 'folder.png', 'is a directory')


@pytest.mark.slow
@pytest.mark.filterwarnings('ignore')
def test_500_files_with_random_bytes_end_in_a_line_or_an_image(tmp_path):
    rng = np.random.default_rng(0)
    for suffix in ('png', 'jpg', 'tif', 'gif', 'webp'):
        whole = save(tmp_path / f'whole.{suffix}', RGB).read_bytes()
        for _ in range(100):
            content = np.frombuffer(whole, np.uint8).copy()
            content[rng.integers(0, min(len(content), 200), 4)] = rng.integers(0, 256, 4)
            path = tmp_path / f'spoiled.{suffix}'
            path.write_bytes(content[: rng.integers(1, 2 * len(content))].tobytes())
            for read in (read_image, read_values, read_size):
                try:
                    read(path)
                except UserError as error:
                    assert '\n' not in str(error)


# Pages and size


def test_a_tiff_with_30_pages_is_refused_as_image_and_as_label(tmp_path):
    pages = [Image.fromarray(GRAY)] * 30
    path = save(tmp_path / 'a.tif', pages[0], save_all=True, append_images=pages[1:])
    words = '30 pages, expected one: save one file per page'
    refuse(read_image, path, words)
    refuse(read_values, path, words)


@pytest.mark.parametrize('suffix', ['gif', 'png', 'webp'])
def test_an_animation_of_3_frames_is_refused_in_3_formats(tmp_path, suffix):
    frames = [Image.fromarray(np.roll(RGB, i, axis=0)) for i in range(3)]
    path = tmp_path / f'a.{suffix}'
    save(path, frames[0], save_all=True, append_images=frames[1:])
    refuse(read_image, path, '3 pages, expected one')


@pytest.mark.parametrize(('kind', 'is_read'), [(1, True), (4, True), (0, False), (2, False)])
def test_overviews_and_masks_of_a_tiff_are_no_pages(tmp_path, kind, is_read):
    small = Image.fromarray(RGB[::2, ::2].copy())
    path = tmp_path / 'a.tif'
    save(path, RGB, save_all=True, append_images=[small], tiffinfo={254: 7})
    first, second, third = path.read_bytes().split(struct.pack('<HHII', 254, 4, 1, 7))
    tags = [struct.pack('<HHII', 254, 4, 1, value) for value in (0, kind)]
    path.write_bytes(first + tags[0] + second + tags[1] + third)
    if is_read:
        assert np.array_equal(read_image(path), RGB)
    else:
        refuse(read_image, path, '2 pages')


def test_a_photo_with_a_preview_behind_it_is_one_image(tmp_path):
    path = tmp_path / 'a.jpg'
    save(path, RGB, format='MPO', save_all=True, append_images=[Image.fromarray(RGB)])
    assert Image.open(path).format == 'MPO'
    assert read_image(path).shape == RGB.shape
    refuse(read_values, path, 'is a JPEG')


def test_too_many_pixels_say_how_many_the_limit_and_both_ways_out(tmp_path, monkeypatch):
    monkeypatch.setattr(image_io, 'MAX_PIXELS', 47)
    path = save(tmp_path / 'a.png', RGB)
    words = ['6 x 8 = 48 pixels', 'limit is 47', 'cut it into tiles', 'MAX_PIXELS']
    for read in (read_image, read_values, read_size):
        refuse(read, path, *words)
    monkeypatch.setattr(image_io, 'MAX_PIXELS', 48)
    assert read_image(path).shape == (6, 8, 3)


def test_14000_x_13000_pixels_are_refused_before_they_are_read(tmp_path):
    header = struct.pack('>IIBBBBB', 14000, 13000, 8, 0, 0, 0, 0)
    chunk = b'IHDR' + header
    content = b'\x89PNG\r\n\x1a\n' + struct.pack('>I', 13) + chunk
    content += struct.pack('>I', zlib.crc32(chunk)) + struct.pack('>I', 9) + b'IDAT' + bytes(13)
    (tmp_path / 'a.png').write_bytes(content)
    refuse(read_values, tmp_path / 'a.png', '13000 x 14000 = 182,000,000 pixels', '175,000,000')


@pytest.mark.slow
def test_100_million_pixels_are_read_without_a_line_on_stderr(tmp_path):
    path = save(tmp_path / 'a.png', Image.new('1', (10_000, 10_000)))
    code = 'import sys; from data.image_io import read_size; print(read_size(sys.argv[1]))'
    process = run_python(code, path)
    assert process.stdout.strip() == '(10000, 10000, False)'
    assert process.stderr == ''


def test_lossy_webp_labels_are_refused_and_lossless_ones_read(tmp_path):
    assert np.array_equal(read_values(save(tmp_path / 'a.webp', RGB, lossless=True)), RGB)
    with pytest.raises(UserError, match='lossy WebP'):
        read_values(save(tmp_path / 'b.webp', RGB, quality=70))


# EXIF and other metadata


@pytest.mark.parametrize('suffix', ['png', 'jpg', 'tif', 'webp'])
@pytest.mark.parametrize('orientation', TURNED)
def test_each_of_8_exif_orientations_turns_images_labels_and_sizes(tmp_path, suffix, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / f'a.{suffix}', np.tile(RGB, (1, 2, 1)), exif=exif)
    pixels = read_image(path)
    plain = read_image(save(tmp_path / f'b.{suffix}', np.tile(RGB, (1, 2, 1))))
    if suffix == 'jpg':
        assert pixels.shape == TURNED[orientation](plain).shape
    else:
        assert np.array_equal(pixels, TURNED[orientation](plain))
    if suffix in ('png', 'tif'):
        save(path, GRAY, exif=exif)
        assert np.array_equal(read_values(path), TURNED[orientation](GRAY))
    assert read_size(path) == (*read_image(path).shape[:2], orientation > 1)


@pytest.mark.parametrize('mode', ['L', 'P', 'RGB', 'RGBA', '1'])
@pytest.mark.parametrize('compression', [None, 'tiff_lzw'])
def test_a_tiff_of_any_mode_is_turned_once(tmp_path, mode, compression):
    exif = Image.Exif()
    exif[0x0112] = 6
    img = Image.fromarray(RGB).convert(mode)
    path = save(tmp_path / 'a.tif', img, exif=exif, compression=compression)
    assert np.array_equal(read_image(path), np.rot90(np.array(img.convert('RGB')), -1))
    assert read_size(path) == (8, 6, True)


def test_a_turned_16_bit_label_is_turned_too(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    values = GRAY.astype(np.uint16) * 200
    path = save(tmp_path / 'a.png', values, exif=exif)
    assert np.array_equal(read_values(path), np.rot90(values, -1))


@pytest.mark.parametrize(
    ('name', 'options'),
    [('a.jpg', {'dpi': (72, 72)}), ('a.png', {}), ('a.png', {'dpi': (72, 72)}), ('a.webp', {})],
)
def test_malformed_exif_costs_no_pixels_and_warns_once_a_file(tmp_path, capsys, name, options):
    expected = read_image(save(tmp_path / f'good_{name}', RGB, **options))
    paths = [save(tmp_path / f'{i}_{name}', RGB, exif=BAD_EXIF, **options) for i in range(2)]
    for _ in range(3):
        for path in paths:
            assert np.array_equal(read_image(path), expected)
            assert read_size(path) == (6, 8, False)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(line.startswith('warning: ') for line in lines)
    assert all(path.name in line for path, line in zip(paths, lines, strict=True))


def test_exif_whose_end_is_damaged_still_turns_the_image(tmp_path, capsys):
    entry = struct.pack('>HHIHH', 0x0112, 3, 1, 6, 0)
    exif = b'Exif\0\0MM\0*\0\0\0\x08\0\x05' + entry + b'\x01\x02'  # of 5 entries there is one
    path = save(tmp_path / 'a.png', RGB, exif=exif)
    assert np.array_equal(read_image(path), np.rot90(RGB, -1))
    assert capsys.readouterr().err == ''


def test_orientations_0_and_9_turn_nothing(tmp_path):
    for orientation in (0, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        path = save(tmp_path / 'a.png', RGB, exif=exif)
        assert np.array_equal(read_image(path), RGB)
        assert read_size(path) == (6, 8, False)


@pytest.mark.parametrize(
    ('where', 'kind', 'head'),
    [
        ('chunks', b'zTXt', b'note\0\0'),
        ('chunks', b'iTXt', b'note\0\1\0\0\0'),
        ('chunks', b'iCCP', b'profile\0\0'),
        ('late_chunks', b'zTXt', b'note\0\0'),
        ('late_chunks', b'iTXt', b'note\0\1\0\0\0'),
    ],
)
def test_a_png_with_2_mb_of_compressed_metadata_is_read(tmp_path, where, kind, head):
    chunks = {where: [(kind, head + zlib.compress(bytes(2_000_000)))]}
    path = write_png(tmp_path / 'a.png', [[1, 2]], 8, **chunks)
    assert read_values(path).tolist() == [[1, 2]]
    assert read_image(path)[0, 1].tolist() == [2, 2, 2]


def test_odd_metadata_of_a_tiff_puts_nothing_on_stderr(tmp_path):
    path = write_tiff(tmp_path / 'a.tif', GRAY[..., None], extra=[(266, [1, 2]), (296, [2, 2, 2])])
    code = 'import sys; from data.image_io import read_image; read_image(sys.argv[1])'
    assert run_python(code, path).stderr == ''


# Labels


@pytest.mark.parametrize(('bits', 'dtype'), [(1, np.uint8), (2, np.uint8), (4, np.uint8)])
def test_gray_labels_of_1_2_and_4_bits_hold_the_values_that_were_stored(tmp_path, bits, dtype):
    rows = [list(range(2**bits)), list(range(2**bits))[::-1]]
    values = read_values(write_png(tmp_path / 'a.png', rows, bits))
    assert values.dtype == dtype
    assert values.tolist() == rows


@pytest.mark.parametrize('bits', [1, 2, 4, 8])
def test_palette_labels_of_1_2_4_and_8_bits_hold_indices(tmp_path, bits):
    rows = [[0, 1, 1], [1, 0, 2**bits - 1]]
    palette = (b'PLTE', bytes([9, 200, 30] * 2**bits))
    path = write_png(tmp_path / 'a.png', rows, bits, color_type=3, chunks=[palette])
    assert read_values(path).tolist() == rows


def test_a_gif_label_holds_indices(tmp_path):
    label = (GRAY > 100).astype(np.uint8) * 3
    img = Image.fromarray(label)
    img.putpalette([0, 0, 0, 9, 9, 99, 8, 200, 8, 250, 50, 83] + [0] * 756)
    img.info['transparency'] = 0
    path = save(tmp_path / 'a.gif', img, optimize=False)
    assert np.array_equal(read_values(path), label)


def test_a_palette_with_transparency_holds_indices(tmp_path):
    img = Image.fromarray(GRAY % 4)
    img.putpalette(bytes(range(256)) * 3)
    path = save(tmp_path / 'a.png', img, transparency=bytes([0, 9, 99, 255]))
    assert np.array_equal(read_values(path), GRAY % 4)


@pytest.mark.parametrize('suffix', ['png', 'tif'])
def test_16_bit_gray_labels_are_as_stored(tmp_path, suffix):
    values = np.array([[0, 1, 255, 256, 1000, 65535]], np.uint16)
    read = read_values(save(tmp_path / f'a.{suffix}', values))
    assert read.dtype in (np.uint16, np.int32)
    assert read.tolist() == values.tolist()


def test_16_bit_big_endian_labels_come_in_native_byte_order(tmp_path):
    content = struct.pack('>2sHI', b'MM', 42, 12) + struct.pack('>HH', 1, 1000)
    tags = {256: 2, 257: 1, 258: 16, 259: 1, 262: 1, 273: 8, 277: 1, 278: 1, 279: 4}
    content += struct.pack('>H', len(tags))
    content += b''.join(struct.pack('>HHII', tag, 4, 1, value) for tag, value in tags.items())
    (tmp_path / 'a.tif').write_bytes(content + bytes(4))
    values = read_values(tmp_path / 'a.tif')
    assert values.tolist() == [[1, 1000]]
    assert values.dtype.isnative


@pytest.mark.parametrize(('maxval', 'stored'), [(4, [0, 1, 4]), (255, [0, 7, 255])])
@pytest.mark.parametrize('magic', ['P2', 'P5'])
def test_a_pgm_label_holds_stored_values_whatever_its_largest(tmp_path, magic, maxval, stored):
    body = ' '.join(map(str, stored)).encode() if magic == 'P2' else bytes(stored)
    (tmp_path / 'a.pgm').write_bytes(f'{magic} 3 1 {maxval}\n'.encode() + body)
    assert read_values(tmp_path / 'a.pgm').tolist() == [stored]


def test_a_pgm_label_up_to_1000_holds_stored_values(tmp_path):
    (tmp_path / 'a.pgm').write_bytes(b'P5 3 1 1000\n' + struct.pack('>HHH', 0, 7, 1000))
    assert read_values(tmp_path / 'a.pgm').tolist() == [[0, 7, 1000]]


def test_32_bit_and_float_labels_are_as_stored(tmp_path):
    integers = np.array([[-1, 0, 70000]], np.int32)
    read = read_values(write_tiff(tmp_path / 'a.tif', integers[..., None], kind=2))
    assert (read.dtype, read.tolist()) == (np.int32, integers.tolist())
    floats = np.array([[0.5, np.nan, 80.25]], np.float32)
    read = read_values(write_tiff(tmp_path / 'b.tif', floats[..., None], kind=3))
    assert read.dtype == np.float32
    assert np.array_equal(read, floats, equal_nan=True)


@pytest.mark.parametrize('mode', ['RGB', 'RGBA', 'LA'])
def test_labels_whose_channels_are_equal_are_one_channel(tmp_path, mode):
    path = save(tmp_path / 'a.png', GRAY, mode)
    values = read_values(path)
    assert values.shape == (6, 8)
    assert np.array_equal(values, GRAY)


def test_labels_whose_channels_differ_once_are_colors_without_alpha(tmp_path):
    pixels = np.repeat(GRAY[..., None], 3, axis=2)
    pixels[5, 7] = (1, 2, 3)
    alpha = np.dstack([pixels, np.arange(48, dtype=np.uint8).reshape(6, 8)])
    values = read_values(save(tmp_path / 'a.png', alpha))
    assert values.dtype == np.uint8
    assert np.array_equal(values, pixels)


def test_a_gray_rgb_label_stays_colors_if_colors_are_asked_for(tmp_path):
    assert read_values(save(tmp_path / 'a.png', GRAY, 'RGB'), is_color=True).shape == (6, 8, 3)
    assert read_values(save(tmp_path / 'b.png', GRAY), is_color=True).shape == (6, 8)


def test_jpeg_labels_are_refused_as_jpg_and_inside_a_tiff(tmp_path):
    refuse(read_values, save(tmp_path / 'a.jpg', GRAY), 'is a JPEG', 'use PNG')
    path = save(tmp_path / 'a.tif', GRAY, compression='jpeg')
    refuse(read_values, path, 'is a JPEG')


@pytest.mark.parametrize('num_bands', [3, 4])
def test_a_16_bit_label_of_several_bands_is_refused(tmp_path, num_bands):
    path = write_tiff(tmp_path / 'a.tif', np.zeros((2, 3, num_bands), np.uint16), photometric=2)
    refuse(read_values, path, f'16 bits per channel, {num_bands} bands', 'one band', 'RGB')
    path = write_png(tmp_path / 'a.png', [[1000] * num_bands], 16, {3: 2, 4: 6}[num_bands])
    refuse(read_values, path, f'16 bits per channel, {num_bands} bands')


def test_a_size_is_read_without_the_pixels(tmp_path):
    path = save(tmp_path / 'a.png', np.tile(RGB, (50, 50, 1)))
    path.write_bytes(path.read_bytes()[:1000])  # the rest is missing
    assert read_size(path) == (300, 400, False)
