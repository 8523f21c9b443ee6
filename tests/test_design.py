"""What the design promises of the code itself: short files, and each thing in its place."""

import ast
import re
from collections import Counter

import pytest
from conftest import ROOT

from options import COMPARED, KINDS, RESUMED, parse_test_args, parse_train_args
from utils.arg_parser import Parser

MAX_FILE, MAX_FUNCTION = 230, 40  # lines
MAX_LINES = {'train.py': 170, 'eval.py': 110}
# What whoever clones this edits may grow by ROOM lines.
EDITED = (
    'options.py loss.py metrics.py predict.py data/augment.py data/data_entry.py '
    'model/model_entry.py model/submodules.py utils/viz.py utils/optim.py'
)
ROOM = 200
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
# Whoever clones this adds networks, datasets and functions of any length, with or without
# docstrings. So of the places where they go only what is shipped is looked at.
SHIPPED_FILES = {
    'data/*_dataset.py': 'data/list_dataset.py data/mem_list_dataset.py',
    'model/*/*.py': 'model/base/unet.py model/base/resnet50_fcn.py model/better/resnet101_fcn.py '
    'model/best/deeplabv3_fcn.py model/sota/mobilenetv3_fcn.py',
}
SHIPPED_FUNCTIONS = {
    'loss.py': 'compute_loss ce dice ce_dice bce l1 mse match',
    'metrics.py': 'Scored confusion class_counts compute_metrics pixel_accuracy mean_iou mean_dice '
    'l1_error summarize',
    'data/augment.py': 'augment_pair random_scale_crop random_flip random_light resize_image '
    'resize_label',
    'model/submodules.py': 'conv2d_bn_relu double_conv2d up_conv2d TorchvisionSegmenter',
}


def list_core():
    """The names of all Python files outside tests/, without those that a clone has added."""
    places = ('', 'data/**/', 'model/**/', 'utils/**/', 'scripts/')
    paths = [path for place in places for path in ROOT.glob(f'{place}*.py')]
    added = {path for pattern in SHIPPED_FILES for path in ROOT.glob(pattern)}
    added -= {ROOT / name for names in SHIPPED_FILES.values() for name in names.split()}
    return sorted(path.relative_to(ROOT).as_posix() for path in paths if path not in added)


CORE = list_core()
# Devices, ranks and precision belong into utils/ and model/model_entry.py.
TASK_FILES = ('train.py', 'eval.py', 'loss.py', 'metrics.py', 'data/list_dataset.py')
HARDWARE = (
    'cuda cudnn gpu gpus cpu mps xpu device devices nccl rank ranks local_rank world_size ddp '
    'distributed dataparallel distributeddataparallel all_reduce pin_memory non_blocking '
    'amp fp16 bf16 fp32 float16 bfloat16 autocast gradscaler'
)
ALLOWED = {
    ('loss.py', 'device'): 'weights of the classes are made where the prediction is',
    ('metrics.py', 'device'): 'counts are made where the prediction is',
}
# Whom the rest of the project talks to in utils/tracking, and who else may look inside.
TRACKING_FACE = ('utils.tracking.tracker', 'utils.tracking.run_dir')
TRACKING_GUESTS = ('scripts/bench.py',)  # which measures the parts


def is_added(name, node):
    """Whether a function or class of a file is not one that is shipped with it."""
    shipped = SHIPPED_FUNCTIONS.get(name, '')
    return name in EDITED.split() and node.name not in shipped.split()


def parse(name):
    return ast.parse((ROOT / name).read_text(encoding='utf-8'))


def find_nodes(name, *kinds):
    return [node for node in ast.walk(parse(name)) if isinstance(node, kinds)]


@pytest.mark.parametrize('name', CORE)
def test_a_file_has_at_most_230_lines_and_a_function_40(name):
    num_lines = len((ROOT / name).read_text(encoding='utf-8').splitlines())
    room = ROOM if name in EDITED.split() else 0
    assert num_lines <= MAX_LINES.get(name, MAX_FILE) + room
    for node in find_nodes(name, *FUNCTIONS):
        first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
        is_short = node.end_lineno - first + 1 <= MAX_FUNCTION + room
        assert is_short or is_added(name, node), node.name


def get_words(name):
    """The words of a file's code, comments left out: what it names, imports and says."""
    for node in ast.walk(parse(name)):
        for field in ('id', 'attr', 'arg', 'name', 'asname', 'module', 'value'):
            text = getattr(node, field, None)
            if isinstance(text, str):
                names = re.findall(r'\w+', text.lower())
                yield from {*names, *(part for name in names for part in name.split('_'))}


@pytest.mark.parametrize('name', TASK_FILES)
def test_a_file_of_the_task_names_no_device_rank_or_precision(name):
    found = set(HARDWARE.split()) & set(get_words(name))
    assert {word for word in found if (name, word) not in ALLOWED} == set()


@pytest.mark.parametrize('name', [n for n in CORE if not n.startswith('utils/tracking/')])
def test_tracking_is_known_by_its_face_only(name):
    modules = {node.module or '' for node in find_nodes(name, ast.ImportFrom)}
    modules |= {a.name for node in find_nodes(name, ast.Import) for a in node.names}
    inside = {m for m in modules if m.startswith('utils.tracking')} - {*TRACKING_FACE}
    assert not inside or name in TRACKING_GUESTS


def test_every_option_is_of_exactly_one_kind():
    options = Counter(' '.join(KINDS.values()).split())
    parsers = parse_train_args(Parser()), parse_test_args(Parser())
    names = {action.dest for parser in parsers for action in parser._actions} - {'help'}
    assert options == dict.fromkeys(names, 1)


def test_resuming_has_one_rule_for_every_option_that_changes_results():
    rows = Counter(' '.join(RESUMED.values()).split())
    assert {name: rows[name] for name in COMPARED} == dict.fromkeys(COMPARED, 1)


def test_every_option_has_a_help_line():
    for parser in (parse_train_args(Parser()), parse_test_args(Parser())):
        assert [action.dest for action in parser._actions if not action.help] == []


@pytest.mark.parametrize('name', CORE)
def test_every_file_public_function_and_class_says_what_it_is(name):
    tree = parse(name)
    if tree.body:
        assert ast.get_docstring(tree)
    nodes = [node for node in tree.body if isinstance(node, (*FUNCTIONS, ast.ClassDef))]
    public = [node for node in nodes if node.name[0] != '_' and not is_added(name, node)]
    assert [node.name for node in public if not ast.get_docstring(node)] == []
