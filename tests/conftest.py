"""One toy net, one toy list, one set of toy options, and what the tests share."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from model.model_entry import MODELS
from model.submodules import conv2d_bn_relu
from options import get_train_args
from train import Trainer
from utils.checkpoint import load_checkpoint
from utils.sources import read_sources, write_sources

ROOT = Path(__file__).parent.parent
CAMVID = ROOT.parent / 'shared' / 'camvid'
RUN = 'checkpoints/base_model_first'  # of trained_clone
SIZE = (32, 48)  # H, W of the toy images

cv2.setNumThreads(1)
torch.set_num_threads(2)


class ToyNet(nn.Module):
    """The least that has BatchNorm and dropout: `--model_type toy` in the tests."""

    def __init__(self, args):
        super().__init__()
        self.block = conv2d_bn_relu(3, 8)
        self.dropout = nn.Dropout2d(0.2)
        self.head = nn.Conv2d(8, args.num_classes, 1)

    def forward(self, img):
        return self.head(self.dropout(self.block(img)))


@pytest.fixture(autouse=True)
def toy_model(monkeypatch):
    """Puts ToyNet into the registry."""
    monkeypatch.setitem(MODELS, 'toy', 'conftest:ToyNet')


def draw_toy(i):
    """A bright (class 1) or dark (class 2) rectangle on grey (class 0), ringed by 255."""
    rng = np.random.default_rng(i)
    img = rng.integers(90, 150, (*SIZE, 3))
    label = np.zeros(SIZE, np.uint8)
    top, left, kind = rng.integers(2, 12), rng.integers(2, 20), 1 + i % 2
    label[top - 1 : top + 17, left - 1 : left + 21] = 255
    label[top : top + 16, left : left + 20] = kind
    img[label == kind] += 80 if kind == 1 else -80
    return img.astype(np.uint8), label


def write_list(directory, num_images, first=0, name='list.txt'):
    """Draws num_images toy pairs into directory and names them in a list file; returns its path."""
    directory.mkdir(parents=True, exist_ok=True)
    lines = []
    for i in range(first, first + num_images):
        img, label = draw_toy(i)
        Image.fromarray(img).save(directory / f'{i}.png')
        Image.fromarray(label).save(directory / f'{i}_label.png')
        lines.append(f'{i}.png {i}_label.png\n')
    (directory / name).write_text(''.join(lines))
    return directory / name


@pytest.fixture(scope='session')
def toy_list(tmp_path_factory):
    """A list of 8 toy pairs; tests read it and change nothing."""
    return write_list(tmp_path_factory.mktemp('toy'), 8)


@pytest.fixture(scope='session')
def toy_val_list(tmp_path_factory):
    """A list of 5 other toy pairs."""
    return write_list(tmp_path_factory.mktemp('toy_val'), 5, first=100)


@pytest.fixture
def make_args(toy_list, toy_val_list, tmp_path):
    """A function of options that returns train.py's args, toy ones where nothing is said."""

    def make(*options, run='run'):
        toy = f'--train_list {toy_list} --val_list {toy_val_list} --num_classes 3 --img_size 32 48'
        quick = '--model_type toy --batch_size 4 --epochs 2 --num_workers 0'
        run_dir = ['--model_dir', str(tmp_path / run)]
        return get_train_args([*toy.split(), *quick.split(), *run_dir, *map(str, options)])

    return make


@pytest.fixture(scope='session')
def trained_clone(tmp_path_factory):
    """A copy of the project, without git, with one finished run; tests copy it and change that."""
    clone = tmp_path_factory.mktemp('clone') / 'project'
    write_sources(read_sources(), clone)
    write_list(clone / 'lists', 4)
    write_list(clone / 'lists', 3, first=50, name='val.txt')
    options = '--train_list lists/list.txt --val_list lists/val.txt --num_classes 3 --num_workers 0'
    quick = '--img_size 24 40 --batch_size 2 --epochs 2 --save_prefix first'
    process = run_python('train.py', *options.split(), *quick.split(), cwd=clone)
    assert process.returncode == 0, process.stderr
    return clone


def run_python(*command, cwd=ROOT, **kwargs):
    """Runs python with a command line as a person would; returns the finished process."""
    command = [sys.executable, *map(str, command)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=200, **kwargs)


@pytest.fixture
def clone(trained_clone, tmp_path):
    """A project with a trained run, to edit."""
    return shutil.copytree(trained_clone, tmp_path / 'project')


def edit(path, old, new):
    """Replaces the one place of a file that reads `old`."""
    text = path.read_text()
    assert text.count(old) == 1, f'{path} holds {old!r} {text.count(old)} times'
    path.write_text(text.replace(old, new))


def evaluate(clone, *options, path=f'{RUN}/best.pth', code=0):
    """The lines that eval.py prints."""
    process = run_python('eval.py', '--load_model_path', path, *options, cwd=clone)
    assert process.returncode == code, process.stderr
    return process.stdout.splitlines()


def train(args):
    """The Trainer that has trained with these args."""
    trainer = Trainer(args)
    trainer.train()
    return trainer


def read_record(trainer):
    """run.json, read."""
    return json.loads((trainer.model_dir / 'run.json').read_text())


def get_training_scores(clone):
    """'miou 0.1234' and so on, as the end of training printed them."""
    metrics = load_checkpoint(clone / RUN / 'best.pth')['metrics']
    names = ('loss', 'miou', 'acc', 'mdice')
    return {name: f'{name} {metrics[f"val/{name}"]:.4f}' for name in names}
