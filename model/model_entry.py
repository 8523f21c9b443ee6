"""The models by name, and their forward pass. To add one, write its file and add it to MODELS."""

from contextlib import nullcontext
from pkgutil import resolve_name

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.parameter import is_lazy

from utils.checkpoint import load_checkpoint
from utils.errors import UserError, choose
from utils.torch_utils import normalize, select_device
from utils.tracking.tracker import advise_snapshot
from utils.weights import get_weights, load_match_dict, load_strict

# The folders base, better, best and sota are for sorting; use them as you like.
MODELS = {
    'base_model': 'model.base.unet:UNet',
    'resnet50_fcn': 'model.base.resnet50_fcn:ResNet50FCN',
    'resnet101_fcn': 'model.better.resnet101_fcn:ResNet101FCN',
    'deeplabv3_fcn': 'model.best.deeplabv3_fcn:DeepLabV3',
    'mobilenetv3_fcn': 'model.sota.mobilenetv3_fcn:MobileNetV3',
}
AMP_DTYPES = {'off': torch.float32, 'bf16': torch.bfloat16, 'fp16': torch.float16}


def select_model(args, checkpoint=None):
    """The model of --model_type on its device, with the weights of --load_model_path if given.

    `checkpoint` is the content of that file, if it is loaded already.
    """
    entry = choose(MODELS, args.model_type, '--model_type', 'model/model_entry.py')
    with advise_snapshot(checkpoint):
        model = resolve_name(entry)(args)
        if any(is_lazy(p) for p in model.parameters()):
            advice = 'call the model once in its __init__, or give the layers their sizes'
            raise UserError(f'{args.model_type} has layers of unknown size (Lazy...): {advice}')
        if args.load_model_path:
            load = load_match_dict if args.load_not_strict else load_strict
            weights = get_weights(checkpoint or load_checkpoint(args.load_model_path))
            print(f'{args.load_model_path}: {load(model, weights)}')
    return equip_multi_gpu(model, args)


def equip_multi_gpu(model, args):
    """The model on its device; in DataParallel if --gpus has several."""
    if len(args.gpus or []) > 1 and (args.compile or args.amp == 'bf16'):
        option = '--compile' if args.compile else '--amp bf16'  # replicas would not keep either
        raise UserError(f'{option} needs one GPU: DataParallel does not support it')
    memory_format = torch.channels_last if args.channels_last else torch.contiguous_format
    model = model.to(select_device(args), memory_format=memory_format)
    if args.compile:
        model.compile()  # in place: the weights keep their names
    return nn.DataParallel(model, args.gpus) if len(args.gpus or []) > 1 else model


def forward_batch(model, batch, args, keep_larger=False):
    """The forward pass: pred, float32 (N,C,...). A map (N,C,h,w) is resized to batch['size'], if
    the batch has it; with keep_larger not if it is larger than its image, as in super-resolution.
    uint8 images are normalized here, on the device.
    """
    img = normalize(batch['img'])
    if args.channels_last:
        img = img.contiguous(memory_format=torch.channels_last)
    # Without --amp no context: a disabled autocast stays in the graph of export.py.
    is_mixed, dtype = args.amp != 'off', AMP_DTYPES[args.amp]
    with torch.autocast(img.device.type, dtype) if is_mixed else nullcontext():
        pred = run_model(model, img)
    check_pred(pred, args)
    pred, size = pred.float(), batch.get('size')
    if pred.ndim != 4 or keep_larger and pred.shape[-1] > img.shape[-1]:
        return pred
    if size and pred.shape[-2:] != size:
        pred = F.interpolate(pred, size, mode='bilinear', align_corners=False)
    return pred


def run_model(model, img):
    """The model's output; UserError for BatchNorm of a single value per channel."""
    try:
        return model(img)
    except ValueError as error:
        if 'more than 1 value per channel' not in str(error):
            raise
        advice = 'cannot train on one image: give a larger --batch_size or a smaller --accum'
        raise UserError(f'the BatchNorm of this model {advice}') from error


def check_pred(pred, args):
    """UserError unless a model's output is a tensor with --num_classes channels."""
    if not torch.is_tensor(pred):
        got = f'a dict with {", ".join(pred)}' if isinstance(pred, dict) else type(pred).__name__
        raise UserError(f'{args.model_type}: expected a tensor (N,C,...) from forward, got {got}')
    if pred.ndim < 2 or pred.shape[1] != args.num_classes:
        shapes = f'(N,{args.num_classes},...) from forward, got {tuple(pred.shape)}'
        raise UserError(f'{args.model_type}: expected the shape {shapes}; see --num_classes')
