"""Checkpoints: one dict of tensors and plain types, written whole or not at all."""

import re
import zipfile

import torch

from utils.errors import UserError, check_readable, one_line
from utils.files import replace_file

FORMAT_VERSION = 1


def save_checkpoint(state, path):
    """Writes `state` to `path`; whatever happens, the old file or the new one is there, whole."""
    with replace_file(path, 'wb', is_synced=True) as file:
        torch.save({'format_version': FORMAT_VERSION, **state}, file)


def load_checkpoint(path):
    """The dict in a checkpoint file, tensors on the CPU; runs no code that a file may carry.

    UserError when the file is missing, damaged, not a checkpoint or of a newer format. torch.load
    does not look at the checksums that torch.save wrote, so they are looked at here.
    """
    path = check_readable(path, 'checkpoint')
    try:
        damaged = zipfile.ZipFile(path).testzip() if zipfile.is_zipfile(path) else None
        if damaged:
            raise UserError(f'checkpoint {path} is damaged (in {damaged}): use an older one')
        state = torch.load(path, map_location='cpu', weights_only=True)
    except UserError:
        raise
    except Exception as error:
        code = re.search(r'Unsupported \w+: GLOBAL (\S+)', str(error))
        reason = f'it holds code ({code[1]}), which is never run' if code else one_line(error)[:200]
        raise UserError(f'checkpoint {path} cannot be loaded: {reason}') from error
    if not isinstance(state, dict):
        raise UserError(f'checkpoint {path} holds a {type(state).__name__}, a dict is wanted')
    if state.get('format_version', 0) > FORMAT_VERSION:
        raise UserError(f'checkpoint {path} was written by a newer version of this project')
    return state


def get_weights(state):
    """The state dict to score or start from: the averaged weights where there are some.

    `state` may be a checkpoint of this project, of another ('state_dict'), or a plain state dict.
    """
    for name in ('ema', 'model', 'state_dict'):
        if state.get(name):
            return state[name]
    return {name: value for name, value in state.items() if torch.is_tensor(value)}
