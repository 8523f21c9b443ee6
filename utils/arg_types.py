"""Types of options: each checks what was typed and says what it expected."""

import argparse
import math
import re


def number(kind, expected, is_valid):
    """An argparse type: `kind` (int or float), finite, for which is_valid is true."""

    def parse(text):
        try:
            value = kind(text)
            is_finite = math.isfinite(value)
        except (ValueError, OverflowError):  # a whole number of hundreds of digits
            is_finite = False
        if not is_finite or not is_valid(value):
            raise argparse.ArgumentTypeError(f"expected {expected}, got '{text}'")
        return value

    return parse


positive_int = number(int, 'a whole number above 0', lambda x: x > 0)
natural = number(int, 'a whole number, 0 or more', lambda x: x >= 0)
seed = number(int, 'a whole number from 0 to 4294967295', lambda x: 0 <= x < 2**32)
positive = number(float, 'a number above 0', lambda x: x > 0)
not_negative = number(float, 'a number, 0 or more', lambda x: x >= 0)
fraction = number(float, 'a number from 0 up to, not including, 1', lambda x: 0 <= x < 1)


def run_name(text):
    """An argparse type: a name that is safe as a part of a directory's name."""
    if not re.fullmatch(r'[A-Za-z0-9_][A-Za-z0-9_.+=-]*', text) or '..' in text:
        expected = "letters, digits and _ . + = - (no '..', '/' or spaces)"
        raise argparse.ArgumentTypeError(f"expected {expected}, got '{text}'")
    return text
