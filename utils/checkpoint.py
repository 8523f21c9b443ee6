"""Checkpoints: one dict of tensors and plain types, written whole or not at all, checked when read.

A file may come from anywhere: nothing of it is run, and what the rest of the project relies on is
checked here, once.
"""

import io
import math
import pickle
import re
import warnings
import zipfile
from collections import OrderedDict
from contextlib import suppress
from pathlib import PurePosixPath

import numpy as np
import torch
from torch.nn.utils import get_total_norm

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


NUMBER = (int, float)
# What training writes under a name: a type, types, or what a dict holds, '*' under every name.
STRUCTURE = {
    **dict.fromkeys(('model', 'ema', 'optimizer', 'scheduler', 'scaler'), dict),
    **dict.fromkeys(('format_version', 'epoch', 'step', 'batch', 'num_batches'), int),
    'best': {'epoch': int, 'score': NUMBER, 'scores': {'*': NUMBER}},
    'best_metric': str,
    'first_score': NUMBER,
    'logger': {'sums': dict, 'counts': dict, 'events': {'*': int}},
    'args': {'*': object},
    'metrics': {'*': NUMBER},
    'code': {'*': str},
    'probe': {'answer': (torch.Tensor, str), 'device': str, 'sample': str},
    'provenance': {
        **{'command': str, 'directory': str, 'versions': dict, 'earlier': list},
        'data': {'*': {'list': str, 'samples': int}},
    },
}
TRACKED = ('args', 'metrics', 'code', 'provenance')  # are there if 'probe' is


def save_checkpoint(state, path):
    """Writes `state` to `path`; whatever happens, the old file or the new one is there, whole.

    FloatingPointError if a weight or buffer is not finite: nothing is written then.
    """
    check_weights(state)
    num_mb = sum(tensor.nbytes for tensor in state.get('model', {}).values()) / 1e6
    with replace_file(path, 'wb', is_synced=True, what=f'weights of {num_mb:.1f} MB') as file:
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
        listed = ', '.join(names[:5]) + (', ...' if len(names) > 5 else '')
        advice = 'lower --lr or set --clip_grad; a mask of -inf: register_buffer(persistent=False)'
        line = f'not finite, so not saved: {listed}; earlier checkpoints are intact'
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
    except UserError:
        raise
    except Exception as error:
        raise UserError(f'checkpoint {path} cannot be loaded: {explain(path, error)}') from error
    if not isinstance(state, dict):
        raise UserError(f'checkpoint {path} holds a {type(state).__name__}, expected a dict')
    return check_structure(state, path)


def check_archive(path):
    """UserError unless the archive is stored as torch.save does and its checksums, which torch.load
    ignores, are right.
    """
    with zipfile.ZipFile(path) as archive:
        num_bytes = sum(info.file_size for info in archive.infolist())
        if num_bytes > path.stat().st_size:  # compressed: a small file could fill the memory
            line = f'checkpoint {path} unpacks to {num_bytes:,} bytes, more than it has'
            raise UserError(f'{line}: torch.save does not compress; save it again with torch.save')
        # An entry marked as a directory is not read: torch would take what is in memory for it.
        marked = [info.filename for info in archive.infolist() if info.external_attr & 16]
        damaged = marked[0] if marked else archive.testzip()
        if damaged:
            raise UserError(f'checkpoint {path} is damaged (in {damaged}): use an older one')


def check_structure(state, path):
    """The state; UserError if this project wrote the file and a part is not what it writes. Of any
    other file a part that only has the name of ours is left out.
    """
    names = [*(TRACKED if 'probe' in state else ()), *(name for name in STRUCTURE if name in state)]
    faults = {name: find_fault(state.get(name), STRUCTURE[name]) for name in names}
    if not faults.get('code'):
        outside = [name for name in state.get('code', {}) if not is_inside(name)]
        faults['code'] = f'holds the file {outside[0]!r}' if outside else ''
    faults = {name: fault for name, fault in faults.items() if fault}
    if 'format_version' not in state:
        return {name: value for name, value in state.items() if name not in faults}
    if faults:
        lines = '; '.join(f'{name} {fault}' for name, fault in faults.items())
        raise UserError(f'checkpoint {path} is malformed: {lines}')
    if state['format_version'] > FORMAT_VERSION:
        raise UserError(f'checkpoint {path} was written by a newer version of this project')
    return state


def find_fault(value, kind):
    """What is wrong with a value that should be of a kind of STRUCTURE; '' if nothing is."""
    types = dict if isinstance(kind, dict) else kind
    if not isinstance(value, types) or isinstance(value, bool) and kind is not object:
        return f'is a {type(value).__name__}'
    for name, inner in kind.items() if isinstance(kind, dict) else ():
        for key in value if name == '*' else [name]:
            fault = find_fault(value.get(key), inner) if isinstance(key, str) else 'is no name'
            if fault:
                return f'[{key!r}] {fault}'
    return ''


def is_inside(name):
    """Whether the name of a source file is a plain path below the project."""
    path = PurePosixPath(name)
    is_plain = name == str(path) != '.' and not {'\\', '\0'} & {*name}
    return is_plain and not path.is_absolute() and '..' not in path.parts


def explain(path, error):
    """Why torch.load failed, in one line, without its advice to load the file unsafely."""
    text = one_line(error)
    code = re.search(r'nsupported (?:\w+: )?GLOBAL (\S+)', text)
    name = code[1] if code else find_global(path)
    if name:
        return explain_code(path, name)
    if re.search('weights.only', text, re.IGNORECASE):
        text = text.partition('WeightsUnpickler error: ')[2].partition('. ')[0]
        text = '' if re.search('weights.only', text, re.IGNORECASE) else text
    advice = 'save the tensors alone: torch.save(model.state_dict(), path)'
    return text[:200] or f'it is not a dict of tensors that torch.save wrote; {advice}'


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


def find_global(path):
    """The first name that a plain pickle imports; '' for any other file."""
    with path.open('rb') as file:
        unpickler = InertUnpickler(file)
        with suppress(Exception):  # whatever a file that is no pickle makes of itself
            unpickler.load()
    return (unpickler.names or [''])[0]


class Inert:
    """Stands for an object of another type; building it does nothing."""

    def __new__(cls, *args, **kwargs):
        return object.__new__(cls)

    def __setstate__(self, state):
        pass


class InertUnpickler(pickle.Unpickler):
    """Reads the structure of a pickle without importing or calling anything that it names."""

    def __init__(self, file):
        super().__init__(file)
        self.names = []  # what it would import

    def find_class(self, module, name):
        self.names.append(f'{module}.{name}')
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
