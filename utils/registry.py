"""The options whose value is a name in a registry: which names there are, and whether one is known.

A registry is a dict in a file that users edit, such as MODELS in model/model_entry.py.
"""

import ast
from functools import cache
from pathlib import Path
from pkgutil import resolve_name

from utils.errors import UserError, choose

REGISTRIES = {
    'model_type': 'model.model_entry:MODELS',
    'data_type': 'data.data_entry:DATASETS',
    'loss': 'loss:LOSSES',
    'metrics': 'metrics:METRICS',
}


@cache
def list_names(option):
    """'ce, dice (loss.py)', for the help: read from the file, importing which imports torch."""
    variable = REGISTRIES[option].partition(':')[2]
    path = Path(__file__).parent.parent / get_file(option)
    for node in ast.parse(path.read_text(encoding='utf-8')).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == variable:
            keys = [key for key in getattr(node.value, 'keys', []) if isinstance(key, ast.Constant)]
            return f'{", ".join(key.value for key in keys) or "a name"} ({get_file(option)})'
    return f'a name in {get_file(option)}'


def get_file(option):
    """The file that contains an option's registry."""
    return REGISTRIES[option].partition(':')[0].replace('.', '/') + '.py'


def check_names(args):
    """UserError for a name that its registry does not have. Imports torch."""
    for option, place in REGISTRIES.items():
        names = vars(args)[option]
        for name in names if isinstance(names, list) else [names]:
            entry = choose(resolve_name(place), name, f'--{option}', get_file(option))
            if option.endswith('_type') and not isinstance(entry, str):
                expected = f"expected '{name}': 'module:Class', a string, got {entry!r}"
                raise UserError(f'{get_file(option)}: {expected}')
