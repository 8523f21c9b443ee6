"""What people bring: other masks, lists, weights and options, and what happens then."""

import pickle
import re
import shutil
import unicodedata
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from data.data_entry import DATASETS
from data.list_dataset import ListDataset
from data.list_facts import read_facts
from data.list_file import ListFile
from eval import main as evaluate
from loss import LOSSES
from model.model_entry import MODELS
from options import get_test_args, get_train_args
from train import Trainer, main
from utils.checkpoint import load_checkpoint
from utils.errors import UserError, one_line_errors
from utils.files import read_rows
from utils.optim import Ema
from utils.torch_utils import split_batch
from utils.weights import get_weights, load_match_dict

SIZE = 48, 64


def draw(i):
    """Gray noise with one red square: (H,W,3) uint8 and its mask of 0 and 1."""
    rng = np.random.default_rng(i)
    img = np.repeat(rng.integers(100, 140, (*SIZE, 1)), 3, axis=2).astype(np.uint8)
    top, left = rng.integers(0, 28), rng.integers(0, 44)
    mask = np.zeros(SIZE, np.uint8)
    mask[top : top + 20, left : left + 20] = 1
    img[mask == 1] = (200, 30, 30)
    return img, mask


class Base:
    """8 training and 4 validation pairs; a test changes files and options."""

    def __init__(self, root):
        self.root = root
        for i in range(12):
            img, mask = draw(i)
            Image.fromarray(img).save(root / f'{i}.png')
            Image.fromarray(mask).save(root / f'{i}_mask.png')
        self.write_lists('{i}.png {i}_mask.png')

    def write_lists(self, line):
        for name, rows in {'train': range(8), 'val': range(8, 12)}.items():
            text = ''.join(line.format(i=i) + '\n' for i in rows)
            (self.root / f'{name}.txt').write_text(text)

    def change_masks(self, change, rows=range(12), **options):
        """Replaces the masks by change(mask), an array or a PIL image."""
        for i in rows:
            mask = change(draw(i)[1])
            img = mask if isinstance(mask, Image.Image) else Image.fromarray(mask)
            img.save(self.root / f'{i}_mask.png', **options)

    def args(self, *options):
        lists = f'--train_list {self.root}/train.txt --val_list {self.root}/val.txt'
        size = f'--num_classes 2 --img_size {SIZE[0]} {SIZE[1]} --batch_size 4'
        run = f'--epochs 1 --num_workers 0 --model_dir {self.root}/run'
        return get_train_args([*f'{lists} {size} {run}'.split(), *map(str, options)])

    def train(self, *options):
        main(self.args(*options))


@pytest.fixture
def base(tmp_path):
    (tmp_path / 'base').mkdir()
    return Base(tmp_path / 'base')


@pytest.fixture
def refuse(base, capsys):
    """Trains with options; checks for one line with all words, code 2, and no run directory."""

    def check(words, *options):
        with pytest.raises(SystemExit) as stop, one_line_errors():
            base.train(*options)
        lines = capsys.readouterr().err.strip().splitlines()
        assert stop.value.code == 2, lines
        assert len([line for line in lines if not line.startswith('warning')]) == 1, lines
        assert all(str(word) in lines[-1] for word in words), lines[-1]
        assert not (base.root / 'run').exists()
        return lines[-1]

    return check


def test_masks_of_0_and_255_are_refused_with_the_option_that_reads_them(base, refuse):
    base.change_masks(lambda mask: mask * 255)
    refuse(['train.txt', 'class 1 never occurs', '255', '%', '--label_values 0 255'])
    base.train('--label_values', 0, 255)


def test_masks_of_0_and_255_in_the_validation_list_alone_are_refused(base, refuse):
    base.change_masks(lambda mask: mask * 255, range(8, 12))
    refuse(['val.txt', 'class 1 never occurs', '--label_values 0 255'])


@pytest.mark.slow
def test_one_mask_of_255_among_many_is_a_share_of_ignored_pixels(base, capsys):
    base.change_masks(lambda mask: mask * 255, range(1))
    base.train()
    assert 'ignored' in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize(
    ('values', 'typed'), [((0, 128), '0 128'), ((1, 2), '1 2'), ((3, 7), '3 7')]
)
def test_masks_of_other_values_are_named_and_can_be_given(base, refuse, values, typed):
    base.change_masks(lambda mask: np.where(mask, values[1], values[0]).astype(np.uint8))
    refuse(['_mask.png', values[1]])
    base.train('--label_values', *typed.split())


def test_pairs_of_label_values_merge_classes_and_ignore_the_rest(base):
    base.change_masks(lambda mask: (mask * 33 + 7).astype(np.uint8))
    args = base.args('--label_values', '7:0', '40:1')
    assert np.unique(ListDataset(args, args.val_list, False)[0]['label']).tolist() == [0, 1]
    args = base.args('--label_values', '40:0')
    assert np.unique(ListDataset(args, args.val_list, False)[0]['label']).tolist() == [0, 255]


def test_label_values_need_an_ignored_value_of_8_bits(base, capsys):
    with pytest.raises(SystemExit):
        base.args('--label_values', 0, 255, '--ignore_index', -1)
    line = capsys.readouterr().err
    assert '--ignore_index -1' in line and '8 bits' in line


@pytest.mark.slow
def test_label_values_are_inherited_by_evaluation(base):
    base.change_masks(lambda mask: mask * 255)
    base.train('--label_values', 0, 255)
    args, _ = get_test_args(['--load_model_path', f'{base.root}/run/best.pth'])
    assert args.label_values == ['0', '255']


def test_one_class_with_cross_entropy_is_refused(base, refuse):
    line = refuse(['--num_classes 2', '--loss bce'], '--num_classes', 1)
    assert 'learns nothing' in line
    base.change_masks(lambda mask: mask * 255)
    refuse(['--num_classes 2'], '--num_classes', 1, '--label_values', 0, 255, '--loss', 'dice')


@pytest.mark.slow
def test_one_logit_with_bce_is_a_binary_task(base, capsys):
    base.change_masks(lambda mask: mask * 255)
    options = ['--num_classes', 1, '--loss', 'bce', '--label_values', 0, 255, '--overfit', 8]
    base.train(*options, '--epochs', 6)
    state = load_checkpoint(base.root / 'run' / 'best.pth')
    assert state['metrics']['val/miou'] > 0.9
    assert {'val/iou/0', 'val/iou/1'} <= state['metrics'].keys()


def test_labels_that_start_at_1_say_so(base, refuse):
    base.change_masks(lambda mask: (mask + np.arange(64) // 16 % 4).astype(np.uint8))
    refuse(
        ['4', '--num_classes 4', 'start at 1', '--label_values 1 2 3 4', '5'], '--num_classes', 4
    )


def test_a_jpeg_mask_saved_as_png_and_a_smoothed_one_are_refused(base, refuse, tmp_path):
    def through_jpeg(mask):
        Image.fromarray(mask * 255).save(tmp_path / 'a.jpg', quality=80)
        return np.array(Image.open(tmp_path / 'a.jpg'))

    base.change_masks(through_jpeg)
    refuse(
        ['values', 'JPEG', 'PNG'], '--label_values', 0, 255, '--ignore_index', 254
    ) if False else None
    refuse(['values', 'JPEG', 'PNG'])
    half = (SIZE[1] // 2, SIZE[0] // 2)
    base.change_masks(
        lambda mask: Image.fromarray(mask * 255).resize(half, Image.BILINEAR).resize(SIZE[::-1], 0)
    )
    refuse(['values', 'smoothed'])


PALETTE = {0: (0, 0, 0), 1: (250, 50, 83)}


@pytest.mark.slow
def test_color_masks_are_read_through_the_class_file(base, refuse):
    base.change_masks(lambda mask: np.array([PALETTE[0], PALETTE[1]], np.uint8)[mask])
    refuse(['250', '50', '83', '--class_names'])
    names = base.root / 'classes.txt'
    names.write_text('ground 0 0 0\nsquare 250 50 83\n')
    base.train('--class_names', names)
    shutil.rmtree(base.root / 'run')
    names = base.root / 'other.txt'
    names.write_text('ground 0 0 0\nsquare 1 2 3\n')
    refuse(['250', '50', '83', '%'], '--class_names', names)


@pytest.mark.slow
def test_gif_masks_in_training_and_0_255_png_in_validation_are_said(base, refuse):
    for i in range(8):
        Image.fromarray(draw(i)[1]).convert('P').save(base.root / f'{i}_mask.gif')
    text = (base.root / 'train.txt').read_text()
    (base.root / 'train.txt').write_text(text.replace('_mask.png', '_mask.gif'))
    base.train('--overwrite')
    shutil.rmtree(base.root / 'run')
    base.change_masks(lambda mask: mask * 255, range(8, 12))
    refuse(['val.txt', 'class 1 never occurs', '255'])


def test_a_tiff_with_30_pages_is_refused(base, refuse):
    pages = [Image.fromarray(draw(i)[0]) for i in range(30)]
    pages[0].save(base.root / '0.tif', save_all=True, append_images=pages[1:])
    text = (base.root / 'train.txt').read_text()
    (base.root / 'train.txt').write_text(text.replace('0.png', '0.tif', 1))
    refuse(['0.tif', '30 pages'])


@pytest.mark.slow
def test_images_turned_by_exif_beside_labels_that_are_not_are_warned_of(base, capsys):
    exif = Image.Exif()
    exif[0x0112] = 3
    for i in range(12):
        Image.fromarray(draw(i)[0]).save(base.root / f'{i}.png', exif=exif)
    base.train()
    err = capsys.readouterr().err
    assert 'train.txt: EXIF turns 8 images' in err
    assert 'val.txt: EXIF turns 4 images' in err


def test_a_size_that_differs_because_of_exif_names_it(base, refuse):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(draw(0)[0]).save(base.root / '0.png', exif=exif)
    refuse(['0_mask.png', '48 x 64', '64 x 48', 'EXIF'])


@pytest.mark.slow
def test_a_list_in_utf_16_is_read(base):
    for name in ('train.txt', 'val.txt'):
        path = base.root / name
        path.write_bytes(path.read_text().encode('utf-16'))
    base.train()


@pytest.mark.parametrize(
    ('line', 'words'),
    [
        ('{i}.png,{i}_mask.png', ['.csv', 'header']),
        ('.\\{i}.png .\\{i}_mask.png', ['/ instead of \\']),
        ('{i}.png', ['expected 2 columns', 'image label']),
        ('my {i}.png {i}_mask.png', ['tabs', 'got']),
    ],
)
def test_lists_of_other_forms_say_how_to_write_them(base, refuse, line, words):
    base.write_lists(line)
    refuse(['train.txt', *words])


@pytest.mark.slow
def test_a_list_with_commas_and_a_header_is_csv(base):
    for name in ('train', 'val'):
        text = (base.root / f'{name}.txt').read_text().replace(' ', ',')
        (base.root / f'{name}.csv').write_text(f'image,label\n{text}')
    options = ['--train_list', base.root / 'train.csv', '--val_list', base.root / 'val.csv']
    base.train(*options)


def test_a_csv_list_without_a_header_is_refused(base, refuse):
    text = (base.root / 'train.txt').read_text().replace(' ', ',')
    (base.root / 'train.csv').write_text(text)
    refuse(['train.csv:1', 'header'], '--train_list', base.root / 'train.csv')


def test_a_name_in_another_unicode_form_says_so(base, refuse):
    composed = unicodedata.normalize('NFC', 'bär.png')
    (base.root / '0.png').rename(base.root / unicodedata.normalize('NFD', composed))
    text = (base.root / 'train.txt').read_text()
    (base.root / 'train.txt').write_text(text.replace('0.png', composed, 1))
    refuse(['Unicode form'])


def test_two_folders_given_as_a_list_name_the_command_that_pairs_them(base, refuse):
    refuse(['is a directory', 'data.make_list'], '--train_list', base.root)


class Classes(ListDataset):
    """A CSV of image,class number."""

    num_paths = 1

    def read_label(self, number):
        return int(number)


class OneLayer(torch.nn.Module):
    def __init__(self, args):
        super().__init__()
        self.linear = torch.nn.Linear(3, args.num_classes)

    def forward(self, img):
        return self.linear(img.mean((2, 3)))


@pytest.fixture
def classes(base, monkeypatch):
    """Options of a classification task on CSV lists with the classes of `labels`."""
    monkeypatch.setitem(DATASETS, 'classes', 'test_cases:Classes')
    monkeypatch.setitem(MODELS, 'one', 'test_cases:OneLayer')

    def write(labels):
        for name, rows in {'train': range(8), 'val': range(8, 12)}.items():
            text = ''.join(f'{i}.png,{labels[i % len(labels)]}\n' for i in rows)
            (base.root / f'{name}.csv').write_text(f'image,class\n{text}')
        lists = [f'--{name}_list={base.root}/{name}.csv' for name in ('train', 'val')]
        return [*lists, '--data_type', 'classes', '--model_type', 'one', '--metrics', 'acc']

    return write


def test_classification_trains_from_a_csv_list(base, classes):
    base.train(*classes([0, 1]))
    assert 'val/acc' in load_checkpoint(base.root / 'run' / 'last.pth')['metrics']


def test_classes_from_1_to_n_are_one_line(classes, refuse):
    refuse(['.png', '2', 'start at 1'], *classes([1, 2]))


@pytest.mark.slow
def test_1000_classes_are_trained_evaluated_and_none_is_ignored_unasked(base, classes, refuse):
    options = [*classes([255, 999]), '--num_classes', 1000]
    refuse(['--ignore_index 255', '-1'], *options)
    base.train(*options, '--ignore_index', -1)
    ((base.root / 'names.txt').write_text('\n'.join(f'n{i}' for i in range(1000))))
    path = str(base.root / 'run' / 'last.pth')
    words = ['--load_model_path', path, '--class_names', str(base.root / 'names.txt')]
    assert evaluate(*get_test_args([*words, '--save_viz', '1'])) == 0
    rows = read_rows(next((base.root / 'run').rglob('per_image.csv')))
    assert {row['label'] for row in rows} == {'n255', 'n999'}
    assert all(row['acc'] for row in rows)  # blank for an ignored image


class Depth(ListDataset):
    """Float maps; what is stored as 1 is 3 meters, 0 is missing."""

    missing = np.nan

    def read_label(self, path):
        depth = np.array(Image.open(path), dtype=np.float32) * 3
        depth[depth == 0] = self.missing
        return depth


class ZeroDepth(Depth):
    missing = 0


class Three(torch.nn.Module):
    """Says 3 everywhere."""

    def __init__(self, args):
        super().__init__()
        self.value = torch.nn.Parameter(torch.tensor(3.0))

    def forward(self, img):
        return self.value.expand(len(img), 1, *img.shape[2:])


@pytest.mark.slow
@pytest.mark.parametrize(('name', 'options'), [('Depth', []), ('ZeroDepth', ['--ignore_index', 0])])
def test_missing_depth_is_in_no_loss_and_no_score(base, monkeypatch, name, options):
    monkeypatch.setitem(DATASETS, 'depth', f'test_cases:{name}')
    monkeypatch.setitem(MODELS, 'three', 'test_cases:Three')
    base.train(
        *['--data_type', 'depth', '--model_type', 'three', '--num_classes', 1, '--loss', 'l1'],
        *['--metrics', 'l1', 'rmse', '--lr', 1e-9, *options],
    )
    metrics = load_checkpoint(base.root / 'run' / 'last.pth')['metrics']
    assert metrics['val/l1'] == pytest.approx(0, abs=1e-6)
    assert metrics['val/rmse'] == pytest.approx(0, abs=1e-6)
    assert metrics['val/loss'] == pytest.approx(0, abs=1e-6)


def test_the_rmse_of_training_is_that_of_evaluation(base, monkeypatch):
    monkeypatch.setitem(DATASETS, 'depth', 'test_cases:Depth')
    monkeypatch.setitem(MODELS, 'three', 'test_cases:Three')
    options = ['--data_type', 'depth', '--model_type', 'three', '--num_classes', 1, '--loss', 'l1']
    trainer = Trainer(base.args(*options, '--metrics', 'rmse', '--lr', 1))
    trainer.train()
    scores = load_checkpoint(base.root / 'run' / 'last.pth')['metrics']
    assert scores['val/rmse'] > 0.1
    assert scores['val/rmse'] == pytest.approx(trainer.evaluator.eval()['rmse'], rel=1e-6)
    rows = read_rows(base.root / 'run' / 'log.csv')
    assert float(rows[-1]['val/rmse']) == pytest.approx(scores['val/rmse'], abs=1e-5)


class TensorLabels(ListDataset):
    def read_label(self, path):
        return torch.from_numpy(super().read_label(path))


def test_labels_that_are_tensors_are_checked_and_augmented(base, monkeypatch, capsys):
    monkeypatch.setitem(DATASETS, 'tensors', 'test_cases:TensorLabels')
    loaders = [Trainer(base.args('--data_type', name)).train_loader for name in ('tensors', 'list')]
    for one, other in zip(*loaders, strict=True):
        assert torch.equal(one['img'], other['img'])
        assert torch.equal(one['label'], other['label'])
    checked = [line for line in capsys.readouterr().out.splitlines() if 'train.txt: ' in line]
    assert checked[0] == checked[1]  # with the share of each class


class FloatImages(ListDataset):
    """Normalized float images."""

    def read_image(self, path):
        return super().read_image(path).astype(np.float32) / 128 - 1


@pytest.mark.slow
def test_float_images_train_evaluate_and_are_drawn(base, monkeypatch):
    monkeypatch.setitem(DATASETS, 'float', 'test_cases:FloatImages')
    trainer = Trainer(base.args('--data_type', 'float', '--viz_freq', 1))
    trainer.train()
    batch = next(iter(trainer.train_loader))
    assert batch['img'].dtype == torch.float32
    assert batch['img'].abs().max() <= 1.5  # the padding too
    assert 'val/loss' in load_checkpoint(base.root / 'run' / 'last.pth')['metrics']


class Bands(ListDataset):
    """Normalized float images of 1 or 6 channels."""

    num_bands = 6

    def read_image(self, path):
        img = super().read_image(path).astype(np.float32) / 128 - 1
        return np.concatenate([img, img], axis=2)[..., : self.num_bands]


class OneBand(Bands):
    num_bands = 1


@pytest.mark.parametrize('dataset', [Bands, OneBand])
@pytest.mark.parametrize('size', [(48, 64), (24, 30), (70, 90)])
def test_images_of_any_number_of_channels_are_augmented_and_resized(base, dataset, size):
    args = base.args('--img_size', *size)
    for is_train in (True, False):
        for sample in dataset(args, args.train_list, is_train):
            assert sample['img'].shape == (dataset.num_bands, *size)
            assert sample['img'].dtype == torch.float32


class NoChannel(ListDataset):
    def read_image(self, path):
        return super().read_image(path)[..., 0]


def test_an_image_without_channels_is_one_line(base, refuse, monkeypatch):
    monkeypatch.setitem(DATASETS, 'flat', 'test_cases:NoChannel')
    refuse(['(H,W,C)', '(48, 64)'], '--data_type', 'flat')


@pytest.mark.slow
def test_an_ignored_class_is_in_no_mean_and_the_mean_says_so(base, capsys):
    base.train('--num_classes', 3, '--ignore_index', 0)
    out = capsys.readouterr().out
    metrics = load_checkpoint(base.root / 'run' / 'last.pth')['metrics']
    assert np.isnan(metrics['val/iou/0'])
    assert 'of 3 classes)' in out


def test_averaged_weights_follow_quickly_at_first(base):
    args = base.args('--ema', 0.999)
    model = torch.nn.Linear(1, 1, bias=False)
    model.weight.data.fill_(0)
    average = Ema(model, args.ema)
    for _ in range(40):
        model.weight.data.fill_(1)
        average.update_parameters(model)
    assert average.module.weight.item() > 0.9


@pytest.mark.slow
def test_overfit_8_learns_them_and_says_so(base, capsys):
    base.train('--overfit', 8, '--epochs', 20, '--batch_size', 8)
    out = capsys.readouterr().out
    assert 'overfit passed' in out


@pytest.mark.slow
def test_overfit_that_cannot_learn_says_so(base, capsys):
    base.train('--overfit', 8, '--epochs', 1, '--lr', 1e-9)
    assert 'overfit failed' in capsys.readouterr().out


@pytest.mark.slow
def test_a_score_that_is_nan_or_infinite_is_no_best(base, monkeypatch, capsys):
    def give(scored):
        return {'odd': (torch.tensor(next(values)), 1)}

    from metrics import METRICS

    values = iter([0.5] + [0.3] * 2 + [float('nan')] * 4 + [float('inf')] * 100)
    monkeypatch.setitem(METRICS, 'odd', (give, 'higher'))
    trainer = Trainer(base.args('--metrics', 'odd', '--epochs', 2))
    trainer.train()
    assert trainer.state.best['epoch'] == 0
    assert not (base.root / 'run' / 'best.pth').exists()
    assert 'cannot be the best' in capsys.readouterr().err


def test_a_best_metric_that_no_metric_returns_is_refused_before_the_run(refuse):
    refuse(['miuo', 'miou', 'acc'], '--best_metric', 'miuo')


@pytest.mark.slow
def test_any_score_of_a_metric_may_be_the_best(base):
    base.train('--best_metric', 'iou/1')
    assert (base.root / 'run' / 'best.pth').exists()


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 4))


@pytest.mark.parametrize('name', ['model_state_dict', 'net', 'weights', 'state_dict', 'params'])
def test_weights_of_others_are_found_at_whatever_depth(tmp_path, name):
    weights = Net().state_dict()
    torch.save({'epoch': 3, 'best': np.float64(0.5), 'a': {name: weights}}, tmp_path / 'a.pth')
    assert get_weights(load_checkpoint(tmp_path / 'a.pth')).keys() == weights.keys()


@pytest.mark.parametrize('prefix', ['model.', 'module.', 'module.model.', '_orig_mod.', 'encoder.'])
def test_a_constant_prefix_is_removed_and_said(prefix):
    model = Net()
    report = load_match_dict(model, {prefix + k: v for k, v in model.state_dict().items()})
    assert report.startswith('loaded 4 tensors')
    assert prefix == '_orig_mod.' or prefix in report


def test_a_prefix_of_the_model_is_added_and_said():
    model = Net()
    weights = {k.removeprefix('net.'): v for k, v in model.state_dict().items()}
    assert "'net.' added" in load_match_dict(model, weights)


def test_code_in_weights_of_others_names_its_key(tmp_path):
    torch.save({'model': {}, 'cfg': {'data': Path('x')}}, tmp_path / 'a.pth')
    with pytest.raises(UserError, match=r"\['cfg'\]\['data'\].*state_dict\(\)") as error:
        load_checkpoint(tmp_path / 'a.pth')
    assert 'weights_only' not in str(error.value)


def test_a_list_of_a_million_lines_checks_a_sample(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr('data.list_file.MAX_CHECKED', 100)
    base_root = tmp_path / 'many'
    base_root.mkdir()
    base = Base(base_root)
    text = (base.root / 'train.txt').read_text()
    (base.root / 'train.txt').write_text(text * 1000)
    files = ListFile(base.root / 'train.txt')
    assert len(files) == 8000
    assert '100 of 8000' in capsys.readouterr().out


LFS = 'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 123\n'


@pytest.mark.parametrize('name', ['train.txt', '0.png', '0_mask.png'])
def test_a_pointer_of_git_lfs_in_the_place_of_a_file_is_named(base, refuse, name):
    (base.root / name).write_text(LFS)
    refuse([name, 'git lfs pull'])


def test_a_list_with_one_endless_line_is_not_printed_whole(base, refuse):
    (base.root / 'train.txt').write_text('{"images": [' + '"a.png", ' * 10_000 + ']}')
    assert len(refuse(['train.txt:1', 'columns'])) < 500


def test_a_csv_list_may_start_with_a_blank_line_and_hold_long_cells(base):
    path = base.root / 'list.csv'
    path.write_text(f'\nimage,class\n0.png,{"1 2 " * 50_000}\n')
    assert ListFile(path, num_paths=1)[0][1].startswith('1 2 1')


@pytest.mark.slow
def test_training_on_the_validation_list_is_warned_of(base, capsys):
    base.train('--val_list', base.root / 'train.txt')
    assert '8 images of --val_list are also in --train_list' in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    'content',
    [
        b'name,r,g,b\nground,0,0,0\nred square,250,50,83\n',  # class_dict.csv of CamVid
        'ground 0 0 0\r\nred square 250 50 83\r\n'.encode('utf-16'),
        b'ground; 0; 0; 0\nred square; 250; 50; 83',
    ],
)
def test_class_files_of_several_forms_are_read(base, capsys, content):
    base.change_masks(lambda mask: np.array([PALETTE[0], PALETTE[1]], np.uint8)[mask])
    (base.root / 'classes.csv').write_bytes(content)
    base.train('--class_names', base.root / 'classes.csv')
    assert re.search(r'ground \d+.*, red square \d+', capsys.readouterr().out)


@pytest.mark.parametrize(
    ('content', 'words'),
    [
        ('caf\xe9\nsquare\n'.encode('latin-1'), ['classes.txt:1', 'UTF-8']),
        (b'ground 0 0 0\nsquare 300 0 0\n', ['classes.txt', '0 to 255', '300']),
    ],
)
def test_a_wrong_class_file_is_one_line(base, refuse, content, words):
    (base.root / 'classes.txt').write_bytes(content)
    refuse(words, '--class_names', base.root / 'classes.txt')


@pytest.mark.slow
def test_masks_that_change_and_keep_their_size_in_bytes_are_checked_again(base, refuse):
    for i in range(12):
        Image.fromarray(draw(i)[1]).save(base.root / f'{i}_mask.bmp')
    base.write_lists('{i}.png {i}_mask.bmp')
    base.train()
    shutil.rmtree(base.root / 'run')
    size = (base.root / '0_mask.bmp').stat().st_size
    for i in range(8):
        Image.fromarray(draw(i)[1] * 255).save(base.root / f'{i}_mask.bmp')
    assert (base.root / '0_mask.bmp').stat().st_size == size
    refuse(['train.txt', '--label_values 0 255'])


def test_labels_of_one_class_with_an_ignored_value_below_0_are_refused(classes, refuse):
    refuse(['class 1 never occurs'], *classes([0]), '--ignore_index', -1)


class SignedMaps(ListDataset):
    """Class maps in which -1 is ignored."""

    def read_label(self, path):
        return np.array(Image.open(path)).astype(np.int64) - 1


class BoolMaps(ListDataset):
    """Masks of booleans."""

    def read_label(self, path):
        return np.array(Image.open(path)) > 0


@pytest.mark.slow
def test_maps_of_signed_numbers_are_counted(base, monkeypatch, capsys):
    monkeypatch.setitem(DATASETS, 'signed', 'test_cases:SignedMaps')
    base.change_masks(lambda mask: np.where(mask == 1, 2, np.arange(64) % 2).astype(np.uint8))
    base.train('--data_type', 'signed', '--ignore_index', -1)
    assert re.search('train.txt: .*; 0 .*%, 1 .*%, ignored', capsys.readouterr().out)


def test_padding_of_a_mask_of_booleans_is_ignored(base, monkeypatch):
    monkeypatch.setitem(DATASETS, 'bool', 'test_cases:BoolMaps')
    trainer = Trainer(base.args('--data_type', 'bool'))
    found = torch.unique(torch.cat([batch['label'] for batch in trainer.train_loader]))
    assert found.tolist() == [0, 1, 255]


class Arrays(ListDataset):
    """Images that no image library reads."""

    def read_image(self, path):
        return np.load(path)


def test_a_label_of_another_size_beside_an_own_image_format_is_named(base, refuse, monkeypatch):
    monkeypatch.setitem(DATASETS, 'arrays', 'test_cases:Arrays')
    for i in range(12):
        np.save(base.root / f'{i}.npy', draw(i)[0])
    base.write_lists('{i}.npy {i}_mask.png')
    base.change_masks(lambda mask: mask[:40], rows=[3])
    refuse(['3_mask.png', '40 x 64', '3.npy is 48 x 64'], '--data_type', 'arrays')


class GlobalNorm(torch.nn.Module):
    """BatchNorm after global pooling, as in DeepLabV3."""

    def __init__(self, args):
        super().__init__()
        self.norm, self.head = torch.nn.BatchNorm2d(3), torch.nn.Conv2d(3, args.num_classes, 1)

    def forward(self, img):
        return self.head(img * self.norm(img.mean((2, 3), keepdim=True)))


def test_batchnorm_of_a_single_value_names_the_options(base, monkeypatch, capsys):
    monkeypatch.setitem(MODELS, 'norm', 'test_cases:GlobalNorm')
    base.train('--model_type', 'norm')
    shutil.rmtree(base.root / 'run')
    for options in (['--batch_size', 1], ['--accum', 4]):
        with pytest.raises(UserError, match=r'BatchNorm.*--batch_size.*--accum'):
            base.train('--model_type', 'norm', *options)


@pytest.mark.slow
def test_a_part_of_a_loss_may_be_a_plain_number(base, monkeypatch):
    function = LOSSES['ce']
    monkeypatch.setitem(LOSSES, 'mine', lambda *a: function(*a) | {'temperature': 0.07})
    base.train('--loss', 'mine')
    metrics = load_checkpoint(base.root / 'run' / 'last.pth')['metrics']
    assert metrics['train/loss_temperature'] == pytest.approx(0.07)


def test_overfit_of_few_images_fits_the_micro_batches(base):
    assert base.args('--overfit', 3, '--accum', 2).batch_size == 2
    assert base.args('--overfit', 3).batch_size == 3


def test_a_dataset_is_checked_by_workers_that_are_started_afresh(base):
    dataset = ListDataset(base.args(), base.root / 'train.txt', True)
    read = pickle.loads(pickle.dumps(partial(read_facts, dataset, False)))
    assert read([0])['size'] == '48 x 64'


class ClassesAsWritten(ListDataset):
    """A `read_label` that forgets to make a number of its cell."""

    num_paths = 1

    def read_label(self, kind):
        return kind


def test_a_label_that_is_text_names_what_came(base, classes, refuse, monkeypatch):
    options = classes([0, 1])
    monkeypatch.setitem(DATASETS, 'classes', 'test_cases:ClassesAsWritten')
    refuse(['read_label', "'0'", 'str'], *options)


def test_two_classes_of_one_name_are_refused(base, refuse):
    (base.root / 'classes.txt').write_text('thing\nthing\n')
    refuse(['classes.txt', "two classes 'thing'"], '--class_names', base.root / 'classes.txt')


class Extras(ListDataset):
    """Samples with lists of any length beside image and label."""

    def __getitem__(self, i):
        return super().__getitem__(i) | {'gains': list(range(i % 3)), 'note': None}


def test_lists_of_any_length_stay_with_their_samples(base, monkeypatch):
    monkeypatch.setitem(DATASETS, 'extras', 'test_cases:Extras')
    loader = Trainer(base.args('--data_type', 'extras', '--accum', 2)).train_loader
    batch = next(iter(loader))
    rows = [int(name.removesuffix('.png')) for name in batch['name']]
    assert batch['gains'] == [list(range(i % 3)) for i in rows]
    part, _ = list(split_batch(batch, 2))[1]
    assert part['gains'] == batch['gains'][2:]


class UnsignedMaps(ListDataset):
    """Masks of 0 and 1 whose type cannot hold -1."""

    def read_label(self, path):
        return np.array(Image.open(path))


def test_padding_of_unsigned_masks_is_ignored_with_a_negative_value(base, monkeypatch):
    monkeypatch.setitem(DATASETS, 'unsigned', 'test_cases:UnsignedMaps')
    base.change_masks(lambda mask: mask * 0 + 1, rows=range(8))
    trainer = Trainer(base.args('--data_type', 'unsigned', '--ignore_index', -1, '--skip_check'))
    found = torch.unique(torch.cat([batch['label'] for batch in trainer.train_loader]))
    assert found.tolist() == [-1, 1]


def test_averaged_weights_copy_integers_and_leave_infinite_masks_alone():
    model = torch.nn.Linear(2, 2)
    model.register_buffer('order', torch.arange(200))
    model.register_buffer('mask', torch.tensor([0.0, -torch.inf]), persistent=False)
    ema = Ema(model, 0.999)
    for _ in range(50):
        model.order += 1
        ema.update_parameters(model)
    assert torch.equal(ema.module.order, model.order)
    assert torch.equal(ema.module.mask, model.mask)


def test_averaged_weights_move_once_where_two_layers_share_them():
    layer = torch.nn.Linear(1, 1, bias=False)
    layer.weight.data.fill_(0)
    model = torch.nn.Sequential(layer, layer)
    ema = Ema(model, 0.5)
    ema.num_steps = 100
    layer.weight.data.fill_(1)
    ema.update_parameters(model)
    assert ema.module[0].weight.item() == 0.5


def test_averaged_weights_are_those_of_torch():
    model, decay = torch.nn.BatchNorm2d(3), 0.5
    ema = Ema(model, decay)
    # It has the smaller decay of the first steps not, which the later ones make forget.
    expected = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
    for _ in range(20):
        model(torch.rand(2, 3, 4, 4))
        model.weight.data.normal_()
        ema.update_parameters(model)
        expected.update_parameters(model)
    own, other = ema.module.state_dict(), expected.module.state_dict()
    assert torch.allclose(own['weight'], other['weight'], atol=1e-3)
    assert torch.allclose(own['running_var'], other['running_var'], atol=1e-3)


@pytest.mark.slow
def test_a_part_of_a_loss_is_never_the_score_that_is_best(base, monkeypatch):
    function = LOSSES['ce']
    monkeypatch.setitem(LOSSES, 'mine', lambda *a: {'dice': 1.0} | function(*a))
    base.train('--loss', 'mine', '--metrics', 'mdice')
    metrics = load_checkpoint(base.root / 'run' / 'last.pth')['metrics']
    assert metrics['val/loss_dice'] == 1
    assert load_checkpoint(base.root / 'run' / 'last.pth')['best_metric'] == 'mdice'


@pytest.mark.slow
def test_an_overfit_checkpoint_is_evaluated_on_the_whole_of_another_list(base):
    base.train('--overfit', 2, '--epochs', 1)
    words = ['--load_model_path', str(base.root / 'run' / 'last.pth')]
    assert get_test_args(words)[0].overfit == 2
    assert get_test_args([*words, '--val_list', str(base.root / 'val.txt')])[0].overfit == 0
