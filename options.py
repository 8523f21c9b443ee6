"""Every option. torch is not imported here, so that `--help` answers at once."""

import os
from argparse import Namespace
from pathlib import Path

from utils.arg_parser import Parser, format_value, write_args
from utils.arg_types import fraction, natural, not_negative, positive, positive_int, run_name, seed
from utils.errors import UserError, one_line_errors
from utils.registry import check_names, list_names
from utils.tracking.run_dir import get_test_result_dir, get_train_model_dir  # noqa: F401

# The kinds of options. A new option's name is added to one row.
#   result    what is computed; taken from the checkpoint in evaluation, and a change is drift
#   training  how training goes; a change is drift too
#   file, view    the data (compared by content), what evaluation prints; from the checkpoint too
#   command, name, action    never taken from a checkpoint; action not from args.txt either
KINDS = {
    'result': 'model_type data_type img_size num_classes label_values ignore_index loss '
    'class_weights seed deterministic amp channels_last overfit',
    'training': 'batch_size epochs accum ema optimizer lr momentum beta weight_decay clip_grad '
    'scheduler warmup lr_step lr_decay best_metric early_stop fast_dev_run',
    'file': 'train_list val_list data_root class_names',
    'view': 'num_workers val_batch_size metrics',
    'command': 'load_model_path load_not_strict pretrained gpus compile print_freq viz_freq '
    'result_dir save_viz use_snapshot strict_drift skip_check val_freq save_freq save_steps keep',
    'name': 'save_prefix model_dir',
    'action': 'resume allow_changes replay overwrite',
}
# Options that --resume cannot change, or applies from the next step on. Others of the kinds result
# and training need --allow_changes, unless they are free. --ema cannot be switched on or off.
RESUMED = {
    'impossible': 'model_type num_classes optimizer',
    'applied': 'lr momentum beta weight_decay clip_grad epochs early_stop best_metric val_freq '
    'save_freq save_steps keep',
    'free': 'deterministic channels_last fast_dev_run',
}


def list_options(*kinds):
    """The names of the options of these kinds."""
    return tuple(name for kind in kinds for name in KINDS[kind].split())


INHERITED = list_options('result', 'file', 'view')
COMPARED = list_options('result', 'training')
RESUMED['refused'] = ' '.join(n for n in COMPARED if n not in ' '.join(RESUMED.values()).split())


def parse_common_args(parser):
    """Adds what training and evaluation share."""
    add = parser.add_argument_group('model').add_argument
    add('--model_type', default='base_model', help=list_names('model_type'))
    add('--load_model_path', default='', help='checkpoint to fine-tune, evaluate or run')
    add('--load_not_strict', action='store_true', help='load what matches, report the rest')
    add = parser.add_argument_group('data').add_argument
    add('--data_type', default='list', help=list_names('data_type'))
    add('--val_list', default='', help='validation list, one "image label" per line')
    add('--data_root', default='', help="directory of a list's paths (default: the list's own)")
    size = "size of the model's input (default: that of each image)"
    add('--img_size', type=positive_int, nargs=2, metavar=('H', 'W'), help=size)
    add('--num_classes', type=positive_int, help='output channels, 1 for one logit')
    stored = 'stored values of class 0, 1, ...: 0 255, or pairs 7:0 8:1; others are ignored'
    add('--label_values', nargs='+', metavar='V', help=stored)
    add('--ignore_index', type=int, default=255, help='label value left out of loss and metrics')
    add('--class_names', default='', help='file with one class per line: name, or name R G B')
    add('--num_workers', type=natural, default=2, help='DataLoader workers; 0: main process')
    add('--val_batch_size', type=positive_int, default=1, help='images per validation batch')
    add = parser.add_argument_group('loss and metrics').add_argument
    add('--loss', default='ce', help=list_names('loss'))
    add('--class_weights', type=not_negative, nargs='+', metavar='W', help='of ce, one per class')
    add('--metrics', nargs='+', default=['miou', 'acc', 'mdice'], help=list_names('metrics'))
    add = parser.add_argument_group('machine').add_argument
    add('--gpus', type=natural, nargs='*', help='numbers of GPUs; no number: CPU (default: first)')
    add('--seed', type=seed, default=0, help='random seed')
    add('--deterministic', action='store_true', help='deterministic kernels if any; slower')
    add('--amp', choices=['off', 'bf16', 'fp16'], default='off', help='mixed precision')
    add('--channels_last', action='store_true', help='channels-last memory format')
    add('--compile', action='store_true', help='torch.compile: slow start, faster steps')
    add = parser.add_argument_group('debugging').add_argument
    add('--fast_dev_run', action='store_true', help='2 batches of each list, own run directory')
    overfit = 'train and validate on the first N training images until the score is 0.95; 0: off'
    add('--overfit', type=natural, default=0, metavar='N', help=overfit)
    add = parser.add_argument_group('output').add_argument
    add('--save_prefix', type=run_name, default='pref', help='suffix of the output directory')
    return parser


def parse_train_args(parser):
    """Adds what only training needs to the common options."""
    parse_common_args(parser)
    add = parser.add_argument_group('training').add_argument
    add('--train_list', default='', help='training list, one "image label" per line; required')
    add('--skip_check', action='store_true', help='do not check the lists before training')
    add('--batch_size', type=positive_int, default=8, help='images per optimizer step, all GPUs')
    add('--epochs', type=positive_int, default=20, help='passes over the training list')
    add('--accum', type=positive_int, default=1, help='micro-batches that a batch is split into')
    add('--ema', type=fraction, default=0.0, help='decay of averaged weights to validate; 0: off')
    add('--pretrained', action='store_true', help="torchvision's backbone weights (downloads)")
    add = parser.add_argument_group('optimizer').add_argument
    add('--optimizer', choices=['adamw', 'adam', 'sgd'], default='adamw', help='update rule')
    add('--lr', type=positive, default=3e-3, help='learning rate after warmup')
    add('--momentum', type=fraction, default=0.9, help='momentum of sgd, first beta of adam(w)')
    add('--beta', type=fraction, default=0.999, help='second beta of adam(w)')
    add('--weight_decay', '--weight-decay', '--wd', type=not_negative, default=1e-4, help='decay')
    add('--clip_grad', type=not_negative, default=0.0, help='maximum gradient norm; 0: no limit')
    kinds = ['none', 'cosine', 'poly', 'step']
    add('--scheduler', choices=kinds, default='cosine', help='learning-rate schedule')
    add('--warmup', type=not_negative, default=0.0, help='epochs of linear warmup, such as 0.5')
    add('--lr_step', type=positive_int, default=30, help='epochs per decay of --scheduler step')
    add('--lr_decay', type=positive, default=0.1, help='factor of a decay of --scheduler step')
    add = parser.add_argument_group('run').add_argument
    add('--model_dir', default='', help='default: checkpoints/<model_type>_<save_prefix>')
    add('--resume', action='store_true', help='continue from the newest checkpoint, if any')
    add('--allow_changes', action='store_true', help='with --resume: accept changed options')
    replay = 'run one batch of this run again; print its files, losses and gradient norms'
    add('--replay', type=positive_int, nargs=2, metavar=('EPOCH', 'BATCH'), help=replay)
    add('--overwrite', action='store_true', help='replace the run in the directory')
    add('--print_freq', type=positive_int, default=50, help='print every N steps, and every 10 s')
    add('--viz_freq', type=positive_int, default=50, help='draw every N-th sample, at most 8')
    add('--val_freq', type=natural, default=1, help='validate every N epochs; 0: never')
    add('--save_steps', type=natural, default=0, help='also save last.pth every N steps; 0: off')
    add('--save_freq', type=natural, default=0, help='keep a checkpoint every N epochs; 0: off')
    add('--keep', type=natural, default=3, help='how many of --save_freq are kept; 0: all')
    add('--best_metric', default='', help='score that selects best.pth (default: first metric)')
    add('--early_stop', type=natural, default=0, help='validations without a better score; 0: off')
    return parser


def parse_test_args(parser):
    """Adds what only evaluation needs to the common options."""
    parse_common_args(parser)
    add = parser.add_argument_group('results').add_argument
    add('--result_dir', default='', help='default: <run>/<checkpoint>/<directory>_<list>_<prefix>')
    pictures = 'pictures of the N worst and of N evenly spaced images; without N: 8'
    add('--save_viz', type=natural, nargs='?', const=8, default=0, metavar='N', help=pictures)
    add = parser.add_argument_group('changes since training').add_argument
    add('--use_snapshot', action='store_true', help="run the checkpoint's code, if you trust it")
    add('--strict_drift', action='store_true', help='exit with code 3 if scores may have changed')
    return parser


def get_train_args(argv=None):
    """The options of train.py. A mistake ends the program with one line and exit code 2."""
    with one_line_errors():
        parser = parse_train_args(Parser(description='Train a model.'))
        parser.check_kinds(KINDS)
        return prepare_train_args(parser.parse_args(argv))


def get_test_args(argv=None, parse_args=parse_test_args, description='Evaluate a checkpoint.'):
    """(args, content of the checkpoint), which gives the INHERITED options that are not typed; for
    eval.py, or for another program that runs a checkpoint.
    """
    with one_line_errors():
        parser = parse_args(Parser(description=f'{description} Options left out come from it.'))
        typed = parser.parse_typed(argv)
        if not typed.get('load_model_path'):
            raise UserError('give --load_model_path: the checkpoint to run')
        from utils.checkpoint import load_checkpoint
        from utils.tracking.tracker import advise_snapshot

        checkpoint = load_checkpoint(typed['load_model_path'])
        if typed.get('use_snapshot'):
            return Namespace(**typed), checkpoint  # the original code checks its own options
        stored = parser.parse_stored(checkpoint.get('args', {}), {*INHERITED} - typed.keys())
        if 'val_list' in typed:
            stored['overfit'] = 0  # its few images were those of another list
        args = Namespace(**(parser.get_defaults() | stored | typed))
        with advise_snapshot(checkpoint, typed):
            check_names(args)
        return prepare_test_args(args, needs_list=parse_args is parse_test_args), checkpoint


def prepare_train_args(args):
    """Checks options against each other; returns args with the dependent ones set."""
    if not args.train_list:
        raise UserError('give --train_list; `python -m data.shapes data/demo` draws a demo dataset')
    args.resume = args.resume or bool(args.replay)
    for name in ('overwrite', 'load_model_path'):
        if args.resume and vars(args)[name]:
            both = f'--resume continues a run, --{name} starts a new one'
            raise UserError(f"{both}: give one of them (after @args.txt: --load_model_path '')")
    if args.ignore_index == 255 < (args.num_classes or 0) and not args.resume:
        line = f'--ignore_index 255 is one of the {args.num_classes} classes'
        raise UserError(f'{line}, which would be ignored: give --ignore_index -1 to ignore none')
    if args.overfit:
        args.batch_size = min(args.batch_size, args.overfit - args.overfit % args.accum or 1)
        args.val_list = args.train_list
    if args.batch_size % args.accum:
        raise UserError(f'--accum {args.accum} must divide --batch_size {args.batch_size}')
    if args.fast_dev_run:
        args.epochs, args.val_freq, args.overwrite = 1, 1, not args.resume
    check_names(args)
    return prepare_test_args(args)


def prepare_test_args(args, needs_list=True):
    """The same checks for training and evaluation; returns args. Imports torch."""
    from data.labels import check_label_values
    from utils.torch_utils import select_device

    if os.environ.get('WORLD_SIZE', '1') != '1':
        raise UserError('WORLD_SIZE is set, but this runs as one process: unset WORLD_SIZE')
    if needs_list and not args.val_list:
        raise UserError('give --val_list: the list file to validate on')
    if not args.num_classes:
        raise UserError('give --num_classes: the number of classes, not counting the ignored one')
    if args.class_weights and len(args.class_weights) != args.num_classes:
        raise UserError(f'--class_weights: expected {args.num_classes} numbers, one per class')
    if args.label_values:
        check_label_values(args)
    select_device(args)
    return args


def save_args(args, save_dir, parse_args=parse_train_args):
    """Writes save_dir/args.txt, which `@args.txt` reads back; returns {name: text} of the options
    that are not at their defaults.
    """
    path, parser = Path(save_dir) / 'args.txt', parse_args(Parser())
    train = ['train.py', f'@{path}', '--model_dir', f'{save_dir}_again']
    command = train if parse_args is parse_train_args else ['eval.py', f'@{path}']
    write_args(args, path, parser, KINDS['action'].split(), command)
    return {k: format_value(v) for k, v in parser.get_changed(vars(args)).items()}


if __name__ == '__main__':  # for scripts: prints the run directory of train.py with these options
    with one_line_errors():
        print(get_train_model_dir(parse_train_args(Parser()).parse_args()))
