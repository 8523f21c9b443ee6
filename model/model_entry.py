"""The models by name, and how they run. To add one, write its file and add its line here."""

import warnings
from contextlib import nullcontext
from pkgutil import resolve_name

import torch
import torch.nn.functional as F
from torch import nn

from utils.checkpoint import get_weights, load_checkpoint
from utils.errors import UserError, choose, one_line
from utils.torch_utils import (
    load_match_dict,
    load_strict,
    name_device,
    normalize,
    repeatable_kernels,
    seed_step,
    select_device,
    to_device,
)

MODELS = {
    'base_model': 'model.base.unet:UNet',
    'resnet50_fcn': 'model.base.resnet50_fcn:ResNet50FCN',
    'resnet101_fcn': 'model.better.resnet101_fcn:ResNet101FCN',
    'deeplabv3_fcn': 'model.best.deeplabv3_fcn:DeepLabV3',
    'mobilenetv3_fcn': 'model.sota.mobilenetv3_fcn:MobileNetV3',
}
AMP_DTYPES = {'off': torch.float32, 'bf16': torch.bfloat16, 'fp16': torch.float16}


def select_model(args, checkpoint=None):
    """The model of --model_type with the weights of --load_model_path, ready to run.

    `checkpoint` is what that file holds, where the caller has loaded it already.
    """
    entry = choose(MODELS, args.model_type, 'model_type', 'model/model_entry.py')
    model = resolve_name(entry)(args)
    if args.load_model_path:
        load = load_match_dict if args.load_not_strict else load_strict
        weights = get_weights(checkpoint or load_checkpoint(args.load_model_path))
        print(f'{args.load_model_path}: {load(model, weights)}')
    return equip_multi_gpu(model, args)


def equip_multi_gpu(model, args):
    """The model on its device, or spread over the GPUs of --gpus when they are several."""
    memory_format = torch.channels_last if args.channels_last else torch.contiguous_format
    model = model.to(select_device(args), memory_format=memory_format)
    if args.compile:
        model.compile()  # in place: the names of the weights stay as they are
    return nn.DataParallel(model, args.gpus) if len(args.gpus or []) > 1 else model


def forward_batch(model, batch, args):
    """The model's answer to a batch: float32 (N,C,H,W) at the label's size, or (N,C).

    Makes images float and normalises them, on the device; --amp and --channels_last act here.
    """
    img = normalize(batch['img'])
    if args.channels_last:
        img = img.contiguous(memory_format=torch.channels_last)
    with torch.autocast(img.device.type, AMP_DTYPES[args.amp], enabled=args.amp != 'off'):
        pred = model(img)
    check_pred(pred, args)
    pred, label = pred.float(), batch['label']
    if pred.ndim == 4 and pred.shape[-2:] != label.shape[-2:]:
        pred = F.interpolate(pred, label.shape[-2:], mode='bilinear', align_corners=False)
    return pred


def gen_probe_batch():
    """A small batch that is the same for ever; edit it where a model wants another input.

    Neither square nor of the label's size, so that an answer that is transposed or resized in
    another way is noticed too.
    """
    ramp = torch.arange(3 * 24 * 20)
    img = (ramp * 37 + ramp // 7 * 11) % 256  # no generator, which a new version might change
    label = torch.zeros(1, 22, 26, dtype=torch.uint8)
    return {'img': img.to(torch.uint8).view(1, 3, 24, 20), 'label': label, 'name': ['probe']}


@torch.no_grad()
@repeatable_kernels()
def probe_model(model, args):
    """{'answer': the model's answer to the probe, on the CPU, 'device': name of what computed it}.

    A model that does not take this input has its error as the answer: training goes on.
    """
    device = select_device(args)
    seed_step(args.seed, 0)  # for a model that draws when it answers
    try:
        with select_stance(args):
            answer = forward_batch(model.eval(), to_device(gen_probe_batch(), device), args).cpu()
    except Exception as error:
        answer = f'{type(error).__name__}: {one_line(error)[:200]}; see gen_probe_batch'
        warnings.warn(f'no answer to the probe, so drift may go unnoticed: {answer}', stacklevel=1)
    return {'answer': answer, 'device': name_device(device)}


def select_stance(args):
    """Keeps torch.compile from compiling for the probe's size; nothing to do without --compile."""
    return torch.compiler.set_stance('force_eager') if args.compile else nullcontext()


def check_pred(pred, args):
    """UserError when a model's answer is no tensor with --num_classes channels."""
    if not torch.is_tensor(pred):
        got = f'a dict with {", ".join(pred)}' if isinstance(pred, dict) else type(pred).__name__
        raise UserError(f"{args.model_type}'s forward returned {got}, a tensor (N,C,...) is wanted")
    if pred.ndim < 2 or pred.shape[1] != args.num_classes:
        raise UserError(
            f"{args.model_type}'s forward returned the shape {tuple(pred.shape)}, "
            f'(N,{args.num_classes},...) is wanted: see --num_classes'
        )
