"""How far an epoch is: a bar on a terminal, a line now and then elsewhere."""

import sys
import time

import torch
from tqdm import tqdm

SILENT_S = 10  # a line is due after so many seconds, whatever --print_freq is
BAR_S = 1  # the same for the loss in a terminal's bar


class Progress:
    """Iterates over a loader, timing it; `show` prints what the loop has to say, or nothing but the
    step if it says nothing for long. `measure` says how fast it goes.
    """

    def __init__(self, loader, title, print_freq=1, start=0):
        """`start` is the number of batches that were done before."""
        self.loader, self.title, self.print_freq, self.start = loader, title, print_freq, start
        self.on_terminal, self.bar = sys.stderr.isatty(), None
        self.num_steps, self.num_images, self.batch_size = start, 0, 0
        self.start_s = self.mark_s = self.shown_s = time.perf_counter()
        self.wait_s = 0.0  # for the batch that is there now

    def __iter__(self):
        shown = {'leave': False, 'disable': not self.on_terminal, 'initial': self.start}
        shown['file'] = sys.__stderr__  # not copied to train.log
        self.bar = tqdm(self.loader, self.title, **shown)
        wait_start = time.perf_counter()
        for batch in self.bar:
            self.wait_s = time.perf_counter() - wait_start
            self.batch_size = len(batch['name'])
            self.num_steps, self.num_images = self.num_steps + 1, self.num_images + self.batch_size
            yield batch
            if self.is_silent:
                self.show()
            wait_start = time.perf_counter()

    @property
    def is_silent(self):
        """True after 10 s without a line, or a second on a terminal."""
        silent_s = time.perf_counter() - self.shown_s
        return silent_s > (BAR_S if self.on_terminal else SILENT_S)

    @property
    def is_due(self):
        """True every print_freq steps, and after a silence: time to `show`."""
        return self.is_silent or self.num_steps % self.print_freq == 0

    def show(self, **numbers):
        """Prints `numbers` with the speed and the time that is left of this loop."""
        self.shown_s = time.perf_counter()
        text = ''.join(f' {name} {value:.4g}' for name, value in numbers.items())
        if self.on_terminal:
            self.bar.set_postfix_str(text, refresh=False)
            return
        elapsed_s = max(self.shown_s - self.start_s, 1e-9)
        num_left = len(self.loader) - self.num_steps
        left_s = elapsed_s / (self.num_steps - self.start) * num_left
        speed = f'{self.num_images / elapsed_s:.1f} img/s {left_s:.0f} s left{get_gpu_memory()}'
        print(f'{self.title} step {self.num_steps}/{len(self.loader)}{text} {speed}', flush=True)

    def measure(self):
        """{name: (sum, count)} of the step since the last call: images per second, seconds of an
        epoch, and the share of time waiting for data.
        """
        mark_s, self.mark_s = self.mark_s, time.perf_counter()
        seconds = max(self.mark_s - mark_s, 1e-9)
        return {
            'img_per_s': (self.batch_size, seconds),
            'seconds': (seconds, 1 / len(self.loader)),
            'data_wait': (self.wait_s, seconds),
        }


def get_gpu_memory():
    """' 3.2 GB': the most that was allocated on the GPU; '' without one."""
    if not torch.cuda.is_initialized():
        return ''
    return f' {torch.cuda.max_memory_allocated() / 1e9:.1f} GB'
