"""Checkpoints, written whole or not at all: one dict of tensors and plain types; their weights."""

import io
import pickle
import re
import zipfile
from collections import OrderedDict

import numpy as np
import torch
from torch import nn

from utils.errors import UserError, check_readable, one_line
from utils.files import replace_file

FORMAT_VERSION = 1
# numpy's scalars and arrays are data, and checkpoints of others hold them, for example as scores.
SCALAR, ARRAY = np.float64(0).__reduce__()[0], np.zeros(1).__reduce__()[0]
NUMPY = [np.dtype, np.ndarray, *(type(np.dtype(kind)) for kind in '?bhilqBHILQefd')]
for package in ('numpy.core', 'numpy._core'):  # before and since numpy 2
    NUMPY += [
        (SCALAR, f'{package}.multiarray.scalar'),
        (ARRAY, f'{package}.multiarray._reconstruct'),
    ]


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
        with torch.serialization.safe_globals(NUMPY):
            state = torch.load(path, map_location='cpu', weights_only=True)
    except UserError:
        raise
    except Exception as error:
        code = re.search(r'Unsupported \w+: GLOBAL (\S+)', str(error))
        reason = explain_code(path, code[1]) if code else one_line(error)[:200]
        raise UserError(f'checkpoint {path} cannot be loaded: {reason}') from error
    if not isinstance(state, dict):
        raise UserError(f'checkpoint {path} holds a {type(state).__name__}, expected a dict')
    if state.get('format_version', 0) > FORMAT_VERSION:
        raise UserError(f'checkpoint {path} was written by a newer version of this project')
    return state


def explain_code(path, name):
    """Why a file with more than tensors and plain types is refused, and where `name` is in it."""
    advice = 'where it was made, save the tensors alone: torch.save(model.state_dict(), path)'
    try:
        with zipfile.ZipFile(path) as archive:
            member = next(n for n in archive.namelist() if n.endswith('data.pkl'))
            keys = find_key(InertUnpickler(io.BytesIO(archive.read(member))).load(), name)
        place = f'its key {keys} holds' if keys else 'it holds'
    except Exception:  # whatever a file that is no checkpoint makes of itself
        place = 'it holds'
    return f'{place} code ({name}), which is never run; {advice}'


class Inert:
    """Stands for an object of another type; building it does nothing."""

    def __new__(cls, *args, **kwargs):
        return object.__new__(cls)

    def __setstate__(self, state):
        pass


class InertUnpickler(pickle.Unpickler):
    """Reads the structure of a pickle without importing or calling anything that it names."""

    def find_class(self, module, name):
        is_dict = (module, name) == ('collections', 'OrderedDict')
        return OrderedDict if is_dict else type(name, (Inert,), {'source': f'{module}.{name}'})

    def persistent_load(self, pid):
        return None


def find_key(value, name):
    """The keys that lead to an object of type `name`, as "['a']['b']"; '' if there are none."""
    items = value.items() if isinstance(value, dict) else ()
    for key, child in items:
        rest = find_key(child, name)
        if getattr(child, 'source', None) == name or rest:
            return f'[{key!r}]{rest}'
    return ''


def get_weights(state):
    """The state dict to evaluate or to start from: of this project the averaged weights if there
    are any, else the dict with the most tensors, at whatever depth.
    """
    found, seen = [state], set()
    for candidate in found:  # grows while it is walked
        seen.add(id(candidate))
        found += [v for v in candidate.values() if isinstance(v, dict) and id(v) not in seen]
    own = [state[name] for name in ('ema', 'model') if isinstance(state.get(name), dict)]
    weights = [{k: v for k, v in d.items() if torch.is_tensor(v)} for d in (own[:1] or found)]
    return max(weights, key=len)


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
    return report.partition(', ')[0]


def match_state(model, state):
    """The part of a state dict that matches the model by name and shape, and one line about all."""
    own = unwrap(model).state_dict()
    state, note = align_names(own, {k.replace('_orig_mod.', ''): v for k, v in state.items()})
    matching = {k: v for k, v in state.items() if k in own and own[k].shape == v.shape}
    other = [k for k in state if k in own and k not in matching]
    shapes = [f'{k} {tuple(state[k].shape)} -> {tuple(own[k].shape)}' for k in other]
    missing = [k for k in own if k not in state]
    unexpected = [k for k in state if k not in own]
    return matching, (
        f'loaded {len(matching)} tensors{note}, {first_names(shapes)} of another shape, '
        f'{first_names(missing)} missing, {first_names(unexpected)} unexpected'
    )


def align_names(own, state):
    """The state dict with a constant prefix such as 'module.' removed or 'net.' added, if more of
    its names are then among `own`; and a note that says so.
    """

    def rename(removed, added):
        return {f'{added}{name.removeprefix(removed)}': name for name in state}

    removed = {'', *(f'{name.split(".")[0]}.' for name in state if '.' in name)}
    removed |= {f'{a}{b}' for a in removed for b in ('model.', 'module.') if a}
    added = {'', *(f'{name.split(".")[0]}.' for name in own if '.' in name)}
    pairs = sorted(((r, a) for r in removed for a in added), key=lambda pair: len(''.join(pair)))
    best = max(pairs, key=lambda pair: len(own.keys() & rename(*pair).keys()))
    notes = [f"'{best[0]}' removed"] * bool(best[0]) + [f"'{best[1]}' added"] * bool(best[1])
    note = f' (prefix {", ".join(notes)})' if notes else ''
    return {new: state[old] for new, old in rename(*best).items()}, note


def first_names(names, most=10):
    """'2 (a, b)': how many, and the first of them."""
    more = ', ...' if len(names) > most else ''
    return f'{len(names)} ({", ".join(names[:most])}{more})' if names else '0'
