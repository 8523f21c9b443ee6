"""`python -m data.shapes DIR` draws a small segmentation dataset: shapes on a textured ground."""

import sys
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

SIZE = (80, 112)  # H, W in pixels
NUM_IMAGES = {'train': 240, 'val': 40}
IGNORED = 255  # the shapes' outlines, where no class is right
# Name and RGB color of each class; a shape in an image has about its class's color.
CLASSES = {
    'background': (60, 60, 60),
    'disc': (220, 60, 50),
    'square': (60, 160, 220),
    'triangle': (90, 190, 80),
    'ring': (240, 190, 50),
}


def draw_sample(rng):
    """One image (H,W,3) uint8 RGB and its label (H,W) uint8."""
    coarse = rng.integers(40, 150, (SIZE[0] // 8, SIZE[1] // 8, 3)).astype(np.float32)
    img = cv2.resize(coarse, SIZE[::-1], interpolation=cv2.INTER_CUBIC)
    label = np.zeros(SIZE, np.uint8)
    colors = list(CLASSES.values())
    for _ in range(rng.integers(2, 5)):
        kind = int(rng.integers(1, len(CLASSES)))
        mask, outline = draw_shape(rng, kind)
        img[mask] = np.array(colors[kind]) + rng.normal(0, 30, 3)
        label[mask], label[outline] = kind, IGNORED
    img += rng.normal(0, 10, img.shape)
    return img.clip(0, 255).astype(np.uint8), label


def draw_shape(rng, kind):
    """Two boolean (H,W) masks: a shape of class `kind` at a random place, and its outline."""
    canvas = np.zeros(SIZE, np.uint8)
    radius = int(rng.integers(10, 24))
    x, y = int(rng.integers(10, SIZE[1] - 10)), int(rng.integers(10, SIZE[0] - 10))
    if kind in (1, 4):
        cv2.circle(canvas, (x, y), radius, 1, -1 if kind == 1 else max(4, radius // 3))
    else:
        num_corners = {2: 4, 3: 3}[kind]
        angles = rng.uniform(0, 2 * np.pi) + np.arange(num_corners) * 2 * np.pi / num_corners
        corners = np.stack([x + radius * np.cos(angles), y + radius * np.sin(angles)], axis=1)
        cv2.fillPoly(canvas, [corners.round().astype(np.int32)], 1)
    outline = cv2.morphologyEx(canvas, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
    return canvas.astype(bool), outline.astype(bool)


def write_set(directory):
    """Writes images, palette-PNG labels, train.txt, val.txt and classes.txt into `directory`."""
    directory = Path(directory)
    palette = np.full((256, 3), 255, np.uint8)
    palette[: len(CLASSES)] = list(CLASSES.values())
    for seed, (split, num_images) in enumerate(NUM_IMAGES.items()):
        rng = np.random.default_rng(seed)
        (directory / split).mkdir(parents=True, exist_ok=True)
        lines = []
        for i in range(num_images):
            img, label = draw_sample(rng)
            names = f'{split}/{i:04d}.png', f'{split}/{i:04d}_label.png'
            Image.fromarray(img).save(directory / names[0])
            label_img = Image.fromarray(label)
            label_img.putpalette(palette.tobytes())
            label_img.save(directory / names[1])
            lines.append(' '.join(names) + '\n')
        (directory / f'{split}.txt').write_text(''.join(lines), encoding='utf-8')
    classes = ''.join(f'{name} {r} {g} {b}\n' for name, (r, g, b) in CLASSES.items())
    (directory / 'classes.txt').write_text(classes, encoding='utf-8')


if __name__ == '__main__':
    if len(sys.argv) != 2 or sys.argv[1].startswith('-'):
        sys.exit('usage: python -m data.shapes DIR')
    write_set(sys.argv[1])
    print(f'drew {sum(NUM_IMAGES.values())} images into {sys.argv[1]}')
