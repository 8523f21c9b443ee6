"""The images below a folder; which images predict.py is asked for, and the names of its files."""

import glob
from pathlib import Path

from data.list_file import ListFile
from utils.errors import UserError

SUFFIXES = ('.png', '.jpg', '.jpeg', '.bmp', '.tif', '.tiff', '.webp', '.gif', '.ppm', '.pgm')
LISTS = ('.txt', '.csv', '.tsv')


class ImageList(ListFile):
    """The images of a list: its first column. What is missing is found when it is read."""

    raises = False

    def split_line(self, line):
        """The first cell; the whole line if that is a file, whose path contains spaces, or if the
        first cell is none.
        """
        cell = super().split_line(line)[0]
        is_path = Path(self.root, line).exists() or not Path(self.root, cell).exists()
        return [line if is_path else cell]


def find_images(words, root=''):
    """The paths that files, directories, globs and lists stand for, each with its name below the
    output directory, which has no suffix: {path: name}. `root` is of the paths in lists.

    UserError for a word that matches no image. In a directory's tree the names keep its
    directories; of two paths with one name the later gets its suffix or a number as well.
    """
    if not words:
        raise UserError("give IMAGES: files, directories, 'globs' or a list file")
    found, names = {}, set()
    for word in words:
        folder, paths = expand(word, root)
        for path in paths:
            if path in found:
                continue
            place = path.relative_to(folder) if path.is_relative_to(folder) else Path(path.name)
            name = choose_name(place, names)
            names.add(name)
            found[path] = name
    return found


def expand(word, root):
    """(folder, paths) of one word: names are relative to the folder, the paths of a list to `root`
    or, if that is blank, to its own directory.
    """
    path = Path(word)
    if path.is_dir():
        return path, list_images(path)
    if path.suffix.lower() in LISTS:
        rows = ImageList(path, root, num_paths=1)
        return Path(rows.root), [Path(rows[i][0]) for i in range(len(rows))]
    if path.exists():
        return path.parent, [path]
    paths = sorted(Path(name) for name in glob.glob(word, recursive=True))  # noqa: PTH207
    if not paths:
        raise UserError(f'{path.absolute()} does not exist')
    return Path(), paths


def list_images(folder, left_out=None):
    """The image files below `folder` but not in `left_out`, sorted; without hidden ones. Links to
    files count, links to folders are not followed: they may form a loop.
    """
    paths = (p for p in folder.rglob('*') if p.suffix.lower() in SUFFIXES and p.is_file())
    paths = (p for p in paths if '/.' not in f'/{p.relative_to(folder).as_posix()}')
    paths = sorted((p for p in paths if left_out not in p.parents), key=Path.as_posix)
    if not paths:
        kinds = ' '.join(SUFFIXES)
        raise UserError(f'{folder} contains no image ({kinds}; links to folders are not followed)')
    return paths


def choose_name(place, taken):
    """A name without suffix for the file `place` that is not yet taken, without '..' in it."""
    place = Path(*(part for part in place.parts if part not in ('..', place.anchor)))
    number, name = 1, str(place.with_suffix(''))
    while name in taken:
        suffix = place.suffix.replace('.', '_')
        name = f'{place.with_suffix("")}{suffix}{"" if number == 1 else f"_{number}"}'
        number += 1
    return name
