"""What an evaluation writes, and the pictures in it."""

import shutil
from argparse import Namespace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import SIZE, train

import eval as evaluation
from options import get_test_args, get_test_result_dir
from train import Trainer
from utils.classes import default_palette, get_class_names, get_palette, name_class
from utils.files import read_rows
from utils.report import panel_name
from utils.viz import (
    IGNORED,
    MISSING,
    RIGHT,
    WRONG,
    caption_panels,
    gen_imgs_to_write,
    label2rgb,
    mix,
    write_img,
)


@pytest.fixture
def run(make_args, tmp_path):
    """A finished run of one epoch, with named classes."""
    (tmp_path / 'names.txt').write_text('ground 1 2 3\nbright thing\ndark\n')
    trainer = Trainer(make_args('--epochs', 1, '--class_names', tmp_path / 'names.txt'))
    trainer.train()
    return trainer


def evaluate(run, *options):
    """Runs eval.py's main; returns the result directory."""
    path = run.model_dir / 'best.pth'
    args, checkpoint = get_test_args(['--load_model_path', str(path), *map(str, options)])
    assert evaluation.main(args, checkpoint) == 0
    return get_test_result_dir(args)


def test_result_txt_says_what_was_evaluated_and_every_class(run, toy_val_list):
    lines = (evaluate(run) / 'result.txt').read_text().splitlines()
    facts = dict(line.split(maxsplit=1) for line in lines if len(line.split()) > 1)
    assert facts['checkpoint'] == str(run.model_dir / 'best.pth')
    assert facts['list'] == str(toy_val_list)
    assert facts['images'] == '5'
    assert 'command' in facts
    scores = run.evaluator.eval()
    assert facts['miou'] == f'{scores["miou"]:.4f}'
    table = [line for line in lines if line.startswith(('class ', 'bright thing'))]
    kinds, numbers = (line.split()[-5:] for line in table)
    row = dict(zip(kinds, map(float, numbers), strict=True))
    assert list(row) == ['share', 'iou', 'dice', 'precision', 'recall']
    for kind in ('iou', 'dice'):
        assert row[kind] == pytest.approx(scores[f'{kind}/bright thing'], abs=1e-4)


def test_a_model_that_is_stochastic_at_evaluation_scores_the_same_again(run):
    run.model.register_forward_hook(lambda m, i, pred: pred + torch.randn_like(pred))
    first, second = (run.evaluator.eval()['loss'] for _ in range(2))
    assert first == second


def test_eval_hands_each_image_with_its_prediction_and_sums_to_the_hook(run):
    seen = []
    scores = run.evaluator.eval(lambda *image: seen.append(image))
    assert [i for i, *_ in seen] == [0, 1, 2, 3, 4]
    for i, pred, batch, pairs in seen:
        assert pred.shape == (1, 3, *SIZE)
        assert batch['label'].shape == (1, *SIZE)
        assert batch['name'] == [f'{100 + i}.png']
        assert all(len(pair) == 2 for pair in pairs.values())
    losses = [float(pairs['loss'][0]) for *_, pairs in seen]
    assert np.mean(losses) == pytest.approx(scores['loss'], abs=1e-6)


def test_per_image_csv_has_a_line_per_image_whose_mean_loss_is_the_loss(run):
    rows = read_rows(evaluate(run, '--val_batch_size', 2) / 'per_image.csv')
    assert sorted(row['image'] for row in rows) == [f'{i}.png' for i in range(100, 105)]
    scores = [float(row['miou']) for row in rows]
    assert scores == sorted(scores)  # the worst first
    loss = run.evaluator.eval()['loss']
    assert np.mean([float(row['loss']) for row in rows]) == pytest.approx(loss, abs=1e-5)


def test_a_class_may_be_named_label(make_args, tmp_path):
    (tmp_path / 'names.txt').write_text('ground\nlabel\ndark\n')
    run = train(make_args('--epochs', 1, '--class_names', tmp_path / 'names.txt'))
    lines = (evaluate(run) / 'confusion.csv').read_text().splitlines()
    assert lines[0] == 'label,ground,label,dark'
    assert [line.split(',')[0] for line in lines[1:]] == ['ground', 'label', 'dark']
    assert {line.count(',') for line in lines} == {3}


@pytest.mark.slow
def test_each_evaluation_adds_a_line_to_results_csv(run):
    evaluate(run)
    evaluate(run, '--save_prefix', 'again')
    rows = read_rows(run.model_dir / 'results.csv')
    assert [row['prefix'] for row in rows] == ['pref', 'again']
    assert float(rows[0]['miou']) == pytest.approx(run.evaluator.eval()['miou'], abs=1e-6)


def test_an_image_without_the_metric_comes_last(run, monkeypatch):
    def score_some(self, pred, batch, args=None):
        is_first = batch['name'] == ['100.png']
        return {} if is_first else {'x': (torch.tensor(1.0), torch.tensor(2.0))}

    monkeypatch.setattr('eval.Evaluator.compute_metrics', score_some)
    rows = read_rows(evaluate(run, '--save_viz', 5) / 'per_image.csv')
    assert [row['x'] for row in rows] == ['0.500000'] * 4 + ['']


@pytest.mark.slow
def test_save_viz_writes_the_worst_and_evenly_spaced_images_and_deletes_none(run):
    result_dir = evaluate(run, '--save_viz', 1)
    worst = Path(read_rows(result_dir / 'per_image.csv')[0]['image']).with_suffix('.png').name
    names = {path.name for path in (result_dir / 'panels').iterdir()}
    assert names == {'100.png', worst}
    assert evaluate(run, '--save_viz', 2) == result_dir
    more = {path.name for path in (result_dir / 'panels').iterdir()}
    assert names | {'104.png'} <= more


def test_a_panel_shows_the_image_as_it_is_in_its_file(run):
    evaluate(run, '--save_viz', '--img_size', 16, 24)
    sample = run.evaluator.loader.samples
    args = make_namespace(num_classes=3)
    batch = {'img': torch.zeros(1, 3, 16, 24, dtype=torch.uint8), 'label': sample.read(0)[1][None]}
    batch['label'] = torch.from_numpy(batch['label'])
    batch['read_full_img'] = lambda: run.evaluator.loader.read_full_img(0)
    imgs = gen_imgs_to_write(torch.zeros(1, 3, *SIZE), batch, args)
    scale = imgs['img'].shape[0] // SIZE[0]
    assert np.array_equal(imgs['img'][::scale, ::scale], sample.read(0)[0])


def test_without_save_viz_there_are_no_pictures(run):
    assert not (evaluate(run) / 'panels').exists()


def test_two_prefixes_give_two_result_directories(run):
    assert evaluate(run) != evaluate(run, '--save_prefix', 'again')
    assert len(list((run.model_dir / 'best').iterdir())) == 2


def make_namespace(**changes):
    return Namespace(**{'num_classes': 3, 'ignore_index': 255, 'class_names': ''} | changes)


def make_sample():
    """A sample of 2x2 pixels: right, wrong, ignored, right."""
    pred = torch.zeros(1, 3, 2, 2)
    for y, x, c in ((0, 0, 1), (0, 1, 2), (1, 0, 0), (1, 1, 2)):
        pred[0, c, y, x] = 1
    label = torch.tensor([[[1, 0], [255, 2]]], dtype=torch.uint8)
    img = torch.arange(12, dtype=torch.uint8).view(1, 3, 2, 2)
    return pred, {'img': img, 'label': label, 'name': ['a']}


def test_panels_show_image_prediction_label_and_error_enlarged():
    args = make_namespace()
    imgs, palette = gen_imgs_to_write(*make_sample(), args), get_palette(args)
    assert {img.shape[0] for img in imgs.values()} == {240}
    imgs = {name: img[::120, ::120] for name, img in imgs.items()}
    assert np.array_equal(imgs['img'][0, 1], [1, 5, 9])
    assert np.array_equal(imgs['pred'], mix(imgs['img'], palette[[[1, 2], [0, 2]]]))
    assert np.array_equal(imgs['label'][0], mix(imgs['img'], palette[[[1, 0], [0, 2]]])[0])
    assert np.array_equal(imgs['label'][1, 0], imgs['img'][1, 0])  # ignored
    assert np.array_equal(imgs['error'], [[RIGHT, WRONG], [IGNORED, RIGHT]])


def test_label2rgb_has_a_default_palette():
    assert np.array_equal(label2rgb([[0, 7]]), default_palette()[[[0, 7]]])


def test_panels_stand_side_by_side_with_white_between_and_text_above():
    imgs = {'a': np.full((3, 20, 3), 1, np.uint8), 'b': np.full((5, 20, 3), 2, np.uint8)}
    panels = caption_panels(imgs, '')
    assert panels.shape == (2 * 18 + 5, 2 * (20 + 4), 3)
    assert panels[36, [0, 19, 20, 23, 24], 0].tolist() == [1, 1, 255, 255, 2]
    assert panels[-1, [0, 24], 0].tolist() == [255, 2]  # the lower one ends in white


def draw_depth(label, ignore_index=255):
    """The pictures of a map of numbers, for a prediction of zeros."""
    batch = {'img': torch.zeros(1, 3, *label.shape, dtype=torch.uint8), 'label': label[None]}
    return gen_imgs_to_write(
        torch.zeros(1, 1, *label.shape), batch, make_namespace(ignore_index=ignore_index)
    )


@pytest.mark.filterwarnings('error')
def test_numbers_that_are_ignored_are_black_and_no_errors():
    depth = torch.tensor([[1.0, 2.0], [-1.0, torch.nan]])
    depth = depth.repeat_interleave(120, 0).repeat_interleave(120, 1)
    imgs = draw_depth(depth, ignore_index=-1)
    for name in ('label', 'error'):
        img = imgs[name][::120, ::120]
        assert np.array_equal(img[1], [MISSING, MISSING])
        assert img[0].any()
    assert np.array_equal(imgs['error'], draw_depth(depth.where(depth > 0, torch.nan))['error'])
    assert not draw_depth(depth * torch.nan)['label'].any()


def test_a_classifiers_picture_is_its_image_with_a_caption_below():
    _, batch = make_sample()
    batch['label'] = torch.tensor([1])
    imgs = gen_imgs_to_write(torch.zeros(1, 3), batch, make_namespace())
    assert imgs['img'].shape == (240 + 36, 240, 3)
    assert not {'pred', 'label', 'error'} & imgs.keys()


def test_every_class_has_its_own_color_and_the_file_of_names_may_set_it(tmp_path):
    colors = get_palette(make_namespace())[:20]
    distances = np.abs(colors[:, None].astype(int) - colors[None]).sum(-1)
    assert distances[~np.eye(20, dtype=bool)].min() > 30
    (tmp_path / 'names.txt').write_text('sky 10 20 30\nroad side\nLane 9\n')
    args = make_namespace(class_names=str(tmp_path / 'names.txt'))
    assert get_class_names(args) == ['sky', 'road side', 'Lane 9']
    assert label2rgb([[0]], get_palette(args)).tolist() == [[[10, 20, 30]]]


def test_a_file_with_another_number_of_names_is_an_error(tmp_path):
    (tmp_path / 'names.txt').write_text('a\nb\n')
    with pytest.raises(ValueError, match=r'names\.txt.*2.*--num_classes.*3'):
        get_class_names(make_namespace(class_names=str(tmp_path / 'names.txt')))


@pytest.mark.parametrize(
    ('name', 'panel'), [('a/b.jpg', 'a_b'), ('/x/b.png', 'x_b'), ('../b.c.png', 'b.c')]
)
def test_a_panel_keeps_the_whole_name_of_its_image(name, panel):
    assert panel_name(name) == panel


def test_a_picture_keeps_its_colors_and_a_bad_path_is_an_error(tmp_path):
    img = np.zeros((2, 2, 3), np.uint8)
    img[..., 0] = 200
    write_img(tmp_path / 'red.png', img)
    assert cv2.imread(str(tmp_path / 'red.png'))[0, 0].tolist() == [0, 0, 200]
    with pytest.raises(OSError, match='nowhere'):
        write_img(tmp_path / 'nowhere' / 'red.png', img)


def test_images_whose_panels_have_one_name_keep_their_own(run, tmp_path):
    lines = []
    for name in ('a/1', 'a_1'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        img = np.full((*SIZE, 3), 40 * len(name), np.uint8)
        write_img(tmp_path / f'{name}.png', img)
        write_img(tmp_path / f'{name}_label.png', img[..., :1].repeat(3, 2) * 0)
        lines.append(f'{name}.png {name}_label.png\n')
    (tmp_path / 'two.txt').write_text(''.join(lines))
    result_dir = evaluate(run, '--val_list', tmp_path / 'two.txt', '--save_viz', 2)
    panels = sorted(path.name for path in (result_dir / 'panels').iterdir())
    assert panels == ['a_1.png', 'a_1_1.png']


def test_a_label_value_that_is_no_class_is_ignored_by_name():
    assert [name_class(i, ['a', 'b']) for i in (1, -1, 255)] == [
        'b',
        'ignored (-1)',
        'ignored (255)',
    ]


def test_a_long_flat_image_and_a_long_name_have_pictures(run, tmp_path):
    folder = tmp_path / ('数据' * 40) / ('数据' * 40)
    folder.mkdir(parents=True)
    write_img(folder / 'a.png', np.zeros((16, 5000, 3), np.uint8))
    write_img(folder / 'a_label.png', np.zeros((16, 5000, 3), np.uint8))
    (tmp_path / 'long.txt').write_text(f'{folder}/a.png {folder}/a_label.png\n', encoding='utf-8')
    result_dir = evaluate(run, '--val_list', tmp_path / 'long.txt', '--save_viz', 1)
    assert len(list((result_dir / 'panels').iterdir())) == 1


@pytest.mark.slow
def test_results_of_another_list_of_the_same_name_are_not_replaced_unsaid(
    run, toy_val_list, tmp_path, capsys
):
    other = tmp_path / toy_val_list.parent.name / toy_val_list.name
    shutil.copytree(toy_val_list.parent, other.parent)
    assert evaluate(run) == evaluate(run)
    assert 'replaced' not in capsys.readouterr().err
    evaluate(run, '--val_list', other)
    assert f'warning: the results for {toy_val_list} in ' in capsys.readouterr().err
