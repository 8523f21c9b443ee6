"""The command line: one-line errors, files of options, and options that a checkpoint contains."""

import argparse
import shlex
import sys

from utils.errors import UserError, nearest
from utils.files import read_text, replace_file


class HelpFormatter(argparse.HelpFormatter):
    """Adds the default to a help line, unless it is blank or off."""

    def _get_help_string(self, action):
        if action.default is False or action.default in (None, '', argparse.SUPPRESS):
            return action.help
        return f'{action.help} (default: {format_value(action.default)})'.replace('%', '%%')


class Parser(argparse.ArgumentParser):
    """argparse that never abbreviates, names the nearest option, and reads `@args.txt`."""

    def __init__(self, **kwargs):
        super().__init__(allow_abbrev=False, formatter_class=HelpFormatter, **kwargs)

    def parse_args(self, argv=None, namespace=None):
        argv = expand(sys.argv[1:] if argv is None else argv)
        args, unknown = self.parse_known_args(argv, namespace)
        if unknown:
            name = unknown[0].partition('=')[0]
            if not name.startswith('-'):
                self.error(f"'{name}' belongs to no option, such as --load_model_path FILE")
            self.error(f"unknown option '{name}'{nearest(name, self._option_string_actions)}")
        return args

    def check_kinds(self, kinds):
        """UserError for an option that is in no row of `kinds`, {kind: names}."""
        known = {'help', *' '.join(kinds.values()).split()}
        missing = [action.dest for action in self._actions if action.dest not in known]
        if missing:
            advice = "a 'result' option, for example, is taken from the checkpoint in evaluation"
            raise UserError(f"options.py: add '{missing[0]}' to a row of KINDS: {advice}")

    def parse_typed(self, argv=None):
        """{name: value} of the options that argv contains: no defaults."""
        not_typed = object()
        blank = argparse.Namespace(**{action.dest: not_typed for action in self._actions})
        typed = vars(self.parse_args(argv, blank))
        return {name: value for name, value in typed.items() if value is not not_typed}

    def get_defaults(self):
        """{name: default} of every option."""
        return vars(self.parse_args([]))

    def get_changed(self, args):
        """Of {name: value}, the options that are not at their defaults."""
        defaults = self.get_defaults()
        return {name: value for name, value in args.items() if value != defaults.get(name)}

    def parse_stored(self, stored, names):
        """{name: value} of those options in `stored`, from a file, that are among `names`.

        Each value is parsed again by its option's own type; UserError if it does not pass.
        """
        values, stored = {}, stored if isinstance(stored, dict) else {}
        for action in [a for a in self._actions if a.dest in names and a.dest in stored]:
            value = stored[action.dest]
            parts = value if isinstance(value, list) else [value]
            advice = f'give {action.option_strings[0]} yourself'
            if not all(isinstance(part, str | int | float | None) for part in parts):
                line = f'the checkpoint contains a {type(value).__name__} as option {action.dest}'
                raise UserError(f'{line}: {advice}')
            words = format_words(action, value)
            if len(words) == 2:  # --x=value, so that a value with a leading @ or - stays a value
                words = ['='.join(words)]
            try:
                if any(word.startswith(('@', '-')) for word in words[1:]):
                    self.error(f'argument {words[0]}: got {" ".join(words[1:])}')
                values |= self.parse_typed(words)
            except UserError as error:
                raise UserError(f'an option in the checkpoint: {error}; {advice}') from error
        return values

    def error(self, message):
        raise UserError(message)


def expand(argv, depth=0):
    """The words of argv, with its `@args.txt` files replaced by their content."""
    words = []
    if depth > 10:
        raise UserError(f'{" ".join(argv)[:80]}: files of options that name each other')
    for word in argv:
        if not word.startswith('@'):
            words.append(word)
            continue
        try:
            content = shlex.split(read_text(word[1:], 'file of options'), comments=True)
        except ValueError as error:  # a UserError too
            raise UserError(f'{word}: {error}') from error
        words += expand(content, depth + 1)
    return words


def format_words(action, value):
    """The words that would be typed to give an option this value; [] for blank and off."""
    if value is None or value is False or value == '':
        return []
    values = [] if value is True else value if isinstance(value, list) else [value]
    return [action.option_strings[0], *map(str, values)]


def write_args(args, path, parser, left_out, command):
    """Writes args as a file of options for `@path`: one per line, its default beside it."""
    lines = [f'# to run this again: {shlex.join(["python", *command])}']
    for action in parser._actions:
        value = getattr(args, action.dest, None)
        words = format_words(action, value)
        if words and action.dest not in left_out:
            note = f'  # default: {format_value(action.default)}' if value != action.default else ''
            if words[-1][0] in '@-' and len(words) == 2:
                words = ['='.join(words)]  # a value, not a file of options or an option
            lines.append(shlex.join(words) + note)
    with replace_file(path) as file:
        file.write('\n'.join(lines) + '\n')


def format_value(value):
    """An option's value as it would be typed, or 'blank' or 'off'."""
    if isinstance(value, list):
        return ' '.join(map(str, value))
    return 'blank' if value in (None, '') else 'off' if value is False else str(value)
