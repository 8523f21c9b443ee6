"""A checkpoint's predictions for images without labels.

python predict.py --load_model_path X IMAGES...   (files, directories, 'globs' or a list)
"""

import sys
from pathlib import Path
from pkgutil import resolve_name

from options import get_test_args, parse_common_args
from utils.arg_types import natural
from utils.stop import STOP


def parse_predict_args(parser):
    """Adds what only prediction needs to the common options."""
    parse_common_args(parser)
    add = parser.add_argument_group('prediction').add_argument
    add('images', nargs='*', metavar='IMAGES', help="files, directories, 'globs' or a list file")
    add('--output_dir', default='', help='default: <run>/<checkpoint>/predictions')
    add('--overlay', action='store_true', help='also write a picture: classes over the image')
    add('--probs', action='store_true', help='also write the probabilities of all classes')
    add('--tile', type=natural, default=0, help='size of tiles of the full-size image; 0: none')
    add('--tile_overlap', type=natural, default=64, help='pixels that neighboring tiles share')
    add('--tta', choices=['none', 'flip'], default='none', help='average with the mirrored image')
    return parser


if __name__ == '__main__':
    STOP.catch_signals()
    # Before the rest is imported: --help answers at once.
    ARGS, CHECKPOINT = get_test_args(None, parse_predict_args, 'Predict images without labels.')

import numpy as np
import torch
from torch.utils.data import Dataset

from data.data_entry import DATASETS
from data.image_files import find_images
from data.loading import make_loader
from loss import REGRESSION
from model.model_entry import forward_batch, select_model
from utils import viz
from utils.classes import get_class_names, get_palette
from utils.errors import UserError, one_line, one_line_errors, plural
from utils.files import replace_file, write_rows
from utils.progress import Progress
from utils.tiling import predict_tiles
from utils.torch_utils import (
    denormalize,
    repeatable_kernels,
    seed_step,
    select_device,
    set_up_torch,
)
from utils.tracking.run_dir import get_results_dir
from utils.tracking.tracker import print_changed_code


class ImageFiles(Dataset):
    """Images prepared as the dataset of --data_type prepares them for evaluation.

    A sample is a batch's, without label; an image that cannot be read is {'name', 'error'}.
    """

    def __init__(self, args, paths):
        self.paths, self.keeps_full = paths, args.overlay
        dataset = resolve_name(DATASETS[args.data_type])
        if not hasattr(dataset, 'without_list'):
            needed = 'derive it from ListDataset, or give it `without_list`, as that has'
            raise UserError(f'--data_type {args.data_type} cannot prepare single images: {needed}')
        self.samples = dataset.without_list(args)

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, i):
        name = str(self.paths[i])
        try:
            full_img = self.samples.read_image(name)
        except (OSError, ValueError) as error:
            return {'name': name, 'error': one_line(error)}
        img, _ = self.samples.transform(full_img, None)
        img = torch.from_numpy(np.ascontiguousarray(img.transpose(2, 0, 1)))
        sample = {'img': img, 'name': name, 'size': full_img.shape[:2]}
        return sample | {'full_img': full_img} if self.keeps_full else sample


@torch.no_grad()
@repeatable_kernels()
def predict_batch(args, model, batch):
    """The output (1,C,...) for a batch of one, in tiles and mirrored as the options say."""

    def step(img):
        size = img.shape[-2:] if args.tile else batch['size']
        return forward_batch(model, batch | {'img': img, 'size': size}, args, keep_larger=True)

    def step_whole(img):
        return predict_tiles(step, img, args.tile, args.tile_overlap) if args.tile else step(img)

    pred = step_whole(batch['img'])
    if args.tta == 'none':
        return pred
    if pred.ndim == 3 or (pred.ndim != 4 and args.loss in REGRESSION):
        got = f'got {tuple(pred.shape)}: leave it out'
        raise UserError(f'--tta flip: expected maps or logits of classes, {got}')
    mirrored = step_whole(batch['img'].flip(-1))
    return (pred + (mirrored.flip(-1) if pred.ndim == 4 else mirrored)) / 2


def write_prediction(pred, batch, args, path):
    """Writes an image's prediction to files named `path` and a suffix; returns its row of
    predictions.csv, {} for a map. Edit it for a task of your own.

    `pred` is float32: (C,H,W) or (C,), logits or, if the loss is in REGRESSION, numbers; (K,2) are
    points. `batch` is a batch of one.
    """
    is_multi_label = args.loss == 'bce' and len(pred) > 1  # a probability per class
    is_numbers = args.loss in REGRESSION or is_multi_label
    pred = torch.from_numpy(pred).sigmoid().numpy() if is_multi_label else pred
    if pred.ndim < 3 and (is_numbers or pred.ndim == 2):
        return {f'value_{i}': f'{value:.6g}' for i, value in enumerate(pred.ravel())}
    if pred.ndim == 1:
        return get_class(pred, args)
    if is_numbers:
        write_npy(f'{path}.npy', pred[0] if len(pred) == 1 else pred)
        picture = viz.map_colors(pred[0], *viz.get_range(pred[0]))
    else:
        classes, palette = np.asarray(viz.find_classes(pred)), get_palette(args)
        viz.write_indices(f'{path}.png', classes, palette)
        if args.probs:
            write_npy(f'{path}_probs.npy', get_probabilities(pred).astype(np.float16))
        picture = viz.label2rgb(classes, palette)
    if args.overlay:
        img = denormalize(batch['full_img'][0].movedim(2, 0)).movedim(0, 2).numpy(force=True)
        viz.write_img(f'{path}_overlay.png', picture if is_numbers else viz.mix(img, picture))
    return {}


def write_npy(path, array):
    """Replaces a .npy file."""
    with replace_file(path, 'wb') as file:
        np.save(file, array)


def get_class(pred, args):
    """The class of (C,) logits, its name and probability; with --probs those of all classes."""
    names, probabilities = get_class_names(args), get_probabilities(pred)
    i = int(probabilities.argmax())
    row = {'class': i, 'name': names[i], 'probability': f'{probabilities[i]:.6f}'}
    shares = zip(names, probabilities, strict=True)
    return row | ({f'p/{name}': f'{p:.6f}' for name, p in shares} if args.probs else {})


def get_probabilities(pred):
    """(C,...) probabilities of (C,...) logits; a single logit means two classes."""
    pred = torch.from_numpy(pred)
    pred = torch.cat([torch.zeros_like(pred), pred]) if len(pred) == 1 else pred
    return pred.softmax(0).numpy()


def main(args, checkpoint):
    """Writes the predictions and says where; returns 1 if an image could not be read."""
    names = find_images(args.images, args.data_root)
    if 0 < args.tile <= args.tile_overlap:
        raise UserError(f'--tile {args.tile} must be more than --tile_overlap {args.tile_overlap}')
    if args.tile and args.img_size:
        size = ' x '.join(map(str, args.img_size))
        line = f"tiles are predicted at the image's own scale, not at --img_size {size} of training"
        print(f'warning: {line}', file=sys.stderr)
        args.img_size = None
    output_dir = Path(args.output_dir or get_results_dir(args) / 'predictions')
    if any(output_dir.resolve() in path.resolve().parents for path in names):
        raise UserError(f'{output_dir} contains images to predict: give another --output_dir')
    set_up_torch(args)
    model = select_model(args, checkpoint).eval()
    print_changed_code(checkpoint)
    images = ImageFiles(args, list(names))
    loader = make_loader(images, args, select_device(args), 1, False, len(names))
    rows, num_bad = [], 0
    for i, batch in enumerate(Progress(loader, 'predict')):
        if 'error' in batch:
            num_bad += 1
            name, error = batch['name'][0], batch['error'][0]
            line = error if name in error else f'{name}: {error}'
            print(f'skipped: {line}', file=sys.stderr, flush=True)
            continue
        seed_step(args.seed, i)  # for a model that is stochastic at evaluation
        pred, name = predict_batch(args, model, batch), batch['name'][0]
        output = output_dir / names[Path(name)]
        output.parent.mkdir(parents=True, exist_ok=True)
        row = write_prediction(pred[0].numpy(force=True), batch, args, output)
        rows.append({'image': name} | row)
    if rows and len(rows[0]) > 1:
        write_rows(output_dir / 'predictions.csv', rows)
    skipped = f', {num_bad} skipped' if num_bad else ''
    print(f'predictions of {plural(len(rows), "image")} in {output_dir}{skipped}')
    return int(num_bad > 0)


if __name__ == '__main__':
    with one_line_errors(), STOP.with_undo():
        sys.exit(main(ARGS, CHECKPOINT))
