"""`python -m data.make_list IMAGES LABELS` pairs two folders into train.txt and val.txt.

An image and its label have the same stem, in the same folder or, if that pairs nothing, in any.
Stems may have a constant prefix and suffix: the label of 1_leftImg8bit.png is 1_labelIds.png.
"""

import argparse
import hashlib
import os
import random
import re
import shlex
import sys
from contextlib import ExitStack
from itertools import chain, combinations, product
from pathlib import Path

from data.image_files import list_images
from utils.arg_parser import Parser
from utils.arg_types import fraction, seed
from utils.errors import UserError, one_line_errors, plural
from utils.files import replace_file

TOKEN = re.compile(r'\d+|[^\W\d_]+|[\W_]')  # prefixes and suffixes are whole tokens
NUMBER = re.compile(r'(?<![^\W_])\d+(?![^\W_])')  # by itself: not the 8 of leftImg8bit
SAME_STEM = ('', ''), ('', '')  # (prefix, suffix) of images and of labels
NUM_COMPARED = 1000  # images whose names are compared with those of all labels: a second or two


def find_files(folder, other):
    """The image files below `folder` but not in `other`: sorted, relative to `folder`."""
    if not folder.is_dir():
        reason = 'is a file' if folder.exists() else 'does not exist'
        raise UserError(f'{folder} {reason}; expected a folder of images and a folder of labels')
    if folder.resolve() == other.resolve():
        raise UserError(f'{folder} contains images and labels; move the labels to their own folder')
    inner = other if folder in other.parents else None
    return [path.relative_to(folder).as_posix() for path in list_images(folder, inner)]


def cut_stem(stem):
    """[(core, (prefix, suffix))]: every way to cut a stem between tokens."""
    cuts = [0, *(token.end() for token in TOKEN.finditer(stem))]
    return [(stem[i:j], (stem[:i], stem[j:])) for i, j in combinations(cuts, 2)]


def choose_affixes(images, labels):
    """((prefix, suffix) of images, the same of labels), without which the most stems are equal; of
    several such the shortest.
    """
    images, labels = ({Path(file).stem: file for file in files} for files in (images, labels))
    if len(images.keys() & labels.keys()) == min(len(images), len(labels)):
        return SAME_STEM
    compared = random.Random(0).sample(list(images), min(NUM_COMPARED, len(images)))
    cores, pairs = {}, {}
    for stem in compared:
        for core, affixes in cut_stem(stem):
            cores[core] = None if core in cores else (affixes, images[stem])  # None: of several
    for stem, label in labels.items():
        for core, affixes in cut_stem(stem):
            image_affixes, image = cores.get(core) or (None, None)
            # A number may be taken off, but not exchanged: cat_7 is not the image of cat_8.
            if image and not (any(affixes) and NUMBER.search(' '.join(image_affixes))):
                pairs.setdefault((image_affixes, affixes), []).append((image, label))
    pairs[SAME_STEM] = [(images[stem], labels[stem]) for stem in compared if stem in labels]
    best = max(pairs, key=lambda rule: (len(pairs[rule]), -len(''.join(chain(*rule)))))
    rivals = [rule for rule in pairs if rule[0] == best[0] or rule[1] == best[1]]
    if best != SAME_STEM:
        check_single({pairs[rule][0] for rule in rivals if 2 * len(pairs[rule]) > len(pairs[best])})
    return best


def check_single(pairs):
    """Stops when there are several pairs of what should be one image and one label."""
    if len(pairs) > 1:
        names = ', '.join(f'{image} with {label}' for image, label in sorted(pairs))
        raise UserError(f'ambiguous pairs: {names}; keep one image and one label of each name')


def pair_files(images, labels, affixes, is_flat):
    """[(image, label)], sorted, whose stems without affixes and, unless is_flat, folders agree."""
    groups = {}, {}
    for group, files, (prefix, suffix) in zip(groups, (images, labels), affixes, strict=True):
        for file in files:
            folder, stem = '' if is_flat else Path(file).parent, Path(file).stem
            core = stem[len(prefix) : len(stem) - len(suffix)]
            if core and stem.startswith(prefix) and stem.endswith(suffix):
                group.setdefault((folder, core), []).append(file)
    pairs = [list(product(files, groups[1].get(key, []))) for key, files in groups[0].items()]
    for several in pairs:
        check_single(several)
    return sorted(chain(*pairs))


def find_pairs(args):
    """[(image, label)], relative to their folders; says by which rule, and which files are left."""
    folders = args.images, args.labels
    files = find_files(*folders), find_files(*folders[::-1])
    affixes = choose_affixes(*files)
    for where in ('the same folder', 'any folder'):
        pairs = pair_files(*files, affixes, is_flat=where == 'any folder')
        if pairs:
            break
    else:
        names = f'{folders[0]} has {files[0][0]}, {folders[1]} has {files[1][0]}'
        raise UserError(f'no pairs: {names}; expected the same stem but for a constant part')
    parts = 'image {} and label {}'.format(*map('*'.join, affixes))
    rule = 'the same stem' if affixes == SAME_STEM else parts
    print(f'{plural(len(pairs), "pair")}: {rule}, in {where}')
    for i, kind in enumerate(('unpaired image', 'unpaired label')):
        left = sorted(set(files[i]) - {pair[i] for pair in pairs})
        if left:
            names = f'{plural(len(left), kind)} in {folders[i]}: {", ".join(left[:3])}'
            print(f'warning: {names}', file=sys.stderr)
    return pairs


def split_pairs(pairs, args):
    """{'train': pairs, 'val': pairs}, without 'val' for --val 0. A group stays together."""
    groups = {}
    for image, label in pairs:
        match = args.group.search(image)
        name = match and match[min(args.group.groups, 1)]
        groups.setdefault(name or '', []).append((image, label))
    if '' in groups:
        images = f'{plural(len(groups[""]), "image")}, the first is {groups[""][0][0]}'
        raise UserError(f"--group '{args.group.pattern}' finds nothing in {images}")
    if not args.val:
        return {'train': pairs}
    if len(groups) == 1:
        name = next(iter(groups))
        raise UserError(f"one group, '{name}': everything would be in one list; give --val 0")
    # Sorted by hash, most images stay in their list when others are added.
    keys = {name: hashlib.sha256(f'{args.seed} {name!a}'.encode()).digest() for name in groups}
    names = sorted(groups, key=keys.get)
    num_val = min(max(round(args.val * len(names)), 1), len(names) - 1)
    val = {pair for name in names[:num_val] for pair in groups[name]}
    return {'train': [pair for pair in pairs if pair not in val], 'val': sorted(val)}


def format_rows(pairs, args):
    """The lines of a list file in args.out."""
    starts = [os.path.relpath(folder, args.out) for folder in (args.images, args.labels)]
    rows = [[Path(*parts).as_posix() for parts in zip(starts, pair, strict=True)] for pair in pairs]
    for path in chain(*rows):
        is_plain = path.encode('utf-8', 'ignore').decode().strip().splitlines() == [path]
        if not is_plain or '\t' in path or path.startswith('#'):
            raise UserError(f'a list cannot contain the path {path!a}; rename it')
    return ['\t'.join(row) + '\n' for row in rows]


def folder_path(text):
    """An argparse type: an absolute path."""
    return Path(os.path.normpath(Path(text).absolute()))


def pattern(text):
    """An argparse type: a regular expression."""
    try:
        return re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(
            f"'{text}' is not a valid regular expression: {error}"
        ) from error


def parse_args(argv=None):
    """The command line."""
    parser = Parser(prog='python -m data.make_list', description=__doc__.partition('\n')[0])
    add = parser.add_argument
    add('images', type=folder_path, metavar='IMAGES', help='folder, searched with its subfolders')
    add('labels', type=folder_path, metavar='LABELS', help='folder of their labels')
    add('--val', type=fraction, default=0.2, help='share of images, or groups, for val.txt')
    finds = 'finds the name of what stays in one list, such as a patient, in the path of an image'
    add('--group', type=pattern, metavar='REGEX', default='.+', help=finds)
    add('--seed', type=seed, default=0, help='another one gives another val.txt')
    add('--out', type=folder_path, metavar='DIR', help='for the lists; blank: above both folders')
    add('--overwrite', action='store_true', help='replace lists that exist')
    args = parser.parse_args(argv)
    if args.out:  # a list's paths may begin with '..', which from a link leads elsewhere
        args.images, args.labels, args.out = (
            path.resolve() for path in (args.images, args.labels, args.out)
        )
    out = args.out or Path(os.path.commonpath([args.images, args.labels]))
    args.out = out.relative_to(Path.cwd()) if out.is_relative_to(Path.cwd()) else out
    return args


def main(args):
    """Writes the lists, both or none; prints how to train with them."""
    try:
        lists = split_pairs(find_pairs(args), args)
        rows = {args.out / f'{name}.txt': format_rows(lists[name], args) for name in lists}
        existing = [path for path in rows if path.exists()]
        if existing and not args.overwrite:
            raise UserError(f'{existing[0]} exists; give --overwrite, or another --out')
        args.out.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            files = [stack.enter_context(replace_file(path)) for path in rows]
            for file, lines in zip(files, rows.values(), strict=True):
                file.writelines(lines)
                file.flush()  # before any of them is renamed
    except OSError as error:
        path = error.filename or args.out
        raise UserError(f'{path} cannot be read or written: {error.strerror}') from error
    for path in rows:
        print(f'{path}: {plural(len(rows[path]), "pair")}')
    options = chain(*((f'--{path.stem}_list', str(path)) for path in rows))
    print(f'next: python train.py {shlex.join(options)} --num_classes N')


if __name__ == '__main__':
    with one_line_errors():
        main(parse_args())
