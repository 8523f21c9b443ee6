"""Lists, images, labels, augmentation and loading."""

import random
from argparse import Namespace

import numpy as np
import pytest
import torch
from conftest import SIZE, draw_toy, write_list
from PIL import Image

from data import augment
from data.augment import resize_image, resize_label
from data.data_entry import (
    DATASETS,
    get_dataset_by_type,
    select_eval_loader,
    select_train_loader,
)
from data.image_io import read_image, read_values
from data.list_dataset import ListDataset
from data.list_file import ListFile, count_overlap
from data.loading import EpochSampler, collate_batch, restore_tuples
from data.mem_list_dataset import MemListDataset
from data.shapes import CLASSES, write_set
from utils.torch_utils import seed_generators


class Noisy:
    """An augmentation that draws from each of the three global generators."""

    def transform(self, img, label):
        noise = random.randrange(20) + np.random.randint(0, 20, img.shape)
        noise = noise + torch.randint(20, img.shape).numpy()
        return (img // 2 + noise).astype(np.uint8), label


class NoisyList(Noisy, ListDataset):
    pass


class NoisyMemList(Noisy, MemListDataset):
    pass


@pytest.fixture
def noisy_args(make_args, monkeypatch):
    """make_args with a noisy dataset, `noisy_mem` with --data_type noisy_mem."""
    monkeypatch.setitem(DATASETS, 'noisy', 'test_data:NoisyList')
    monkeypatch.setitem(DATASETS, 'noisy_mem', 'test_data:NoisyMemList')
    return lambda *options: make_args('--data_type', 'noisy', *options)


def read_epochs(args, epochs):
    """[(name, img, label)] of the training loader's samples over the epochs."""
    loader, samples = select_train_loader(args), []
    for epoch in epochs:
        loader.sampler.epoch = epoch
        for batch in loader:
            samples += zip(batch['name'], batch['img'], batch['label'], strict=True)
    return samples


def are_equal(one, other):
    return len(one) == len(other) and all(
        a[0] == b[0] and torch.equal(a[1], b[1]) and torch.equal(a[2], b[2])
        for a, b in zip(one, other, strict=True)
    )


@pytest.mark.slow
@pytest.mark.parametrize('data_type', ['noisy', 'noisy_mem', 'list', 'mem_list'])
def test_workers_0_and_2_see_identical_samples(noisy_args, data_type):
    runs = [
        read_epochs(noisy_args('--data_type', data_type, '--num_workers', workers), (1, 2))
        for workers in (0, 2)
    ]
    assert len(runs[0]) == 16
    assert are_equal(*runs)


def test_two_epochs_see_different_orders_and_augmentations(noisy_args):
    samples = read_epochs(noisy_args(), (1, 2))
    one, two = samples[:8], samples[8:]
    assert [name for name, *_ in one] != [name for name, *_ in two]
    assert {name for name, *_ in one} == {name for name, *_ in two}
    images = {name: img for name, img, _ in one}
    assert not any(torch.equal(images[name], img) for name, img, _ in two)


def test_an_epoch_is_the_same_whatever_random_numbers_came_before(noisy_args):
    straight = read_epochs(noisy_args(), (1, 2))[8:]
    random.random(), np.random.rand(), torch.rand(1)
    assert are_equal(straight, read_epochs(noisy_args(), (2,)))


def test_another_seed_gives_other_samples(noisy_args):
    one, two = (read_epochs(noisy_args('--seed', seed), (1,)) for seed in (0, 1))
    assert [name for name, *_ in one] != [name for name, *_ in two]
    images = {name: img for name, img, _ in one}
    assert not any(torch.equal(images[name], img) for name, img, _ in two)


def draw():
    return random.random(), np.random.rand(), torch.rand(1).item()


def test_a_seed_sets_the_three_global_generators_and_differs_with_it():
    numbers = []
    for seed in (3, 4, 3):
        seed_generators(seed)
        numbers.append(draw())
    assert numbers[0] == numbers[2]
    assert len({*numbers[0], *numbers[1]}) == 6


@pytest.mark.parametrize('is_train', [True, False])
def test_mem_list_gives_what_list_gives(make_args, tmp_path, is_train):
    path = write_list(tmp_path / 'mixed', 2)
    Image.fromarray(draw_toy(0)[0][:20]).save(tmp_path / 'mixed' / '0.png')  # sizes may differ
    Image.fromarray(draw_toy(0)[1][:20]).save(tmp_path / 'mixed' / '0_label.png')
    samples = []
    for data_type in ('list', 'mem_list'):
        lists = ('--train_list', path, '--val_list', path)
        dataset = get_dataset_by_type(make_args('--data_type', data_type, *lists), is_train)
        seed_generators(0)
        samples.append(
            [(s['name'], s['img'], s['label']) for s in map(dataset.__getitem__, (0, 1))]
        )
    assert are_equal(*samples)


def test_the_dataset_for_training_reads_train_list_and_the_other_val_list(make_args):
    datasets = [get_dataset_by_type(make_args(), is_train) for is_train in (True, False)]
    assert [len(dataset) for dataset in datasets] == [8, 5]
    assert len(get_dataset_by_type(make_args())) == 5


@pytest.mark.parametrize(
    ('num_workers', 'method', 'is_shared'),
    [(0, 'spawn', False), (2, 'fork', False), (2, 'spawn', True)],
)
def test_mem_list_reads_no_file_after_the_start_and_no_worker_copies_it(
    make_args, tmp_path, monkeypatch, num_workers, method, is_shared
):
    monkeypatch.setattr('data.mem_list_dataset.get_start_method', lambda: method)
    path = write_list(tmp_path / 'gone', 2)
    options = ['--data_type', 'mem_list', '--val_list', path, '--num_workers', num_workers]
    dataset = get_dataset_by_type(make_args(*options))
    for file in path.parent.glob('*.png'):
        file.unlink()
    assert dataset[1]['img'].shape == (3, *SIZE)
    assert all(chunk.is_shared() == is_shared for chunk in dataset.chunks)
    assert sum(chunk.numel() for chunk in dataset.chunks) == 2 * 4 * SIZE[0] * SIZE[1]


def test_training_drops_a_short_last_batch_and_validation_keeps_it(make_args):
    args = make_args('--batch_size', 3, '--val_batch_size', 3)
    assert [len(batch['name']) for batch in select_train_loader(args)] == [3, 3]
    assert [len(batch['name']) for batch in select_eval_loader(args)] == [3, 2]


def test_the_batch_is_what_the_contract_says(make_args):
    batch = next(iter(select_train_loader(make_args())))
    assert batch['img'].dtype == torch.uint8
    assert batch['img'].shape == (4, 3, *SIZE)
    assert batch['label'].shape == (4, *SIZE)
    assert set(batch['label'].unique().tolist()) <= {0, 1, 2, 255}
    assert all(name.endswith('.png') for name in batch['name'])


def test_pinning_that_makes_lists_of_tuples_changes_no_size(make_args):
    # As DataLoader's pin_memory did before torch 2.10.
    batch = collate_batch([select_eval_loader(make_args()).dataset[0, 0]] * 2)
    pinned = {k: list(v) if isinstance(v, tuple) else v for k, v in batch.items()}
    restored = restore_tuples(pinned)
    assert restored['size'] == SIZE
    assert restored['name'] == batch['name']


def test_for_validation_the_label_keeps_its_own_size(make_args):
    batch = next(iter(select_eval_loader(make_args('--img_size', 16, 24))))
    assert batch['img'].shape == (1, 3, 16, 24)
    assert batch['label'].shape == (1, *SIZE)


def test_the_sampler_hands_out_the_epoch_with_each_index():
    sampler = EpochSampler(3, seed=0, shuffle=False)
    sampler.epoch = 7
    assert list(sampler) == [(7, 0), (7, 1), (7, 2)]


def test_a_list_takes_bom_crlf_comments_blank_lines_and_tabs(tmp_path):
    write_list(tmp_path, 2)
    (tmp_path / '0.png').rename(tmp_path / 'with space.png')
    text = '\ufeff# mine\r\n\r\nwith space.png\t0_label.png\r\n1.png   1_label.png\r\n'
    (tmp_path / 'odd.txt').write_bytes(text.encode())
    files = ListFile(tmp_path / 'odd.txt')
    assert [files.entry(i)[0] for i in range(len(files))] == ['with space.png', '1.png']


def test_paths_start_beside_the_list_or_at_data_root(tmp_path):
    path = write_list(tmp_path / 'images', 1)
    moved = path.rename(tmp_path / 'elsewhere.txt')
    assert ListFile(moved, tmp_path / 'images')[0][0] == str(tmp_path / 'images' / '0.png')


def test_a_list_lies_in_one_buffer_whatever_its_length(tmp_path):
    path = write_list(tmp_path, 1)
    path.write_text(path.read_text() * 1000)
    files = ListFile(path)
    assert len(files) == 1000
    assert not any(isinstance(value, (list, dict)) for value in vars(files).values())


def test_overlap_counts_images_that_both_lists_name(tmp_path):
    write_list(tmp_path, 3, name='train.txt')
    write_list(tmp_path, 4, first=1, name='val.txt')
    assert count_overlap(ListFile(tmp_path / 'train.txt'), ListFile(tmp_path / 'val.txt')) == 2


@pytest.mark.parametrize('mode', ['L', 'RGBA', 'P', 'LA'])
def test_gray_palette_and_transparent_images_become_rgb(tmp_path, mode):
    img = Image.fromarray(draw_toy(0)[0]).convert(mode)
    img.save(tmp_path / 'a.png')
    assert np.array_equal(read_image(tmp_path / 'a.png'), np.array(img.convert('RGB')))


def test_a_palette_label_holds_its_indices(tmp_path):
    label = draw_toy(0)[1]
    img = Image.fromarray(label)
    img.putpalette(bytes(range(256)) * 3)
    img.save(tmp_path / 'a.png')
    assert np.array_equal(read_values(tmp_path / 'a.png'), label)


def test_exif_rotation_turns_image_and_label_alike(tmp_path):
    img, label = draw_toy(0)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    Image.fromarray(img).save(tmp_path / 'img.png', exif=exif)
    Image.fromarray(label).save(tmp_path / 'label.png', exif=exif)
    assert np.array_equal(read_image(tmp_path / 'img.png'), np.rot90(img, -1))
    assert np.array_equal(read_values(tmp_path / 'label.png'), np.rot90(label, -1))


def test_augmentation_moves_image_and_label_together():
    label = draw_toy(1)[1]
    label[label == 255] = 0
    img = np.repeat(label[..., None] * 50, 3, axis=2)  # an image that shows its label
    for seed in range(20):
        seed_generators(seed)
        new_img, new_label = augment.augment_pair(img, label, SIZE, 255)
        assert new_img.shape == (*SIZE, 3)
        assert new_img.dtype == new_label.dtype == np.uint8
        gray = new_img.mean(-1)
        middle = (gray[new_label == 2].mean() + gray[new_label == 0].mean()) / 2  # in any light
        differs = (gray > middle) != (new_label == 2)
        assert differs[new_label != 255].mean() < 0.05  # the edge, where the image is smoothed


def test_what_padding_adds_is_never_evaluated():
    img, label = np.zeros((10, 10, 3), np.uint8), np.zeros((10, 10), np.uint8)
    new_img, new_label = augment.random_scale_crop(img, label, (10, 10), 255, 0.5, 0.5)
    assert (new_label == 255).sum() == 75
    assert (new_img[new_label == 0] == 0).all()


@pytest.mark.parametrize('size', [(40, 40), SIZE, (20, 70)])
def test_augmentation_gives_the_size_and_leaves_no_new_class(size):
    img, label = draw_toy(0)
    for seed in range(10):
        seed_generators(seed)
        new_img, new_label = augment.augment_pair(img, label, size, 255)
        assert (new_img.shape, new_label.shape) == ((*size, 3), size)
        assert set(np.unique(new_label)) <= {0, 1, 2, 255}


def test_resizing_to_the_same_size_changes_nothing():
    img, label = draw_toy(0)
    assert resize_image(img, SIZE) is img
    assert resize_label(label, SIZE) is label


def test_the_demo_set_is_the_same_each_time_and_holds_every_class(tmp_path, monkeypatch):
    monkeypatch.setattr('data.shapes.NUM_IMAGES', {'train': 10, 'val': 40})
    for name in 'ab':
        write_set(tmp_path / name)
    files = sorted(p.relative_to(tmp_path / 'a') for p in (tmp_path / 'a').rglob('*.*'))
    assert len(files) == 103
    assert all(
        (tmp_path / 'a' / f).read_bytes() == (tmp_path / 'b' / f).read_bytes() for f in files
    )
    args = Namespace(
        data_type='list', data_root='', class_names='', img_size=None, ignore_index=255, overfit=0
    )
    args.loss = 'ce'
    args.num_classes, args.val_list = len(CLASSES), tmp_path / 'a' / 'val.txt'
    val_set = get_dataset_by_type(args)
    values = torch.cat([val_set[i]['label'].unique() for i in range(len(val_set))]).unique()
    assert values.tolist() == [*range(len(CLASSES)), 255]


def test_a_map_one_pixel_wide_is_flipped_into_what_torch_takes():
    img, label = np.zeros((4, 1, 3), np.uint8), np.zeros((4, 1), np.uint8)
    for seed in range(8):
        random.seed(seed)
        torch.from_numpy(augment.random_flip(img, label)[1])


def test_a_narrower_image_is_averaged():
    stripes = np.zeros((100, 400, 3), np.uint8)
    stripes[:, ::4] = 255
    assert abs(float(resize_image(stripes, (100, 100)).mean()) - 255 / 4) < 1


def test_the_light_of_an_image_stays_if_its_label_is_an_image(make_args):
    dataset = ListDataset.without_list(make_args())
    dataset.is_train = True
    img = np.arange(32 * 48 * 3, dtype=np.uint8).reshape(32, 48, 3)
    assert np.array_equal(dataset.transform(img, img.astype(np.float32))[0], img)
    assert not np.array_equal(dataset.transform(img, np.float32(1))[0], img)
