"""The fault suite: `python -m scripts.faults [--only F1 F3] [--count N] [--seed 0]`.

Prints one line per fault: what was done, how often it ended as it must, and the time.
"""

import argparse
import random
import sys
import tempfile
import time

import torch

from scripts.fault_inputs import INPUTS
from scripts.fault_kills import KILLS
from scripts.fault_runs import Lab
from scripts.fault_saves import SAVES

FAULTS = dict(sorted((KILLS | SAVES | INPUTS).items(), key=lambda item: int(item[0][1:])))


def main(args):
    """Returns 1 if a fault falls short."""
    torch.set_num_threads(1)  # a pool of threads would not survive a fork

    def count(full):
        return min(full, args.count or full)

    num_short = 0
    with tempfile.TemporaryDirectory() as directory:
        lab = Lab(directory, count, random.Random(args.seed))
        lab.make_straight()
        for name in args.only:
            call, title = FAULTS[name]
            start_s = time.monotonic()
            num_good, num_all, what = call(lab)
            verdict = 'pass' if num_good == num_all else f'falls short by {num_all - num_good}'
            seconds = time.monotonic() - start_s
            num_short += num_good != num_all
            figure = f'{int(num_good)}/{num_all} {what}'
            print(f'{name:<4} {title:<40} {figure:<46} {seconds:5.0f} s  {verdict}', flush=True)
    return int(num_short > 0)


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--only', nargs='+', choices=FAULTS, default=list(FAULTS), metavar='F')
    parser.add_argument('--count', type=int, help='at most this many of each')
    parser.add_argument('--seed', type=int, default=0, help='chooses the moments')
    sys.exit(main(parser.parse_args()))
