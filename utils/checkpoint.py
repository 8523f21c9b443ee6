"""Checkpoints, written whole or not at all: one dict of tensors and plain types; their weights."""

import re
import zipfile

import torch
from torch import nn

from utils.errors import UserError, check_readable, one_line
from utils.files import replace_file

FORMAT_VERSION = 1


def save_checkpoint(state, path):
    """Writes `state` to `path`; whatever happens, the old file or the new one is there, whole."""
    with replace_file(path, 'wb', is_synced=True) as file:
        torch.save({'format_version': FORMAT_VERSION, **state}, file)


def load_checkpoint(path):
    """The dict in a checkpoint file, tensors on the CPU; code that a file may carry never runs.

    UserError if the file is missing, damaged, not a checkpoint or of a newer format. The checksums
    that torch.save wrote are checked here, because torch.load ignores them.
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
        raise UserError(f'checkpoint {path} holds a {type(state).__name__}, expected a dict')
    if state.get('format_version', 0) > FORMAT_VERSION:
        raise UserError(f'checkpoint {path} was written by a newer version of this project')
    return state


def get_weights(state):
    """The state dict to evaluate or to start from: the averaged weights if there are any.

    `state` may be a checkpoint of this project, of another ('state_dict'), or a plain state dict.
    """
    for name in ('ema', 'model', 'state_dict'):
        if state.get(name):
            return state[name]
    return {name: value for name, value in state.items() if torch.is_tensor(value)}


def unwrap(model):
    """The network itself, out of DataParallel and the like."""
    return model.module if isinstance(model, nn.DataParallel) else model


def load_match_dict(model, state_or_path):
    """Loads every tensor that matches by name and shape; returns one line that reports the rest.

    UserError if nothing matches. Weights may come from DataParallel or a compiled model.
    """
    is_path = not isinstance(state_or_path, dict)
    state = get_weights(load_checkpoint(state_or_path)) if is_path else state_or_path
    matching, report = match_state(model, state)
    if not matching:
        raise UserError(f'none of its {len(state)} tensors has a name and shape of this model')
    unwrap(model).load_state_dict(matching, strict=False)
    return report


def load_strict(model, state):
    """Loads every tensor and returns one line; UserError, and nothing loaded, if one differs."""
    matching, report = match_state(model, state)
    if not len(matching) == len(state) == len(unwrap(model).state_dict()):
        raise UserError(f'these weights are of another model ({report}); see --load_not_strict')
    unwrap(model).load_state_dict(matching)
    return f'loaded {len(matching)} tensors'


def match_state(model, state):
    """The part of a state dict that matches the model by name and shape, and one line about all."""
    own, state = unwrap(model).state_dict(), strip_prefixes(state)
    matching = {k: v for k, v in state.items() if k in own and own[k].shape == v.shape}
    other = [k for k in state if k in own and k not in matching]
    shapes = [f'{k} {tuple(state[k].shape)} -> {tuple(own[k].shape)}' for k in other]
    missing = [k for k in own if k not in state]
    unexpected = [k for k in state if k not in own]
    return matching, (
        f'loaded {len(matching)} tensors, {first_names(shapes)} of another shape, '
        f'{first_names(missing)} missing, {first_names(unexpected)} unexpected'
    )


def strip_prefixes(state):
    """The state dict without the 'module.' and '_orig_mod.' that wrappers put before names."""
    names = {name: name.replace('_orig_mod.', '').removeprefix('module.') for name in state}
    return {names[name]: value for name, value in state.items()}


def first_names(names, most=10):
    """'2 (a, b)': how many, and the first of them."""
    more = ', ...' if len(names) > most else ''
    return f'{len(names)} ({", ".join(names[:most])}{more})' if names else '0'
