"""The probe: a model's output for a small fixed input, so that a change of the code shows."""

import torch

from utils.errors import one_line, warn_once
from utils.torch_utils import eager_mode, name_device, repeatable_kernels, seed_step, to_device


def gen_probe_batch():
    """A small batch that never changes; edit it if a model needs another kind of input.

    The image is not square, and the label has another size, so that transposing or another way of
    resizing shows as well.
    """
    ramp = torch.arange(3 * 24 * 20)
    img = (ramp * 37 + ramp // 7 * 11) % 256  # no random generator, which a new version may change
    label = torch.zeros(1, 22, 26, dtype=torch.uint8)
    img = img.to(torch.uint8).view(1, 3, 24, 20)
    return {'img': img, 'label': label, 'size': (22, 26), 'name': ['probe']}


@torch.no_grad()
@repeatable_kernels()
def probe_model(step, device, args):
    """{'answer': step(probe batch) on the CPU, 'device': name of the device that computed it}.

    For a model that does not take this input the error is kept instead, and training continues.
    """
    seed_step(0, 0)  # for a model that is stochastic at evaluation; whatever --seed is
    try:
        with eager_mode(args.compile):  # the probe's size is not worth compiling for
            output = step(to_device(gen_probe_batch(), device)).cpu()
    except Exception as error:
        output = f'{type(error).__name__}: {one_line(error)[:200]}; see gen_probe_batch'
        warn_once(f'probe failed, so drift may go unnoticed: {output}')
    return {'answer': output, 'device': name_device(device)}
