"""One toy net, one toy list, one set of toy options, and what the tests share."""

import itertools
import json
import os
import shutil
import signal
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
from options import get_train_args
from train import Trainer
from utils.checkpoint import load_checkpoint
from utils.classes import read_classes
from utils.errors import warn_once
from utils.stop import SIGNALS
from utils.tracking.sources import read_sources, write_sources

ROOT = Path(__file__).parent.parent
CAMVID = ROOT.parent / 'shared' / 'camvid'
RUN = 'checkpoints/toy_first'  # of trained_clone
CALM = ('code: unchanged', 'probe: identical', 'data: unchanged')  # on one line of eval.py's
SIZE = (32, 48)  # H, W of the toy images
NUMBERS = itertools.count()

for number in SIGNALS:  # nohup and & ignore some, which the processes of tests would inherit
    signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
cv2.setNumThreads(1)
torch.set_num_threads(1)  # for tiny tensors: with more, tests take four times as long
os.environ['OMP_NUM_THREADS'] = '1'  # the same for the processes that tests start


class ToyNet(nn.Module):
    """The least that has BatchNorm and dropout: `--model_type toy` in the tests."""

    def __init__(self, args):
        super().__init__()
        conv = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.block = nn.Sequential(conv, nn.BatchNorm2d(8), nn.ReLU())
        self.dropout = nn.Dropout2d(0.2)
        self.head = nn.Conv2d(8, args.num_classes, 1)

    def forward(self, img):
        return self.head(self.dropout(self.block(img)))


@pytest.fixture(autouse=True)
def no_check_cache(monkeypatch, tmp_path_factory):
    """Keeps what the checks of lists remember out of the project, and of other tests."""
    # Made when it is needed, not for each test.
    path = tmp_path_factory.getbasetemp() / f'check{next(NUMBERS)}'
    monkeypatch.setattr('data.list_facts.CACHE', path)
    # What is remembered by path: a directory of a test that passed may be made again.
    warn_once.cache_clear()
    read_classes.cache_clear()


@pytest.fixture(autouse=True)
def toy_model(monkeypatch):
    """Puts ToyNet into the registry."""
    monkeypatch.setitem(MODELS, 'toy', 'conftest:ToyNet')


def draw_toy(i):
    """A bright (class 1) or dark (class 2) rectangle on gray (class 0), ringed by 255."""
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
def make_args(toy_list, toy_val_list, tmp_path, monkeypatch):
    """A function of options that returns train.py's args, toy ones where nothing is said."""
    # TensorBoard's checksums of enlarged pictures would take a third of a toy training.
    monkeypatch.setattr('utils.viz.MIN_HEIGHT', SIZE[0])

    def make(*options, run='run'):
        names = '--model_type toy --data_type list --loss ce --metrics miou acc mdice'
        lists = f'--train_list {toy_list} --val_list {toy_val_list} --num_classes 3 --num_workers 0'
        quick = '--img_size 32 48 --batch_size 4 --epochs 2'
        toy = f'{names} {lists} {quick}'.split()
        return get_train_args([*toy, '--model_dir', str(tmp_path / run), *map(str, options)])

    return make


# What a clone's owner has written: tests edit these files and never the project's own.
CLONE_FILES = {
    'model/base/toy_block.py': """from torch import nn


def toy_block(in_channels, out_channels):
    conv = nn.Conv2d(in_channels, out_channels, 3, padding=1, padding_mode='zeros')
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels), nn.ReLU())
""",
    'model/base/toy_net.py': """from torch import nn

from model.base.toy_block import toy_block

WIDTH = 8


class ToyNet(nn.Module):
    def __init__(self, args):
        super().__init__()
        self.block = toy_block(3, WIDTH)
        self.head = nn.Conv2d(WIDTH, args.num_classes, 1)

    def forward(self, img):
        return self.head(self.block(img))
""",
    'data/toy_augment.py': """import random

from PIL import Image


def flip(img, label):
    return (img[:, ::-1], label[:, ::-1]) if random.random() < 0.5 else (img, label)


def resize(img, size):
    return img.resize(size[::-1], Image.Resampling.BOX)
""",
    'data/toy_dataset.py': """import numpy as np
import torch
from PIL import Image

from data.list_file import ListFile
from data.toy_augment import flip, resize


class ToyDataset:
    def __init__(self, args, list_path, is_train):
        self.files, self.is_train = ListFile(list_path, args.data_root), is_train
        self.size = args.img_size

    def __len__(self):
        return len(self.files)

    def __getitem__(self, i):
        img, label = (Image.open(path) for path in self.files[i])
        img, label = np.array(resize(img, self.size)), np.array(label)
        img, label = flip(img, label) if self.is_train else (img, label)
        img, label = torch.tensor(img.transpose(2, 0, 1).copy()), torch.tensor(label.copy())
        return {'img': img, 'label': label, 'name': self.files.entry(i)[0]}
""",
}
# What is appended to the project's files.
CLONE_LINES = {
    'model/model_entry.py': "MODELS['toy'] = 'model.base.toy_net:ToyNet'\n",
    'data/data_entry.py': "DATASETS['toy'] = 'data.toy_dataset:ToyDataset'\n",
    'metrics.py': """

def toy_accuracy(scored):
    label = scored.batch['label']
    return {'toy_acc': ((scored.pred.argmax(1) == label).sum(), (label != 255).sum())}


def toy_brightness(scored):
    return {'toy_light': (scored.batch['img'].sum(), 255 * scored.batch['img'].numel())}


METRICS |= {'toy_acc': (toy_accuracy, 'higher'), 'toy_light': (toy_brightness, 'higher')}
""",
}


@pytest.fixture(scope='session')
def trained_clone(tmp_path_factory):
    """A copy of the project, without git, with one finished run; tests copy it and change that."""
    clone = tmp_path_factory.mktemp('clone') / 'project'
    write_sources(read_sources(), clone)
    for name, text in CLONE_FILES.items():
        (clone / name).write_text(text)
    for name, lines in CLONE_LINES.items():
        append(clone / name, lines)
    write_list(clone / 'lists', 4)
    write_list(clone / 'lists', 3, first=50, name='val.txt')
    toy = '--model_type toy --data_type toy --metrics toy_acc toy_light --save_prefix first'
    lists = '--train_list lists/list.txt --val_list lists/val.txt --num_classes 3 --num_workers 0'
    quick = '--img_size 24 40 --batch_size 2 --epochs 2'
    process = run_python('train.py', *f'{toy} {lists} {quick}'.split(), cwd=clone)
    assert process.returncode == 0, process.stderr
    return clone


def run_python(*command, cwd=ROOT, **kwargs):
    """Runs python with a command line as a person would; returns the finished process."""
    command = [sys.executable, *map(str, command)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=1000, **kwargs)


@pytest.fixture
def clone(trained_clone, tmp_path):
    """A project with a trained run, to edit."""
    return shutil.copytree(trained_clone, tmp_path / 'project')


def edit(path, old, new):
    """Replaces the one place of a file that reads `old`."""
    text = path.read_text()
    assert text.count(old) == 1, f'{path} contains {old!r} {text.count(old)} times'
    path.write_text(text.replace(old, new))


def append(path, text):
    """Adds text at the end of a file."""
    with path.open('a') as file:
        file.write(text)


def evaluate(clone, *options, path=f'{RUN}/best.pth', code=0):
    """The lines that eval.py prints."""
    process = run_python('eval.py', '--load_model_path', path, *options, cwd=clone)
    assert process.returncode == code, process.stderr
    return process.stdout.splitlines()


def find_line(lines, *words):
    """The one line that has all these words; the test fails if there are 0 or 2."""
    found = [line for line in lines if all(word in line for word in words)]
    assert len(found) == 1, f'{len(found)} lines with {words}: {lines}'
    return found[0]


def train(args):
    """The Trainer that has trained with these args."""
    trainer = Trainer(args)
    trainer.train()
    return trainer


def read_record(trainer):
    """run.json, read."""
    return json.loads((trainer.model_dir / 'run.json').read_text())


def get_training_scores(clone):
    """{'loss': 'loss 0.1234', ...}, as the end of training printed them."""
    metrics = load_checkpoint(clone / RUN / 'best.pth')['metrics']
    names = ('loss', 'toy_acc', 'toy_light')
    return {name: f'{name} {metrics[f"val/{name}"]:.4f}' for name in names}
