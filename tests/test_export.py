"""export.py: a file that runs without the project and gives the checkpoint's outputs."""

import json
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from conftest import SIZE, run_python, train
from torch import nn

import export
from options import get_test_args
from utils.errors import UserError
from utils.exported_file import compare
from utils.weights import unwrap

HAS_ONNX = all(find_spec(name) for name in ('onnx', 'onnxruntime', 'onnxscript'))
LOAD = """
import json, sys, torch
facts = {'facts.json': ''}
model = torch.export.load(sys.argv[1], extra_files=facts).module()
pred = model(torch.zeros(1, 3, 24, 40, dtype=torch.uint8))
print(json.dumps([list(pred.shape), json.loads(facts['facts.json'])]))
"""


@pytest.fixture
def path(make_args):
    """A checkpoint of the toy model for images of 24 x 40."""
    return train(make_args('--epochs', 1, '--img_size', 24, 40)).model_dir / 'best.pth'


def export_file(path, *words):
    argv = ['--load_model_path', str(path), *map(str, words)]
    return export.main(*get_test_args(argv, export.parse_export_args))


@pytest.mark.slow
def test_the_file_gives_the_checkpoints_outputs_and_says_so(path, capsys):
    export_file(path)
    assert 'up to 0.0e+00 on 4 images' in capsys.readouterr().out
    args, checkpoint = get_test_args(['--load_model_path', str(path)])
    module = export.Exported(unwrap(export.select_model(args, checkpoint)), args).eval()
    program = torch.export.load(path.with_suffix('.pt2')).module()
    img = torch.randint(0, 256, (1, 3, 24, 40), dtype=torch.uint8)
    assert torch.equal(program(img), module(img))


@pytest.mark.slow
def test_the_file_runs_and_tells_what_it_is_where_the_project_is_not(path, tmp_path):
    export_file(path, '--output_dir', tmp_path)
    command = [sys.executable, '-c', LOAD, tmp_path / 'best.pt2']
    ended = subprocess.run(command, cwd='/', capture_output=True, text=True, check=True)
    shape, facts = json.loads(ended.stdout)
    assert shape == [1, 3, 24, 40]
    assert facts['classes'] == ['0', '1', '2']
    assert facts['input'] == 'uint8 RGB (1, 3, 24, 40)'
    (img,), _ = torch.export.load(tmp_path / 'best.pt2').example_inputs
    assert not img.any()  # no image of the validation list
    assert 'val/miou' in facts['scores']


@pytest.mark.slow
def test_a_dynamic_file_takes_any_number_of_images_of_any_size(path, capsys):
    export_file(path, '--dynamic')
    assert 'input uint8 RGB (N, 3, H, W)' in capsys.readouterr().out
    program = torch.export.load(path.with_suffix('.pt2')).module()
    for size in ((1, 3, 24, 40), (5, 3, 33, 47)):
        assert program(torch.zeros(size, dtype=torch.uint8)).shape == (size[0], 3, *size[2:])


@pytest.mark.slow
def test_another_size_may_be_given(path):
    export_file(path, '--size', *SIZE)
    program = torch.export.load(path.with_suffix('.pt2')).module()
    assert program(torch.zeros(1, 3, *SIZE, dtype=torch.uint8)).shape == (1, 3, *SIZE)


@pytest.mark.slow
def test_a_file_whose_outputs_differ_is_not_written(path, monkeypatch):
    def run_file(file, images, directory):
        return [np.full((1, 3, 24, 40), 9.0, np.float32) for _ in images], 1.0

    monkeypatch.setattr('export.run_file', run_file)
    with pytest.raises(UserError, match=r'best\.pt2 is not written: .* differ'):
        export_file(path)
    assert not path.with_suffix('.pt2').exists()


def test_outputs_that_are_not_finite_do_not_pass_for_equal():
    ones = [np.ones((1, 2))]
    assert export.compare(ones, ones) == 0
    assert not export.compare(ones, [np.full((1, 2), np.nan)]) <= export.TOLERANCE


class BranchNet(nn.Module):
    """Decides by what the image contains: no graph can be traced."""

    def __init__(self, args):
        super().__init__()
        self.head = nn.Conv2d(3, args.num_classes, 1)

    def forward(self, img):
        return self.head(img if img.mean().item() > 0 else -img)


def test_a_network_that_cannot_be_traced_is_one_line(make_args, tmp_path, monkeypatch):
    from model.model_entry import MODELS

    monkeypatch.setitem(MODELS, 'branch', 'test_export:BranchNet')
    args = make_args('--model_type', 'branch')
    path = tmp_path / 'branch.pth'
    torch.save({'model': BranchNet(args).state_dict(), 'args': vars(args)}, path)
    with pytest.raises(UserError, match='torch.export cannot trace branch'):
        export_file(path)


def test_without_a_validation_list_noise_is_compared(path, toy_val_list, tmp_path, capsys):
    gone = tmp_path / 'gone.txt'
    args, _ = get_test_args(['--load_model_path', str(path), '--val_list', str(gone)])
    args.size = None
    (img,) = export.load_images(args)
    assert img.shape == (1, 3, 24, 40)
    assert 'gone.txt' in capsys.readouterr().err


@pytest.mark.skipif(HAS_ONNX, reason='onnx is installed')
def test_without_onnx_its_remedy_is_one_line(path):
    with pytest.raises(UserError, match=r'pip install -r requirements-export\.txt'):
        export_file(path, '--format', 'onnx')


@pytest.mark.slow
@pytest.mark.skipif(not HAS_ONNX, reason='onnx is not installed')
@pytest.mark.parametrize('options', [[], ['--dynamic']])
def test_an_onnx_file_gives_the_checkpoints_outputs(path, options, capsys):
    import onnxruntime

    export_file(path, '--format', 'onnx', *options)
    assert 'equal to the checkpoint up to' in capsys.readouterr().out
    session = onnxruntime.InferenceSession(path.with_suffix('.onnx'))
    facts = json.loads(session.get_modelmeta().custom_metadata_map['facts'])
    assert facts['classes'] == ['0', '1', '2']


@pytest.mark.slow
def test_the_command_says_where_the_file_is(trained_clone):
    path = next(trained_clone.rglob('best.pth'))
    command = ['export.py', '--load_model_path', path]
    ended = run_python(*command, cwd=trained_clone)
    assert ended.returncode == 0, ended.stderr
    assert f'{path.with_suffix(".pt2")}: ' in ended.stdout
    ended = run_python('export.py', '--load_model_path', 'no.pth', cwd=trained_clone)
    assert ended.returncode == 2
    assert len(ended.stderr.splitlines()) == 1


def test_a_nan_in_any_output_is_no_equal_file():
    a = np.ones((1, 2), np.float32)
    assert np.isnan(compare([a, a], [a, a * np.nan]))
