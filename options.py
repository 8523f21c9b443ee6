"""Every option. No torch here: `--help` and a mistyped option answer at once."""

import os
from argparse import Namespace
from pathlib import Path

from utils.arg_parser import (
    Parser,
    any_int,
    fraction,
    natural,
    not_negative,
    plain_name,
    positive,
    positive_int,
    seed_int,
    write_args,
)
from utils.errors import UnknownNameError, UserError, choose, nearest

# What eval.py does not take over from a checkpoint: these belong to one command, not to the model.
NOT_INHERITED = (
    'save_prefix', 'model_dir', 'result_dir', 'load_model_path', 'load_not_strict', 'pretrained',
    'resume', 'overwrite', 'fast_dev_run', 'gpus', 'viz_freq', 'print_freq',
)  # fmt: skip
# What args.txt leaves out: whether to go on or start again is decided each time.
NOT_SAVED = ('resume', 'overwrite')


def parse_common_args(parser):
    """Adds what training and evaluation share."""
    add = parser.add_argument_group('model').add_argument
    add('--model_type', default='base_model', help='a name in model/model_entry.py')
    add('--load_model_path', default='', help='weights to start from, or to score')
    add('--load_not_strict', action='store_true', help='load what fits, say what does not')

    add = parser.add_argument_group('data').add_argument
    add('--data_type', default='list', help='a name in data/data_entry.py; mem_list: all in memory')
    add('--val_list', default='', help='list file to score on, "image label" a line')
    add('--data_root', default='', help="where a list's paths start; blank: beside the list")
    add('--img_size', type=positive_int, nargs=2, metavar=('H', 'W'), help='blank: as on disk')
    add('--num_classes', type=positive_int, help="the model's output channels")
    add('--ignore_index', type=any_int, default=255, help='label value that is never scored')
    add('--class_names', default='', help='file, a class a line: name, or name R G B')
    add('--num_workers', type=natural, default=2, help='loading processes; 0: the main one')
    add('--val_batch_size', type=positive_int, default=1, help='images scored at once')

    add = parser.add_argument_group('scores').add_argument
    add('--loss', default='ce', help='a name in loss.py')
    add('--class_weights', type=not_negative, nargs='+', metavar='W', help='for ce, one a class')
    add('--metrics', nargs='+', default=['miou', 'acc', 'mdice'], help='names in metrics.py')

    add = parser.add_argument_group('machine').add_argument
    add('--gpus', type=natural, nargs='*', help='GPU numbers; blank: the first or CPU; none: CPU')
    add('--seed', type=seed_int, default=0, help='where all randomness starts')
    add('--deterministic', action='store_true', help='same GPU, same numbers; slower')
    add('--amp', choices=['off', 'bf16', 'fp16'], default='off', help='half precision, on GPUs')
    add('--channels_last', action='store_true', help='memory order, faster convolutions')
    add('--compile', action='store_true', help='torch.compile: a slow start, faster steps')

    add = parser.add_argument_group('trying out').add_argument
    add('--fast_dev_run', action='store_true', help='two batches of everything, apart')
    add('--overfit', type=natural, default=0, help='train and score on so many training images')

    add = parser.add_argument_group('output').add_argument
    add('--save_prefix', type=plain_name, default='pref', help='your name for it')
    add('--print_freq', type=positive_int, default=50, help='steps between printed lines')
    add('--viz_freq', type=positive_int, default=50, help='steps, or images, between pictures')
    return parser


def parse_train_args(parser):
    """Adds what only training needs to the common options."""
    parse_common_args(parser)
    add = parser.add_argument_group('training').add_argument
    add('--train_list', default='', help='list file to train on, "image label" a line')
    add('--batch_size', type=positive_int, default=8, help='images a step, over all GPUs')
    add('--epochs', type=positive_int, default=20, help='times through the training list')
    add('--accum', type=positive_int, default=1, help='parts of a batch, to save memory')
    add('--ema', type=fraction, default=0.0, help='decay of averaged weights; 0: off')
    add('--pretrained', action='store_true', help="torchvision's backbone weights (downloads)")

    add = parser.add_argument_group('optimiser').add_argument
    add('--optimizer', choices=['adamw', 'adam', 'sgd'], default='adamw', help='update rule')
    add('--lr', type=positive, default=3e-3, help='learning rate after warm-up')
    add('--momentum', type=fraction, default=0.9, help='momentum of sgd, first beta of adam')
    add('--beta', type=fraction, default=0.999, help='second beta of adam')
    add('--weight-decay', '--wd', type=not_negative, default=1e-4, help='weight decay')
    add('--clip_grad', type=not_negative, default=0.0, help='largest gradient norm; 0: no limit')
    kinds = ['none', 'cosine', 'poly', 'step']
    add('--scheduler', choices=kinds, default='cosine', help='how lr falls, step by step')
    add('--warmup', type=not_negative, default=0.0, help='epochs in which lr climbs from 0')
    add('--lr_step', type=positive_int, default=30, help='epochs between two falls, for step')
    add('--lr_decay', type=positive, default=0.1, help='factor of one fall, for step')

    add = parser.add_argument_group('run').add_argument
    add('--model_dir', default='', help='blank: checkpoints/<model_type>_<save_prefix>')
    add('--resume', action='store_true', help='go on where this run stopped; nothing there: start')
    add('--overwrite', action='store_true', help='throw away the run that the directory holds')
    add('--val_freq', type=natural, default=1, help='epochs between scorings; 0: never')
    add('--save_freq', type=natural, default=0, help='epochs between kept checkpoints; 0: none')
    add('--keep', type=natural, default=3, help='how many of those stay; 0: all')
    add('--best_metric', default='', help='what best.pth is best in; blank: first of --metrics')
    add('--early_stop', type=natural, default=0, help='scorings to wait for a better; 0: off')
    return parser


def parse_test_args(parser):
    """Adds what only evaluation needs to the common options."""
    parse_common_args(parser)
    add = parser.add_argument_group('results').add_argument
    add('--result_dir', default='', help='blank: <run>/<checkpoint>/<val_info>_<save_prefix>')
    add('--save_viz', action='store_true', help='write image | prediction | label | error pictures')
    add = parser.add_argument_group('drift since training').add_argument
    add('--use_snapshot', action='store_true', help="run the checkpoint's own code; trust it first")
    add('--strict_drift', action='store_true', help='exit code 3 when its scores may have changed')
    return parser


def get_train_args(argv=None):
    """The options of train.py from the command line; a mistake ends in one line and exit code 2."""
    parser = parse_train_args(Parser(description='Train a model.'))
    args = parser.parse_args(argv)
    try:
        return prepare_train_args(args)
    except UserError as error:
        return parser.error(error)


def get_test_args(argv=None):
    """The options of eval.py; what was not typed comes from the checkpoint itself."""
    parser = parse_test_args(Parser(description='Score a checkpoint.'))
    typed = parser.parse_args(argv)
    if not typed.load_model_path:
        parser.error('give --load_model_path: the checkpoint to score')
    if typed.use_snapshot:
        return typed  # the checks of that day's code count

    from utils.checkpoint import load_checkpoint
    from utils.drift import advise_snapshot

    try:
        checkpoint = load_checkpoint(typed.load_model_path)
        stored = get_inherited(checkpoint.get('args', {}))
        return prepare_test_args(parser.parse_args(argv, Namespace(**stored)))
    except UnknownNameError as error:
        is_gone = f"'{error.name}'" in str(stored)  # from today's code, not mistyped
        return parser.error(f'{error}{advise_snapshot(checkpoint) if is_gone else ""}')
    except UserError as error:
        return parser.error(error)


def get_inherited(args):
    """Of a dict of options, those that evaluation takes over from a checkpoint."""
    return {name: value for name, value in args.items() if name not in NOT_INHERITED}


def prepare_train_args(args):
    """Checks what no single option can know; returns args with the blanks filled in."""
    if not args.train_list:
        raise UserError('give --train_list; `python -m data.shapes data/demo` draws a small set')
    if args.resume and args.load_model_path:
        both = '--resume goes on with a run, --load_model_path starts one'
        raise UserError(f"{both}: give one of them (after @args.txt: --load_model_path '')")
    if args.batch_size % args.accum:
        raise UserError(f'--accum {args.accum} must divide --batch_size {args.batch_size}')
    if args.fast_dev_run:
        args.epochs, args.overwrite = 1, True
    if args.overfit:
        args.val_list = args.train_list
    if args.best_metric not in ('', 'loss', *args.metrics):
        near = nearest(args.best_metric, args.metrics)
        raise UserError(f"--best_metric '{args.best_metric}' is not among --metrics{near}")
    return prepare_common_args(args)


def prepare_test_args(args):
    """Checks what no single option can know; returns args with the blanks filled in."""
    return prepare_common_args(args)


def prepare_common_args(args):
    """Checks names, devices and sizes that training and evaluation share. Imports torch."""
    if os.environ.get('WORLD_SIZE', '1') != '1':
        raise UserError('WORLD_SIZE is set, but this runs as one process: unset WORLD_SIZE')
    if not args.val_list:
        raise UserError('give --val_list: the list file to score on')
    if not args.num_classes:
        raise UserError('give --num_classes: how many classes there are, the ignored one apart')
    if args.class_weights and len(args.class_weights) != args.num_classes:
        raise UserError(f'--class_weights wants {args.num_classes}, got {len(args.class_weights)}')
    check_names(args)
    return args


def check_names(args):
    """Every name of a registry and every GPU that args holds is known."""
    from data.data_entry import DATASETS
    from loss import LOSSES
    from metrics import METRICS
    from model.model_entry import MODELS
    from utils.torch_utils import select_device

    choose(MODELS, args.model_type, 'model_type', 'model/model_entry.py')
    choose(DATASETS, args.data_type, 'data_type', 'data/data_entry.py')
    choose(LOSSES, args.loss, 'loss', 'loss.py')
    for name in args.metrics:
        choose(METRICS, name, 'metrics', 'metrics.py')
    select_device(args)


def get_train_model_dir(args):
    """The run directory, as a Path; nothing is created."""
    suffix = '_fast_dev_run' if args.fast_dev_run else ''
    model_dir = args.model_dir or f'checkpoints/{args.model_type}_{args.save_prefix}'
    return Path(f'{model_dir}{suffix}')


def get_test_result_dir(args):
    """Where an evaluation's files go, as a Path; nothing is created."""
    if args.result_dir:
        return Path(args.result_dir)
    val_list = Path(args.val_list).absolute()
    val_info = f'{val_list.parent.name}_{val_list.stem}'
    path = Path(args.load_model_path)
    beside = path.with_suffix('') if path.suffix else path.with_name(f'{path.name}_results')
    return beside / f'{val_info}_{args.save_prefix}'


def get_changed_args(args):
    """{name: value} of train.py's options that are not at their defaults."""
    defaults = vars(parse_train_args(Parser()).parse_args([]))
    return {name: value for name, value in vars(args).items() if value != defaults.get(name)}


def save_args(args, save_dir, parse_args=parse_train_args):
    """Writes save_dir/args.txt, which `@args.txt` reads back to the same options."""
    path = Path(save_dir) / 'args.txt'
    train = f'train.py @{path} --model_dir {save_dir}_again'
    command = train if parse_args is parse_train_args else f'eval.py @{path}'
    write_args(args, path, parse_args(Parser()), NOT_SAVED, f'python {command}')


if __name__ == '__main__':  # for scripts: where would train.py with these options put its run?
    print(get_train_model_dir(parse_train_args(Parser()).parse_args()))
