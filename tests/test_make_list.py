"""Two folders become two lists: pairs, groups, and what is refused."""

import os
import resource
import sys

import pytest
from conftest import run_python, write_list

from data.list_file import ListFile
from data.make_list import main, parse_args
from utils.errors import one_line_errors


@pytest.fixture
def make_set(tmp_path):
    """A function of image and label names that writes them, empty, into set/images, set/masks."""

    def make(images, labels, name='set'):
        for folder, files in (('images', images), ('masks', labels)):
            (tmp_path / name / folder).mkdir(parents=True)
            for file in files.split():
                path = tmp_path / name / folder / file
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
        return tmp_path / name

    return make


def make_lists(root, *options):
    """Runs make_list on root/images and root/masks; returns the rows of train.txt, val.txt."""
    main(parse_args([str(root / 'images'), str(root / 'masks'), *map(str, options)]))
    return read_rows(root / 'train.txt'), read_rows(root / 'val.txt')


def read_rows(path):
    """[(image, label)] without their folders; nothing where there is no list."""
    lines = path.read_text().splitlines() if path.exists() else []
    rows = [line.split('\t') for line in lines]
    return [(a.removeprefix('images/'), b.removeprefix('masks/')) for a, b in rows]


def check_refused(capsys, words, *options):
    """make_list ends with code 2 and one line that contains every word."""
    with pytest.raises(SystemExit) as stop, one_line_errors():
        main(parse_args(list(map(str, options))))
    message = capsys.readouterr().err
    assert stop.value.code == 2, message
    assert message.count('\n') == 1, message
    assert all(word in message for word in words), message


def check_set_refused(capsys, words, root, *options):
    """The same for root/images and root/masks, where nothing is written."""
    before = sorted(root.rglob('*'))
    check_refused(capsys, words, root / 'images', root / 'masks', *options)
    assert sorted(root.rglob('*')) == before


def number(template, numbers=range(10)):
    """'a_0.png a_1.png ...' for 'a_{}.png'."""
    return ' '.join(template.format(i) for i in numbers)


def test_ten_pairs_by_stem_become_eight_and_two(make_set, capsys):
    root = make_set(number('{}.JPG') + ' notes.txt .3.png', number('{}.png'))
    train, val = make_lists(root)
    assert (len(train), len(val)) == (8, 2)
    assert sorted(train + val) == [(f'{i}.JPG', f'{i}.png') for i in range(10)]
    out, err = capsys.readouterr()
    assert 'the same stem, in the same folder' in out
    assert f'{root / "train.txt"}: 8 pairs' in out
    assert f'--train_list {root}/train.txt --val_list {root}/val.txt --num_classes N' in out
    assert err == ''


@pytest.mark.parametrize(
    ('image', 'label', 'rule'),
    [
        ('{}', '{}_mask', 'image * and label *_mask'),
        ('{}', 'mask-{}', 'image * and label mask-*'),
        ('0001TP_{}', '0001TP_{}_L', 'image * and label *_L'),
        ('img_{}', 'label_{}', 'image img* and label label*'),
        ('{}_sat', '{}_mask', 'image *sat and label *mask'),
        ('{}_training', '{}_manual1', 'image *training and label *manual1'),
        ('case_{}_0000', 'case_{}', 'image *_0000 and label *'),
        (
            'ulm_{}_000019_leftImg8bit',
            'ulm_{}_000019_gtFine_labelIds',
            'image *leftImg8bit and label *gtFine_labelIds',
        ),
    ],
)
@pytest.mark.parametrize('num_images', [2, 12])
def test_constant_parts_of_names_are_found(make_set, capsys, image, label, rule, num_images):
    image, label = f'{image}.png', f'{label}.png'
    root = make_set(*(number(name, range(num_images)) for name in (image, label)))
    train, val = make_lists(root)
    assert sorted(train + val) == sorted(
        (image.format(i), label.format(i)) for i in range(num_images)
    )
    assert rule in capsys.readouterr().out


def test_one_pair_with_a_suffix_is_found(make_set):
    train, _ = make_lists(make_set('cat_3.png', 'cat_3_seg.png'), '--val', 0)
    assert train == [('cat_3.png', 'cat_3_seg.png')]


def test_the_same_stem_is_preferred_where_a_suffix_pairs_as_many(make_set, capsys):
    train, _ = make_lists(make_set(number('{}.png'), number('{0}.png {0}_color.png')), '--val', 0)
    assert train == [(f'{i}.png', f'{i}.png') for i in range(10)]
    assert '10 unpaired labels' in capsys.readouterr().err


def test_a_part_that_is_a_whole_name_elsewhere_hides_no_equal_stem(make_set):
    train, _ = make_lists(
        make_set('c.png gt_c.png y.png y_b.png', 'img_b.png y.png q.png'), '--val', 0
    )
    assert train == [('y.png', 'y.png')]


def test_left_and_right_images_keep_their_own_labels(make_set):
    root = make_set(
        number('left_{0}.png right_{0}.png'), number('left_{0}_gt.png right_{0}_gt.png')
    )
    train, _ = make_lists(root, '--val', 0)
    assert len(train) == 20
    assert all(label == image.replace('.', '_gt.') for image, label in train)


def test_frames_of_one_name_pair_within_their_folders(make_set):
    frames = number('a/{0}.png b/{0}.png')
    train, _ = make_lists(make_set(frames, frames.replace('.', '_gt.')), '--val', 0)
    assert len(train) == 20
    assert all(label == image.replace('.', '_gt.') for image, label in train)


def test_images_in_folders_find_labels_in_none(make_set, capsys):
    train, _ = make_lists(make_set('train/a.png val/b.png', 'a_gt.png b_gt.png'), '--val', 0)
    assert train == [('train/a.png', 'a_gt.png'), ('val/b.png', 'b_gt.png')]
    assert 'in any folder' in capsys.readouterr().out


def test_labels_in_a_folder_of_the_images_folder(make_set):
    root = make_set('', number('{}.png'))
    for i in range(10):
        (root / f'{i}.png').touch()
    main(parse_args([str(root), str(root / 'masks'), '--val', '0']))
    assert read_rows(root / 'train.txt') == [(f'{i}.png', f'{i}.png') for i in range(10)]


def test_four_unpaired_images_are_counted_and_three_named(make_set, capsys):
    train, _ = make_lists(make_set('a.png b.png w.png x.png y.png z.png', 'a.png b.png c.png'))
    assert len(train) == 1
    warnings = capsys.readouterr().err.splitlines()
    assert len(warnings) == 2
    assert '4 unpaired images' in warnings[0]
    assert warnings[0].endswith('w.png, x.png, y.png')
    assert '1 unpaired label in' in warnings[1]
    assert warnings[1].endswith('c.png')


@pytest.mark.parametrize(
    ('images', 'labels', 'words'),
    [
        ('a.jpg a.png b.png', 'a.png b.png', ['ambiguous', 'a.jpg with a.png, a.png with a.png']),
        ('a.png b.png', 'a.png a.gif b.png', ['ambiguous', 'a.png with a.gif, a.png with a.png']),
        ('s/a.png t/a.png', 'a.png', ['ambiguous', 's/a.png with a.png, t/a.png with a.png']),
        (number('{}.png'), number('{0}_color.png {0}_ids.png'), ['0_color.png', '0_ids.png']),
        (number('{}.png'), number('{0}_x.png {0}_y.png', range(9)), ['0_x.png', '0_y.png']),
        ('a.png b.png', 'x.png y.png', ['no pairs', 'has a.png', 'has x.png', 'same stem']),
        ('cat_1.png dog_2.png', 'cat_7.png dog_8.png', ['no pairs']),
        ('a.png', 'mask.png', ['no pairs']),
        ('', 'a.png', ['images contains no image', '.jpg']),
        ('a.png', 'a.txt', ['masks contains no image']),
        ('a.png', 'a.png', ["one group, 'a.png'", '--val 0']),
    ],
)
def test_folders_that_give_no_lists(make_set, capsys, images, labels, words):
    check_set_refused(capsys, words, make_set(images, labels))


def test_folders_that_are_none(make_set, capsys, tmp_path):
    root = make_set('a.png', 'a.png')
    images = root / 'images'
    check_refused(capsys, ['no does not exist'], root / 'no', images)
    check_refused(capsys, ['a.png is a file', 'a folder of labels'], images, images / 'a.png')
    check_refused(capsys, ['contains images and labels', 'move'], images, root / 'masks/../images')
    check_refused(capsys, ['LABELS'], images)


def test_options_that_make_no_sense(make_set, capsys):
    root = make_set(number('{}.png'), number('{}.png'))
    check_set_refused(capsys, ['--group', 'not a valid regular expression'], root, '--group', '(')
    check_set_refused(capsys, ['--val', "got '1'"], root, '--val', 1)
    check_set_refused(capsys, ['--sed', 'did you mean'], root, '--sed', 1)


def test_the_smallest_shares_leave_one_in_each_list(make_set):
    root = make_set('a.png b.png', 'a.png b.png')
    assert [len(rows) for rows in make_lists(root, '--val', 0.01)] == [1, 1]
    assert [len(rows) for rows in make_lists(root, '--val', 0.99, '--overwrite')] == [1, 1]


def test_without_validation_only_one_list_is_written(make_set, capsys):
    root = make_set(number('{}.png'), number('{}.png'))
    assert [len(rows) for rows in make_lists(root, '--val', 0)] == [10, 0]
    assert not (root / 'val.txt').exists()
    assert '--val_list' not in capsys.readouterr().out


def test_twenty_patients_stay_whole_and_five_are_for_validation(make_set):
    files = number('p{0}_a.png p{0}_b.png p{0}_c.png', range(20))
    root = make_set(files, files)
    train, val = make_lists(root, '--val', 0.25, '--group', r'(p\d+)_')
    patients = [{image.partition('_')[0] for image, _ in rows} for rows in (train, val)]
    assert list(map(len, patients)) == [15, 5]
    assert not patients[0] & patients[1]
    assert len(train + val) == 60
    # The whole match names the group as well as a bracketed part does.
    assert make_lists(root, '--val', 0.25, '--group', r'p\d+', '--overwrite') == (train, val)


def test_groups_that_cannot_be_split(make_set, capsys):
    files = number('s1/{}.png') + ' x/a.png x/b.png'
    root = make_set(files, files)
    words = ["'s\\d'", 'finds nothing in 2 images', 'the first is x/a.png']
    check_set_refused(capsys, words, root, '--group', r's\d')
    words = ["one group, 'png'", 'in one list', '--val 0']
    check_set_refused(capsys, words, root, '--group', r'\.(png)')


def test_the_split_depends_on_the_seed_and_not_on_the_order_of_creation(make_set):
    files = [f'{i}.png' for i in range(40)]
    forward = make_set(' '.join(files), ' '.join(files), 'forward')
    backward = make_set(' '.join(files[::-1]), ' '.join(files[::-1]), 'backward')
    first = make_lists(forward)
    assert first == make_lists(backward)
    other = make_lists(forward, '--seed', 1, '--overwrite')
    assert other != first
    assert sorted(sum(other, [])) == sorted(sum(first, []))
    assert first[0] == sorted(first[0])


def test_of_forty_images_few_change_lists_when_four_are_added(make_set):
    files = number('{}.png', range(40)), number('{}.png', range(44))
    before, after = (make_lists(make_set(names, names, str(len(names)))) for names in files)
    assert len(set(before[1]) - set(after[1])) <= 4


def test_lists_that_exist_are_kept_unless_told(make_set, capsys):
    root = make_set('a.png b.png', 'a.png b.png')
    (root / 'val.txt').write_text('mine\n')
    check_set_refused(capsys, ['val.txt exists', '--overwrite', '--out'], root)
    assert (root / 'val.txt').read_text() == 'mine\n'
    assert len(make_lists(root, '--overwrite')[1]) == 1


def test_a_directory_that_cannot_be_written(make_set, capsys):
    root = make_set('a.png b.png', 'a.png b.png')
    check_set_refused(capsys, ['a.png', 'cannot be'], root, '--out', root / 'images' / 'a.png')


@pytest.mark.skipif(os.geteuid() == 0, reason='root may write everywhere')
def test_a_directory_without_write_permission(make_set, capsys):
    root = make_set('a.png b.png', 'a.png b.png')
    root.chmod(0o500)
    check_set_refused(capsys, ['cannot be', 'Permission denied'], root)


@pytest.mark.skipif(sys.platform == 'win32', reason='such names do not exist there')
@pytest.mark.parametrize('name', ['a\tb.png', 'a\nb.png', 'a\u2028b.png', os.fsdecode(b'\xff.png')])
def test_a_path_that_a_list_cannot_hold(make_set, capsys, name):
    root = make_set('a.png', 'a.png')
    for folder in ('images', 'masks'):
        (root / folder / name).touch()
    check_set_refused(capsys, ['a list cannot contain', ascii(name)[1:-1], 'rename'], root)


def test_links_to_files_count_and_loops_end(make_set):
    root = make_set('a.png', 'a.png b.png c.png')
    (root / 'images' / 'b.png').symlink_to(root / 'images' / 'a.png')
    (root / 'images' / 'c.png').symlink_to('nowhere.png')
    (root / 'images' / 'loop').symlink_to(root / 'images')
    train, _ = make_lists(root, '--val', 0)
    assert train == [('a.png', 'a.png'), ('b.png', 'b.png')]


def split_toy_pairs(directory, tmp_path):
    """Four toy pairs, readable, in directory/my images and directory/masks."""
    write_list(tmp_path / 'toy', 4)
    for folder in ('my images', 'masks'):
        (directory / folder).mkdir(parents=True)
    for path in sorted((tmp_path / 'toy').glob('*.png')):
        path.rename(directory / ('masks' if '_label' in path.name else 'my images') / path.name)


def test_a_written_list_loads_wherever_it_is(tmp_path):
    split_toy_pairs(tmp_path / 'set', tmp_path)
    (tmp_path / 'far' / 'away').mkdir(parents=True)
    (tmp_path / 'link').symlink_to(tmp_path / 'far' / 'away')
    folders = [str(tmp_path / 'set' / name) for name in ('my images', 'masks')]
    for out in (tmp_path / 'set', tmp_path / 'new' / 'lists', tmp_path / 'link'):
        main(parse_args([*folders, '--out', str(out)]))
        train, val = (ListFile(out / name) for name in ('train.txt', 'val.txt'))
        assert (len(train), len(val)) == (3, 1)
    assert '../../set/my images/' in train.entry(0)[0]


def test_the_command_writes_beside_the_folders_without_torch(tmp_path):
    root = tmp_path / 'my set'
    split_toy_pairs(root, tmp_path)
    command = ['-X', 'importtime', '-m', 'data.make_list', root / 'my images', root / 'masks']
    process = run_python(*command, '--val', 0.5)
    assert process.returncode == 0, process.stderr
    assert 'torch' not in process.stderr
    assert f"--train_list '{root}/train.txt' --val_list '{root}/val.txt'" in process.stdout
    assert ListFile(root / 'val.txt').entry(0)[0].startswith('my images/')
    process = run_python('-m', 'data.make_list', root / 'my images', root / 'masks')
    assert process.returncode == 2
    assert process.stderr.startswith('error: ')
    assert process.stderr.count('\n') == 1


def test_a_disk_that_is_full_leaves_both_lists_as_they_were(make_set, capsys):
    names = number('a_long_name_{}.png', range(40))
    root = make_set(names, names)
    make_lists(root)
    before = [(root / f'{name}.txt').read_text() for name in ('train', 'val')]
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before[0]) - 1, limits[1]))
    try:
        options = root / 'images', root / 'masks', '--seed', 5, '--overwrite'
        check_refused(capsys, ['cannot be', 'File too large'], *options)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [(root / f'{name}.txt').read_text() for name in ('train', 'val')] == before
