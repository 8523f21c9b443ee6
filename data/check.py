"""What the lists and their labels hold: checked before training, in full by `python -m data.check`.

A label's values are counted, an image's size and EXIF orientation are read from its header.
"""

import re
import sys
from pathlib import Path

import numpy as np

from data.list_facts import count_list
from data.list_file import ListFile, count_overlap
from utils.classes import count_classes, get_class_names
from utils.errors import UserError, list_some, plural

MAX_NAMES = 30  # of classes in one line


def check_data(args, train_set, val_set):
    """Prints what two lists hold; UserError for what cannot be right, a warning for what is odd.

    Datasets without a list file or `read_label` are skipped.
    """
    sets = [s for s in (train_set, val_set) if isinstance(getattr(s, 'files', None), ListFile)]
    sets = [] if args.skip_check else [s for s in sets if hasattr(s, 'read_label')]
    reports = [count_list(args, dataset) for dataset in sets]
    for report in reports:
        if report['errors']:
            more = len(report['errors']) - 1
            note = f' (and {plural(more, "more line")} like it)' if more else ''
            raise UserError(f'{report["errors"][0]}{note}')
        print(describe_list(args, report))
    for report in reports:
        check_occurring(args, report)
    warnings = [warning for report in reports for warning in list_oddities(args, report)]
    if len(sets) == 2 and not args.overfit:
        warnings += compare_lists(args, sets, reports)
    for warning in warnings:
        print(f'warning: {warning}', file=sys.stderr)


def describe_list(args, report):
    """One line: images, sizes, modes if there are several, and the share of each class."""
    sizes = list(report['sizes'])
    size = sizes[0] if len(sizes) == 1 else f'{len(sizes)} sizes, mostly {sizes[0]}'
    checked = f' ({report["checked"]} checked)' if report['checked'] < report['images'] else ''
    line = f'{Path(report["list"]).name}: {plural(report["images"], "image")}{checked}, {size}'
    if len(report.get('modes', ())) > 1:
        line += f', {", ".join(f"{mode} {number}" for mode, number in report["modes"].items())}'
    total = sum(report['counts'].values())
    if not total:
        return line
    counts, ignored = name_counts(args, report)
    shares = [f'{name} {count / total:.1%}' for name, count in counts.items()]
    shares += [f'ignored {ignored / total:.1%}'] if ignored else []
    return f'{line}; {list_some(shares, MAX_NAMES)}'


def name_counts(args, report):
    """{class name: count}, in the order of the classes, and how many values are ignored."""
    counts = {int(value): count for value, count in report['counts'].items()}
    ignored, names = counts.pop(args.ignore_index, 0), enumerate(get_class_names(args))
    return {n: counts.get(value, 0) for value, n in names if value != args.ignore_index}, ignored


def check_occurring(args, report):
    """UserError if labels of classes hold a single one of them: there is nothing to learn."""
    (counts, ignored), names = name_counts(args, report), get_class_names(args)
    occurring = [name for name, count in counts.items() if count]
    is_chosen = 0 <= args.ignore_index < count_classes(args)  # a class is ignored on purpose
    if not report['counts'] or len(occurring) > 1 or is_chosen:
        return
    name, total = Path(report['list']).name, ignored + sum(counts.values())
    missing = list_some([n for n in names if n not in occurring], MAX_NAMES)
    line = f'{name}: class {missing} never occurs'
    if ignored:
        line += f', while {args.ignore_index}, which is ignored, covers {ignored / total:.1%}'
    advice = 'if that is the value of a class, give the stored values in the order of the classes, '
    values = ' '.join([*map(str, range(count_classes(args) - 1)), str(args.ignore_index)])
    advice += f'as in --label_values {values}'
    if args.label_values:
        given = ' '.join(args.label_values)
        advice = f'the files may store other values than --label_values {given}'
    raise UserError(f'{line}; {advice} (or --skip_check)')


def list_oddities(args, report):
    """What is odd about a list, one line each."""
    name, odd = Path(report['list']).name, []
    if report['turned']:
        images = plural(report['turned'], 'image')
        odd.append(f'{name}: EXIF turns {images} or their labels, not both: check that they match')
    counts, ignored = name_counts(args, report)
    missing = [n for n, count in counts.items() if not count]
    if report['counts'] and missing:
        share = f'; ignored: {ignored / (ignored + sum(counts.values())):.1%}' if ignored else ''
        odd.append(f'{name}: never occurs: class {list_some(missing, MAX_NAMES)}{share}')
    return odd


def compare_lists(args, sets, reports):
    """What is odd about a training and a validation list together, one line each."""
    names, odd = [Path(report['list']).name for report in reports], []
    num_shared = count_overlap(*(dataset.files for dataset in sets))
    if num_shared:
        odd.append(f'{num_shared} images of --val_list are also in --train_list')
    counts = [name_counts(args, report)[0] for report in reports]
    for one, other in ((0, 1), (1, 0)):
        only = [n for n, count in counts[one].items() if count and not counts[other].get(n)]
        if all(report['counts'] for report in reports) and only:
            shown = list_some(only, MAX_NAMES)
            odd.append(f'{shown}: in {names[one]}, but never in {names[other]}')
    return odd


def group_errors(errors):
    """The errors; of those that differ only in names and numbers the first, and which lines have
    it too.
    """
    groups = {}
    for error in errors:
        groups.setdefault(re.sub(r'\S*/\S*|\d[\d.]*%?', '', error), []).append(error)
    for first, *others in groups.values():
        yield first
        if others:
            numbers = np.array([int(re.search(r':(\d+): ', error)[1]) for error in others])
            runs = np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1)
            shown = ', '.join(f'{r[0]}-{r[-1]}' if len(r) > 1 else str(r[0]) for r in runs)
            yield f'    and {plural(len(others), "line")} like it: {shown}'


def main(argv=None):
    """Checks lists in full: every bad line, then the classes; returns 1 if anything is bad."""
    from data.data_entry import get_dataset_by_type
    from options import parse_common_args, prepare_test_args
    from utils.arg_parser import Parser

    parser = parse_common_args(Parser(prog='python -m data.check', description=main.__doc__))
    parser.add_argument('lists', nargs='+', metavar='LIST', help='list files')
    args, num_errors = parser.parse_args(argv), 0
    args.overfit, ListFile.raises = 0, False
    for path in args.lists:
        args.val_list = path
        report = count_list(prepare_test_args(args), get_dataset_by_type(args), is_full=True)
        errors = report['errors']
        if report['sizes']:
            try:
                check_occurring(args, report)
            except UserError as error:
                errors.append(str(error))
        print(*group_errors(errors), sep='\n', end='\n' if errors else '')
        num_errors += len(errors)
        if report['sizes']:
            print(describe_list(args, report))
            for odd in list_oddities(args, report):
                print(f'warning: {odd}')
    print(plural(num_errors, 'problem') if num_errors else 'no problems found')
    return 1 if num_errors else 0


if __name__ == '__main__':
    from utils.errors import one_line_errors

    with one_line_errors():
        sys.exit(main())
