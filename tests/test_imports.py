"""The order of the layers: imports only point down, and the options need no torch."""

import ast

import pytest
from conftest import ROOT, run_python

# Each layer may import those after it. Data sets and models are named by strings and come late.
LAYERS = ['train predict export', 'eval', 'data.check', 'options']
LAYERS += ['data.data_entry model.model_entry', 'data model']
LEAVES = ('loss', 'metrics', 'model.submodules', 'data.augment', 'utils')
SOURCES = [
    path
    for path in sorted(ROOT.rglob('*.py'))
    if path.relative_to(ROOT).parts[0] in ('data', 'model', 'utils') or path.parent == ROOT
]


def get_module(path):
    """'data.list_dataset' for data/list_dataset.py."""
    return '.'.join(path.relative_to(ROOT).with_suffix('').parts)


def is_in(module, names):
    return any(module == name or module.startswith(f'{name}.') for name in names)


def get_layer(module):
    """0 for train, more for what lies deeper; the leaves lie deepest."""
    if is_in(module, LEAVES):
        return len(LAYERS)
    return next(i for i, names in enumerate(LAYERS) if is_in(module, names.split()))


def get_imports(path):
    """The project's modules that a file imports, anywhere in it."""
    own = {get_module(source) for source in SOURCES} | {'tests', 'scripts'}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from [node.module] if is_in(node.module, own) else []
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if is_in(alias.name, own))


@pytest.mark.parametrize('path', SOURCES, ids=get_module)
def test_imports_only_point_down(path):
    layer = get_layer(get_module(path))
    for module in get_imports(path):
        assert not is_in(module, ('tests', 'scripts')), f'{path} imports {module}'
        deeper = get_layer(module)
        among_equals = deeper == layer and layer >= len(LAYERS) - 1  # leaves, and data beside data
        assert deeper > layer or among_equals, f'{path} imports {module}, which lies above it'


def test_a_leaf_imports_leaves_only():
    for path in SOURCES:
        if get_layer(get_module(path)) == len(LAYERS):
            assert all(get_layer(module) == len(LAYERS) for module in get_imports(path)), path


@pytest.mark.parametrize('script', ['train.py', 'eval.py', 'predict.py', 'export.py'])
def test_help_needs_no_torch(script):
    process = run_python('-X', 'importtime', script, '--help')
    assert process.returncode == 0
    assert '--val_list' in process.stdout
    assert 'torch' not in process.stderr
