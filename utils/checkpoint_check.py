"""What a checkpoint file may hold: it may come from anywhere, and is checked before it is used."""

import io
import math
import pickle
import re
import zipfile
from collections import OrderedDict
from contextlib import suppress
from pathlib import PurePosixPath

import numpy as np
import torch

from utils.errors import UserError, one_line

FORMAT_VERSION = 1
SMALL = 2**24  # items in memory that are never too many
NUMBER = (int, float)
# What training writes under a name: a type, types, or what a dict contains, '*' under every name.
STRUCTURE = {
    **dict.fromkeys(('model', 'ema', 'optimizer', 'scheduler', 'scaler'), dict),
    **dict.fromkeys(('format_version', 'epoch', 'step', 'batch', 'num_batches'), int),
    'best': {'epoch': int, 'score': NUMBER, 'scores': {'*': NUMBER}},
    'best_metric': str,
    'first_scores': {'*': NUMBER},
    'logger': {'sums': dict, 'counts': dict, 'events': {'*': int}},
    'args': {'*': object},
    'metrics': {'*': NUMBER},
    'code': {'*': str},
    'probe': {'answer': (torch.Tensor, str), 'device': str, 'sample': str},
    'provenance': {
        **{'command': str, 'directory': str, 'versions': dict, 'earlier': list},
        'data': {'val': {'list': str, 'samples': int}, '*': {'list': str, 'samples': int}},
    },
}
TRACKED = ('args', 'metrics', 'code', 'provenance')  # are there if 'probe' is


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
        check_storages(archive, path)


def check_storages(archive, path):
    """UserError if a tensor claims more bytes than its record has: torch before 2.7 would read on
    in memory.
    """
    sizes = {info.filename.partition('/')[2]: info.file_size for info in archive.infolist()}
    outline = read_outline(archive)
    for _, kind, key, _, num_items in outline.storages:
        is_untyped = kind.__name__ == 'UntypedStorage'
        item_bytes = 1 if is_untyped else getattr(torch, kind.__name__)._dtype.itemsize
        if not 0 <= num_items * item_bytes <= sizes[f'data/{key}']:
            raise UserError(f'checkpoint {path} is malformed: a tensor is larger than its record')


def check_growth(state, path):
    """UserError if the content is much larger than the file: lists that hold one list many times, a
    tensor whose elements share their memory. To print or to copy it would fill the memory.
    """
    limit = 4 * max(path.stat().st_size, SMALL)  # the averaged weights may be the model's
    try:
        num_items = count_items(state, {})
    except RecursionError:
        num_items = math.inf
    if num_items > limit:
        raise UserError(f'checkpoint {path} is malformed: its content grows to many times its size')


def count_items(value, counts):
    """How many items, bytes and characters a walk over a value meets, shared ones each time; inf
    for a value that contains itself. `counts` keeps those of containers, by id.
    """
    if torch.is_tensor(value):
        return value.numel()
    if isinstance(value, np.ndarray):
        return value.size
    if isinstance(value, str | bytes):
        return 1 + len(value)
    if not isinstance(value, dict | list | tuple | set):
        return 1
    if id(value) not in counts:
        counts[id(value)] = math.inf  # until it is known
        items = [*value, *value.values()] if isinstance(value, dict) else value
        counts[id(value)] = 1 + sum(count_items(item, counts) for item in items)
    return counts[id(value)]


def check_structure(state, path):
    """The state; UserError if this project wrote the file and a part is not what it writes. Of any
    other file a part that only has the name of ours is left out.
    """
    version = state.get('format_version')
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise UserError(f'checkpoint {path} was written by a newer version of this project')
    names = [*(TRACKED if 'probe' in state else ()), *(name for name in STRUCTURE if name in state)]
    faults = {name: find_fault(state.get(name), STRUCTURE[name]) for name in names}
    if not faults.get('code'):
        outside = [name for name in state.get('code', {}) if not is_inside(name)]
        faults['code'] = f'contains the file {outside[0]!r}' if outside else ''
    faults = {name: fault for name, fault in faults.items() if fault}
    if 'format_version' not in state:
        return {name: value for name, value in state.items() if name not in faults}
    if faults:
        lines = '; '.join(f'{name} {fault}' for name, fault in faults.items())
        raise UserError(f'checkpoint {path} is malformed: {lines}')
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
    if re.search('[a-z]{3}', text):  # not only the byte at which reading ended
        return text[:200]
    return f'it is not a dict of tensors that torch.save wrote; {advice}'


def explain_code(path, name):
    """Why a file with more than tensors and plain types is refused, and where `name` is in it."""
    advice = 'where it was made, save the tensors alone: torch.save(model.state_dict(), path)'
    try:
        with zipfile.ZipFile(path) as archive:
            keys = find_key(read_outline(archive).content, name)
        place = f'its key {keys} contains' if keys else 'it contains'
    except Exception:  # whatever a file that is no checkpoint makes of itself
        place = 'it contains'
    return f'{place} code ({name}), which is never run; {advice}'


def find_global(path):
    """The first name that a plain pickle imports; '' for any other file."""
    with path.open('rb') as file:
        outline = Outline(file)
        with suppress(Exception):  # whatever a file that is no pickle makes of itself
            outline.load()
    return (outline.names or [''])[0]


def read_outline(archive):
    """The Outline of the pickle in an archive of torch.save."""
    member = next(name for name in archive.namelist() if name.endswith('/data.pkl'))
    outline = Outline(io.BytesIO(archive.read(member)))
    outline.content = outline.load()
    return outline


class Inert(dict):
    """Stands for an object of another type; building and filling it does nothing."""

    __hash__ = object.__hash__
    __init__ = append = extend = __setstate__ = lambda self, *args: None


class Outline(pickle._Unpickler):  # in Python: the one in C can be made to take all memory
    """Reads the structure of a pickle without importing or calling anything that it names."""

    def __init__(self, file):
        super().__init__(file)
        self.names, self.storages, self.content = [], [], None  # `names` are what it would import

    def find_class(self, module, name):
        self.names.append(f'{module}.{name}')
        is_dict = (module, name) == ('collections', 'OrderedDict')
        return OrderedDict if is_dict else type(name, (Inert,), {'source': f'{module}.{name}'})

    def persistent_load(self, pid):
        self.storages.append(pid)


def find_key(value, name):
    """The keys that lead to an object of type `name`, as "['a']['b']"; '' if there are none."""
    items = value.items() if isinstance(value, dict) else ()
    for key, child in items:
        rest = find_key(child, name)
        if getattr(child, 'source', None) == name or rest:
            return f'[{key!r}]{rest}'
    return ''
