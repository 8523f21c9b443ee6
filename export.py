"""A checkpoint as a file that runs without this project: torch.export, or ONNX.

python export.py --load_model_path X [--format pt2 onnx] [--size H W | --dynamic]

The file takes uint8 RGB images (N,3,H,W) and returns the model's output (N,C,...), maps at the size
of the image. It contains facts about the model as JSON:

    facts = {'facts.json': ''}
    model = torch.export.load('best.pt2', extra_files=facts).module()
    onnxruntime.InferenceSession('best.onnx').get_modelmeta().custom_metadata_map['facts']
"""

import itertools
import json
import re
import shlex
import statistics
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from options import get_test_args, parse_common_args
from utils.arg_types import positive_int
from utils.stop import STOP


def parse_export_args(parser):
    """Adds what only exporting needs to the common options."""
    parse_common_args(parser)
    add = parser.add_argument_group('export').add_argument
    add('--format', nargs='+', choices=['pt2', 'onnx'], default=['pt2'], help='file formats')
    size = 'input size (default: --img_size)'
    add('--size', type=positive_int, nargs=2, metavar=('H', 'W'), help=size)
    add('--dynamic', action='store_true', help='accept any number of images of any size')
    add('--output_dir', default='', help="default: the checkpoint's directory")
    return parser


if __name__ == '__main__':
    STOP.catch_signals()
    # Before the rest is imported: --help answers at once.
    ARGS, CHECKPOINT = get_test_args(None, parse_export_args, 'Export a checkpoint.')

import torch
from torch import nn

from data.data_entry import select_eval_loader
from model.model_entry import forward_batch, select_model
from utils.classes import get_class_names
from utils.errors import UserError, one_line, one_line_errors, plural
from utils.exported_file import TOLERANCE, compare, run_file
from utils.files import write_bytes
from utils.model_cost import time_calls
from utils.tracking.run_dir import get_time
from utils.tracking.tracker import print_changed_code
from utils.weights import unwrap

NUM_IMAGES = 4  # that the file and the checkpoint are compared on


class Exported(nn.Module):
    """The model with its preprocessing: uint8 (N,3,H,W) RGB -> (N,C,...), maps at H x W."""

    def __init__(self, model, args):
        super().__init__()
        self.model, self.args = model, args

    def forward(self, img):
        """The output; a map is resized to the image as in evaluation."""
        batch = {'img': img, 'size': img.shape[-2:]}
        return forward_batch(self.model, batch, self.args, keep_larger=True)


def load_images(args):
    """[(1,3,H,W) uint8] real images of the validation list at the size to export; noise if there is
    no such list.
    """
    args.img_size = args.size or args.img_size
    try:
        if not args.val_list:
            raise UserError('give --val_list for these')
        loader = select_eval_loader(args)
        batches = (loader.dataset[0, i]['img'][None] for i in range(len(loader.dataset)))
        images = list(itertools.islice(batches, NUM_IMAGES))
    except UserError as error:
        print(f'compared on noise instead of validation images: {error}', file=sys.stderr)
        size = args.img_size or (256, 256)
        return [torch.randint(0, 256, (1, 3, *size), dtype=torch.uint8)]
    if images[0].is_floating_point():
        raise UserError('the dataset normalizes its images itself: export takes uint8 images')
    return [img for img in images if img.shape == images[0].shape]


def trace(module, img, args):
    """The torch.export program of a module; with --dynamic for any N, H and W."""
    dims = dict.fromkeys((0, 2, 3), torch.export.Dim.AUTO) if args.dynamic else None
    # A blank image, because the file keeps it; two, because a size of 1 would be taken as fixed.
    img = torch.zeros_like(img.repeat(2, 1, 1, 1) if args.dynamic else img)
    try:
        return torch.export.export(module, (img,), dynamic_shapes=(dims,), strict=False)
    except Exception as error:  # of many kinds: what the network does cannot be traced
        hint = '; give --size H W instead of --dynamic' if args.dynamic else ''
        reason = f'{type(error).__name__}: {one_line(error)[:300]}{hint}'
        raise UserError(f'torch.export cannot trace {args.model_type}: {reason}') from error


def save(program, path, facts):
    """Writes the program to a .pt2 or .onnx file."""
    text = json.dumps(facts)
    if path.suffix == '.pt2':
        torch.export.save(program, path, extra_files={'facts.json': text})
        return
    onnx = torch.onnx.export(program, dynamo=True, verbose=False, optimize=True)
    onnx.model.metadata_props['facts'] = text
    onnx.save(path)


@torch.no_grad()
def main(args, checkpoint):
    """Writes a file of each --format, compared with the checkpoint, and says where they are."""
    check_packages(args.format)
    args.gpus, args.amp, args.channels_last, args.compile = [], 'off', False, False
    print_changed_code(checkpoint)
    module = Exported(unwrap(select_model(args, checkpoint)), args).eval()
    images = load_images(args)
    program, checked = trace(module, images[0], args), list(images)
    if args.dynamic:
        checked.append(torch.cat([images[0], images[0]], dim=3).repeat(3, 1, 1, 1))
    expected = [module(img).numpy() for img in checked]
    latency_ms = statistics.median(time_calls(lambda: module(images[0])))
    facts = describe(args, checkpoint, program)
    print(f'input {facts["input"]}, output {tuple(expected[0].shape)} float32')
    for kind in args.format:
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / f'{Path(args.load_model_path).stem}.{kind}'
            save(program, path, facts)
            results, file_ms = run_file(path, checked, Path(directory))
            difference = compare(expected, results)
            if not difference <= TOLERANCE:
                line = f'its outputs differ by {difference:.1e} of the largest one'
                raise UserError(f'{path.name} is not written: {line}, allowed are {TOLERANCE:.0e}')
            target = Path(args.output_dir or Path(args.load_model_path).parent) / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(target, path.read_bytes())
        size = f'{target.stat().st_size / 1e6:.1f} MB'
        same = f'equal to the checkpoint up to {difference:.1e} on {plural(len(images), "image")}'
        print(f'{target}: {size}, {same}, {file_ms:.1f} ms an image (checkpoint {latency_ms:.1f})')


def check_packages(formats):
    """UserError if ONNX is asked for and not installed."""
    missing = [n for n in ('onnx', 'onnxruntime', 'onnxscript') if not find_spec(n)]
    if 'onnx' in formats and missing:
        advice = 'pip install -r requirements-export.txt'
        raise UserError(f'--format onnx needs {", ".join(missing)}: `{advice}`')


def describe(args, checkpoint, program):
    """The facts that the file contains."""
    return {
        'input': f'uint8 RGB {get_input_shape(program)}',
        'classes': get_class_names(args),
        'model_type': args.model_type,
        'checkpoint': args.load_model_path,
        'scores': checkpoint.get('metrics', {}),
        'command': shlex.join(['python', *sys.argv]),
        'date': get_time(),
        'torch': str(torch.__version__),
    }


def get_input_shape(program):
    """'(1, 3, 80, 112)', or '(N, 3, 16*H, 16*W)' where sizes may vary in steps of 16."""
    name = program.graph_signature.user_inputs[0]
    node = next(node for node in program.graph.nodes if node.name == name)
    shape = zip('NCHW', node.meta['val'].shape, strict=True)
    return f'({", ".join(re.sub(r"s[0-9]+", letter, str(size)) for letter, size in shape)})'


if __name__ == '__main__':
    with one_line_errors(), STOP.with_undo():
        main(ARGS, CHECKPOINT)
