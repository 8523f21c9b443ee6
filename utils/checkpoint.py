"""Checkpoints: one dict of tensors and plain types, written whole or not at all, checked once."""

import math
import warnings
import zipfile

import numpy as np
import torch
from torch.nn.utils import get_total_norm

from utils.checkpoint_check import (
    FORMAT_VERSION,
    check_archive,
    check_growth,
    check_structure,
    explain,
)
from utils.errors import UserError, list_some
from utils.files import check_readable, replace_file

# numpy's scalars and arrays are data, and checkpoints of others hold them, for example as scores.
SCALAR, ARRAY = np.float64(0).__reduce__()[0], np.zeros(1).__reduce__()[0]
NUMPY = [np.dtype, np.ndarray, *(type(np.dtype(kind)) for kind in '?bhilqBHILQefd')]
for package in ('numpy.core', 'numpy._core'):  # before and since numpy 2
    NUMPY += [
        (SCALAR, f'{package}.multiarray.scalar'),
        (ARRAY, f'{package}.multiarray._reconstruct'),
    ]


def save_checkpoint(state, path):
    """Writes `state` to `path`; whatever happens, the old file or the new one is there, whole.

    FloatingPointError if a weight or buffer is not finite: nothing is written then.
    """
    check_weights(state)
    moments = state.get('optimizer', {}).get('state', {}).values()
    parts = [state.get('model', {}), state.get('ema', {}), *moments]
    tensors = [t for part in parts for t in part.values() if torch.is_tensor(t)]
    num_mb = sum({t.data_ptr(): t.nbytes for t in tensors}.values()) / 1e6
    with replace_file(path, 'wb', is_synced=True, what=f'a checkpoint of {num_mb:.1f} MB') as file:
        torch.save({'format_version': FORMAT_VERSION, **state}, file)


def check_weights(state):
    """FloatingPointError if a tensor under 'model' or 'ema' is not finite; waits for a GPU once."""
    tensors = {}  # by their memory: without --ema both hold the same
    for part in ('ema', 'model'):
        for name, tensor in state.get(part, {}).items():
            if tensor.is_floating_point() and tensor.numel():
                tensors[tensor.data_ptr(), tensor.shape] = f'{part}: {name}', tensor
    largest = get_total_norm([tensor for _, tensor in tensors.values()], math.inf)
    if not math.isfinite(largest):
        names = [name for name, tensor in tensors.values() if not tensor.isfinite().all()]
        advice = 'lower --lr or set --clip_grad; a mask of -inf: register_buffer(persistent=False)'
        line = f'not finite, so not saved: {list_some(names)}; earlier checkpoints are intact'
        raise FloatingPointError(f'{line}; {advice}')


def load_checkpoint(path):
    """The dict in a checkpoint file, tensors on the CPU; code that a file may carry never runs.

    UserError if the file is missing, damaged, malformed, not a checkpoint or of a newer format.
    """
    path = check_readable(path, 'checkpoint')
    try:
        if zipfile.is_zipfile(path):
            check_archive(path)
        with torch.serialization.safe_globals(NUMPY), warnings.catch_warnings():
            warnings.simplefilter('ignore')  # about formats: what cannot be read is said below
            state = torch.load(path, map_location='cpu', weights_only=True)
    except (UserError, MemoryError):
        raise
    except Exception as error:
        raise UserError(f'checkpoint {path} cannot be loaded: {explain(path, error)}') from error
    if not isinstance(state, dict):
        raise UserError(f'checkpoint {path} contains a {type(state).__name__}, expected a dict')
    check_growth(state, path)
    return check_structure(state, path)
