"""How far an epoch is: a bar on a terminal, a line now and then elsewhere."""

import sys
import time

from tqdm import tqdm


class Progress:
    """Iterates over a loader, timing it; `show` prints what the loop has to say.

    After the loop `speed` says how fast it went.
    """

    def __init__(self, loader, title, print_freq, start=0):
        """`start` is the number of batches that were done before."""
        self.loader, self.title, self.print_freq, self.start = loader, title, print_freq, start
        self.on_terminal = sys.stderr.isatty()
        self.num_steps, self.num_images = start, 0
        self.seconds = self.wait_s = 0.0

    def __iter__(self):
        self.start_s = wait_start = time.perf_counter()
        bar = tqdm(
            self.loader, self.title, leave=False, disable=not self.on_terminal, initial=self.start
        )
        for batch in bar:
            self.wait_s += time.perf_counter() - wait_start
            self.num_steps += 1
            self.num_images += len(batch['name'])
            self.bar = bar
            yield batch
            wait_start = time.perf_counter()
            self.seconds = wait_start - self.start_s

    @property
    def is_due(self):
        """True each print_freq steps: time to `show`."""
        return self.num_steps % self.print_freq == 0

    def show(self, **numbers):
        """Prints `numbers` with the speed and the time that is left of this loop."""
        text = ' '.join(f'{name} {value:.4g}' for name, value in numbers.items())
        if self.on_terminal:
            self.bar.set_postfix_str(text, refresh=False)
            return
        elapsed_s = max(time.perf_counter() - self.start_s, 1e-9)
        num_left = len(self.loader) - self.num_steps
        left_s = elapsed_s / (self.num_steps - self.start) * num_left
        speed = f'{self.num_images / elapsed_s:.1f} img/s {left_s:.0f} s left'
        print(f'{self.title} step {self.num_steps}/{len(self.loader)} {text} {speed}', flush=True)

    @property
    def speed(self):
        """{'img_per_s', 'seconds', 'data_wait'} of the finished loop; data_wait is a share. {} if
        nothing was left to do.
        """
        if not self.num_images:
            return {}
        seconds = max(self.seconds, 1e-9)
        return {
            'img_per_s': self.num_images / seconds,
            'seconds': self.seconds,
            'data_wait': self.wait_s / seconds,
        }
