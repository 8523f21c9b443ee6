"""The command line's grammar: one-line errors, types that check, and files of options."""

import argparse
import math
import re
import shlex

from utils.errors import nearest


class HelpFormatter(argparse.HelpFormatter):
    """Adds the default to a help line that has one worth saying."""

    def _get_help_string(self, action):
        if action.default in (None, False, '', argparse.SUPPRESS, []):
            return action.help
        return f'{action.help} (default: {format_value(action.default)})'.replace('%', '%%')


class Parser(argparse.ArgumentParser):
    """argparse that never abbreviates, names the nearest option, and reads `@args.txt`."""

    def __init__(self, **kwargs):
        super().__init__(
            formatter_class=HelpFormatter, fromfile_prefix_chars='@', allow_abbrev=False, **kwargs
        )

    def convert_arg_line_to_args(self, line):
        return shlex.split(line, comments=True)

    def expand(self, argv):
        """The words of argv, with what stands in its `@args.txt` files in their place."""
        return self._read_args_from_files(argv)

    def parse_args(self, argv=None, namespace=None):
        args, unknown = self.parse_known_args(argv, namespace)
        if unknown:
            name = unknown[0].partition('=')[0]
            self.error(f"unknown option '{name}'{nearest(name, self._option_string_actions)}")
        return args

    def error(self, message):
        self.exit(2, f'error: {message}\n')


def write_args(args, path, parser, left_out, command):
    """Writes args as a file of options for `@path`: one a line, what is no default marked."""
    lines = [f'# {command} runs this again']
    for action in parser._actions:
        value = getattr(args, action.dest, None)
        if action.dest in left_out or value is None or value is False or value == '':
            continue
        values = [] if value is True else value if isinstance(value, list) else [value]
        line = shlex.join([action.option_strings[0], *map(str, values)])
        is_default = value == action.default
        lines.append(line if is_default else f'{line}  # default: {format_value(action.default)}')
    path.write_text('\n'.join(lines) + '\n', encoding='utf-8')


def format_value(value):
    """An option's value as it would be typed; blank is said."""
    if isinstance(value, list):
        return ' '.join(map(str, value))
    return 'blank' if value in (None, '') else 'off' if value is False else str(value)


def number(kind, wanted, is_good):
    """An argparse type: `kind` (int or float), finite, for which is_good holds."""

    def parse(text):
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or not is_good(value):
            raise argparse.ArgumentTypeError(f"wanted {wanted}, got '{text}'")
        return value

    return parse


positive_int = number(int, 'a whole number above 0', lambda x: x > 0)
natural = number(int, 'a whole number, 0 or more', lambda x: x >= 0)
seed_int = number(int, 'a whole number from 0 to 4294967295', lambda x: 0 <= x < 2**32)
any_int = number(int, 'a whole number', lambda x: True)
positive = number(float, 'a number above 0', lambda x: x > 0)
not_negative = number(float, 'a number, 0 or more', lambda x: x >= 0)
fraction = number(float, 'a number from 0 up to, not including, 1', lambda x: 0 <= x < 1)


def plain_name(text):
    """An argparse type: a name that is safe as a part of a directory's name."""
    if not re.fullmatch(r'[A-Za-z0-9_][A-Za-z0-9_.+=-]*', text) or '..' in text:
        raise argparse.ArgumentTypeError(
            f"wanted letters, digits and _ . + = - (no '..', '/' or spaces), got '{text}'"
        )
    return text
