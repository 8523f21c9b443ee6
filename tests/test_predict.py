"""predict.py: what eval.py predicts, without labels; in tiles, mirrored, for all kinds of tasks."""

from argparse import Namespace

import numpy as np
import pytest
import torch
from conftest import SIZE, draw_toy, run_python, train
from PIL import Image
from torch import nn

import predict as prediction
from data.image_files import find_images
from options import get_test_args
from utils.checkpoint import load_checkpoint
from utils.classes import get_palette
from utils.errors import UserError
from utils.files import read_rows
from utils.tiling import predict_tiles


@pytest.fixture
def run(make_args):
    """A toy model, trained for one epoch, whose input is not of its images' size."""
    return train(make_args('--epochs', 1, '--img_size', 24, 40))


@pytest.fixture
def folder(tmp_path):
    """Two images in a tree of directories; one is twice as large."""
    for i, name in enumerate(('a.png', 'deep/b.png')):
        path = tmp_path / 'images' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.tile(draw_toy(i)[0], (1 + i, 1 + i, 1))).save(path)
    return tmp_path / 'images'


def predict(path, *words, code=0):
    """Calls predict.py for a checkpoint; returns the output directory."""
    argv = ['--load_model_path', str(path), *map(str, words)]
    assert prediction.main(*get_test_args(argv, prediction.parse_predict_args)) == code
    return path.with_suffix('') / 'predictions'


def read_classes(path):
    return np.asarray(Image.open(path))


def test_a_class_map_is_evals_bit_for_bit_at_the_images_own_size(run, toy_val_list):
    seen = {}
    run.evaluator.eval(lambda i, pred, batch, pairs: seen.update({batch['name'][0]: pred}))
    output_dir = predict(run.model_dir / 'last.pth', toy_val_list)
    assert len(seen) == 5
    for name, pred in seen.items():
        classes = read_classes(output_dir / name)
        assert classes.shape == SIZE
        assert np.array_equal(classes, pred[0].argmax(0))


def test_probabilities_are_those_of_the_output(run, folder):
    output_dir = predict(run.model_dir / 'last.pth', folder, '--probs')
    probabilities = np.load(output_dir / 'deep' / 'b_probs.npy')
    assert probabilities.dtype == np.float16
    assert probabilities.shape == (3, 2 * SIZE[0], 2 * SIZE[1])
    assert np.allclose(probabilities.astype(float).sum(0), 1, atol=0.01)
    classes = read_classes(output_dir / 'deep' / 'b.png')
    chosen = np.take_along_axis(probabilities, classes[None].astype(int), axis=0)[0]
    assert np.array_equal(chosen, probabilities.max(0))


def test_a_class_map_has_the_palette_of_the_classes_and_an_overlay(run, folder):
    output_dir = predict(run.model_dir / 'last.pth', folder / 'a.png', '--overlay')
    img = Image.open(output_dir / 'a.png')
    assert img.mode == 'P'
    colors = get_palette(run.args)[np.asarray(img)]
    assert np.array_equal(np.asarray(img.convert('RGB')), colors)
    overlay = np.asarray(Image.open(output_dir / 'a_overlay.png')).astype(int)
    mixed = 0.6 * colors + 0.4 * np.asarray(Image.open(folder / 'a.png'))
    assert np.abs(overlay - mixed).max() <= 1


def test_changed_code_is_said(run, folder, capsys):
    predict(run.model_dir / 'last.pth', folder)
    assert 'code:' not in capsys.readouterr().out
    state = load_checkpoint(run.model_dir / 'last.pth')
    state['code']['loss.py'] += 'SCALE = 2\n'
    torch.save(state, run.model_dir / 'other.pth')
    predict(run.model_dir / 'other.pth', folder)
    assert 'code: changed since training: loss.py' in capsys.readouterr().out


def test_a_broken_image_is_named_and_skipped(run, folder, capsys):
    (folder / 'broken.png').write_bytes(b'no image')
    output_dir = predict(run.model_dir / 'last.pth', folder, code=1)
    printed = capsys.readouterr()
    assert 'broken.png' in printed.err
    assert '2 images' in printed.out
    assert '1 skipped' in printed.out
    assert sorted(path.name for path in output_dir.rglob('*.png')) == ['a.png', 'b.png']


def test_files_directories_globs_and_lists_are_found(folder, tmp_path):
    (tmp_path / 'list.txt').write_text('images/a.png\nimages/deep/b.png\n')
    (tmp_path / 'list.csv').write_text('image,label\nimages/a.png,x\n')
    both = {'a', 'deep/b'}
    assert set(find_images([str(folder)]).values()) == both
    assert set(find_images([f'{folder}/**/*.png']).values()) == {'a', 'b'}
    assert set(find_images([str(tmp_path / 'list.txt')]).values()) == {'images/a', 'images/deep/b'}
    assert set(find_images([str(tmp_path / 'list.csv')]).values()) == {'images/a'}
    assert set(find_images([str(folder / 'a.png')] * 2).values()) == {'a'}


def test_paths_of_a_list_may_contain_spaces(folder, tmp_path):
    for name in ('my photo.png', 'a  b.png'):
        (folder / name).write_bytes((folder / 'a.png').read_bytes())
    lines = ['images/my photo.png', 'images/a.png labels/a.png', 'images/a  b.png', 'no such.png']
    (tmp_path / 'list.txt').write_text('\n'.join(lines))
    found = find_images([str(tmp_path / 'list.txt')])
    names = ['images/my photo.png', 'images/a.png', 'images/a  b.png', 'no such.png']
    assert list(found) == [tmp_path / name for name in names]


def test_no_prediction_is_written_outside_the_output_directory(folder, tmp_path):
    (tmp_path / 'lists').mkdir()
    (tmp_path / 'lists' / 'list.txt').write_text(f'../images/a.png\n{folder}/deep/b.png\n')
    names = find_images([str(tmp_path / 'lists' / 'list.txt')]).values()
    assert list(names) == ['images/a', 'b']


def test_two_images_of_one_stem_have_predictions_of_two_names(folder, tmp_path):
    (tmp_path / 'a.png').write_bytes((folder / 'a.png').read_bytes())
    (folder / 'a.jpg').write_bytes(b'')
    words = [str(folder / 'a.png'), str(folder / 'a.jpg'), str(tmp_path / 'a.png')]
    assert list(find_images(words).values()) == ['a', 'a_jpg', 'a_png']


@pytest.mark.parametrize('words', [[], ['nowhere'], ['*.nothing'], ['empty']])
def test_no_image_is_one_line(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'empty').mkdir()
    with pytest.raises(ValueError, match='IMAGES' if not words else words[0].strip('*')):
        find_images(words)


@pytest.mark.parametrize('size', [(50, 90), (64, 64), (20, 100), (33, 40)])
def test_tiles_give_what_the_whole_image_gives_where_the_network_sees_no_farther(size):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 3, padding=1))
    img = torch.rand(1, 3, *size)
    with torch.no_grad():
        tiled = predict_tiles(net, img, 32, 16)  # 4 pixels are not used, the network sees 2
        assert torch.allclose(tiled, net(img), atol=1e-6)
        near = predict_tiles(net, img, 32, 4)  # 1 pixel is not used
        assert size == (33, 40) or not torch.allclose(near, net(img), atol=1e-6)


def test_with_tiles_the_image_is_not_resized(run, folder, monkeypatch):
    sizes, forward = set(), prediction.forward_batch

    def spy(model, batch, *args, **options):
        sizes.add(batch['img'].shape[-2:])
        return forward(model, batch, *args, **options)

    monkeypatch.setattr('predict.forward_batch', spy)
    predict(run.model_dir / 'last.pth', folder, '--tile', 40, '--tile_overlap', 8)
    assert sizes == {(32, 40), (40, 40)}
    with pytest.raises(ValueError, match='--tile_overlap'):
        predict(run.model_dir / 'last.pth', folder, '--tile', 8)


def test_tta_averages_with_the_mirrored_image(run, folder):
    path = folder / 'a.png'
    output_dir = predict(run.model_dir / 'last.pth', path, '--tta', 'flip', '--probs')
    first = np.load(output_dir / 'a_probs.npy')
    Image.fromarray(np.asarray(Image.open(path))[:, ::-1]).save(path)
    predict(run.model_dir / 'last.pth', path, '--tta', 'flip', '--probs')
    assert np.allclose(np.load(output_dir / 'a_probs.npy'), first[..., ::-1], atol=2e-3)


class OutputNet(nn.Module):
    """Returns the mean of each channel, or a map of the first: what other tasks have."""

    def __init__(self, args):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3, 1, 1))
        self.is_map, self.is_larger = args.num_classes == 1, args.loss == 'mse'

    def forward(self, img):
        img = img * self.scale
        if self.is_larger:
            return nn.functional.interpolate(img, scale_factor=2)
        return img[:, :1] if self.is_map else img.mean((2, 3))


@pytest.fixture
def other_run(tmp_path, monkeypatch, make_args):
    """A checkpoint of OutputNet, with the options given."""
    from model.model_entry import MODELS

    monkeypatch.setitem(MODELS, 'output', 'test_predict:OutputNet')

    def make(*options):
        args = make_args('--model_type', 'output', *options)
        path = tmp_path / 'other.pth'
        torch.save({'model': OutputNet(args).state_dict(), 'args': vars(args)}, path)
        assert load_checkpoint(path)
        return path

    return make


def test_classes_of_images_are_a_table(other_run, folder):
    rows = read_rows(predict(other_run(), folder, '--probs') / 'predictions.csv')
    assert [row['image'] for row in rows] == [str(folder / n) for n in ('a.png', 'deep/b.png')]
    for row in rows:
        probabilities = [float(row[f'p/{i}']) for i in range(3)]
        assert sum(probabilities) == pytest.approx(1, abs=1e-5)
        assert int(row['class']) == int(np.argmax(probabilities))


def test_numbers_of_images_are_a_table_and_are_not_mirrored(other_run, folder):
    path = other_run('--loss', 'l1', '--metrics', 'l1')
    rows = read_rows(predict(path, folder) / 'predictions.csv')
    assert set(rows[0]) == {'image', 'value_0', 'value_1', 'value_2'}
    with pytest.raises(ValueError, match='--tta'):
        predict(path, folder, '--tta', 'flip')


def test_points_are_a_table_and_several_maps_one_file(tmp_path):
    args = Namespace(loss='l1', overlay=False)
    points = np.array([[1, 2], [3, 4.5]], np.float32)
    row = prediction.write_prediction(points, {}, args, tmp_path / 'a')
    assert list(row.values()) == ['1', '2', '3', '4.5']
    assert (
        prediction.write_prediction(np.zeros((2, 4, 5), np.float32), {}, args, tmp_path / 'b') == {}
    )
    assert np.load(tmp_path / 'b.npy').shape == (2, 4, 5)


def test_maps_of_numbers_are_npy_files(other_run, folder):
    path = other_run('--loss', 'l1', '--metrics', 'rmse', '--num_classes', 1)
    output_dir = predict(path, folder, '--overlay')
    values = np.load(output_dir / 'a.npy')
    assert values.shape == SIZE
    assert values.dtype == np.float32
    assert (output_dir / 'deep' / 'b_overlay.png').exists()
    assert not (output_dir / 'predictions.csv').exists()


def test_a_map_larger_than_the_image_keeps_its_size(other_run, folder):
    path = other_run('--loss', 'mse', '--metrics', 'rmse')
    assert np.load(predict(path, folder) / 'a.npy').shape == (3, 2 * SIZE[0], 2 * SIZE[1])
    with pytest.raises(UserError, match='--tile'):
        predict(path, folder, '--tile', 16, '--tile_overlap', 4)


def test_an_image_that_an_own_reader_refuses_is_named(run, folder, capsys, monkeypatch):
    def refuse(self, path):
        raise ValueError('too dark')

    monkeypatch.setattr('data.list_dataset.ListDataset.read_image', refuse)
    predict(run.model_dir / 'last.pth', folder / 'a.png', code=1)
    assert f'skipped: {folder / "a.png"}: too dark' in capsys.readouterr().err


def test_a_single_logit_is_two_classes(other_run, folder):
    output_dir = predict(other_run('--loss', 'bce', '--num_classes', 1), folder, '--probs')
    probabilities = np.load(output_dir / 'a_probs.npy')
    assert probabilities.shape == (2, *SIZE)
    assert np.array_equal(read_classes(output_dir / 'a.png'), probabilities[1] > 0.5)


@pytest.mark.slow
def test_the_command_ends_with_where_the_predictions_are(trained_clone, toy_val_list):
    path = next(trained_clone.rglob('best.pth'))
    command = ['predict.py', '--load_model_path', path]
    ended = run_python(*command, toy_val_list, cwd=trained_clone)
    assert ended.returncode == 2
    assert 'without_list' in ended.stderr  # its dataset is no ListDataset
    command += ['--data_type', 'list']
    ended = run_python(*command, toy_val_list, cwd=trained_clone)
    assert ended.returncode == 0, ended.stderr
    assert 'predictions of 5 images in' in ended.stdout
    ended = run_python(*command, 'no.png', cwd=trained_clone)
    assert ended.returncode == 2
    assert len(ended.stderr.splitlines()) == 1


def test_the_paths_of_a_list_are_relative_to_data_root(run, folder, tmp_path):
    (tmp_path / 'lists').mkdir()
    (tmp_path / 'lists' / 'test.txt').write_text('a.png\ndeep/b.png\n')
    found = find_images([str(tmp_path / 'lists' / 'test.txt')], str(folder))
    assert found == {folder / 'a.png': 'a', folder / 'deep' / 'b.png': 'deep/b'}
    output_dir = predict(
        run.model_dir / 'last.pth', tmp_path / 'lists' / 'test.txt', '--data_root', folder
    )
    assert read_classes(output_dir / 'deep' / 'b.png').shape == (2 * SIZE[0], 2 * SIZE[1])


def test_hidden_files_of_a_folder_are_left_out(folder):
    (folder / '._a.png').write_bytes(b'what macOS leaves on other disks')
    assert set(find_images([str(folder)]).values()) == {'a', 'deep/b'}


def test_a_checkpoint_without_suffix_has_a_directory_of_its_own(run, folder):
    path = run.model_dir / 'weights'
    path.write_bytes((run.model_dir / 'last.pth').read_bytes())
    args, checkpoint = get_test_args(
        ['--load_model_path', str(path), str(folder)], prediction.parse_predict_args
    )
    assert prediction.main(args, checkpoint) == 0
    assert (run.model_dir / 'weights_results' / 'predictions' / 'a.png').exists()


def test_several_classes_per_image_have_a_probability_each(run, tmp_path):
    args = Namespace(**vars(run.args) | {'loss': 'bce', 'overlay': False})
    row = prediction.write_prediction(np.array([0, 20, -20], np.float32), {}, args, tmp_path / 'a')
    assert [float(value) for value in row.values()] == pytest.approx([0.5, 1, 0], abs=1e-4)


def test_the_images_are_never_overwritten(run, folder):
    before = (folder / 'a.png').read_bytes()
    argv = ['--load_model_path', str(run.model_dir / 'last.pth'), str(folder)]
    for place in (folder, folder.parent):
        args = get_test_args([*argv, '--output_dir', str(place)], prediction.parse_predict_args)
        with pytest.raises(UserError, match='--output_dir'):
            prediction.main(*args)
    assert (folder / 'a.png').read_bytes() == before
