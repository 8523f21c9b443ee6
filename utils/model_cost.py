"""What a model costs: parameters, multiply-adds, bytes, and the time of one image."""

import statistics
import time

import torch
from torch.utils.flop_counter import FlopCounterMode

from utils.torch_utils import eager_mode
from utils.weights import unwrap

NUM_RUNS = 20  # of the network for its latency, after WARM_UPS that are not counted
WARM_UPS = 3
MAX_S = 5.0  # no further run after so many seconds


def describe_model(evaluator):
    """'0.90 M parameters, 1.23 G multiply-adds at 96 x 128' for the first validation image."""
    num_parameters = sum(p.numel() for p in unwrap(evaluator.model).parameters())
    batch = evaluator.loader.read_one()
    size = ' x '.join(map(str, batch['img'].shape[-2:]))
    try:
        cost = f'{count_multiply_adds(evaluator, batch) / 1e9:.3g} G multiply-adds at {size}'
    except Exception as error:  # a figure for people must not end a run
        cost = f'multiply-adds unknown ({type(error).__name__})'
    return f'{num_parameters / 1e6:.3g} M parameters, {cost}'


@torch.no_grad()
def count_multiply_adds(evaluator, batch):
    """Multiply-adds of the convolutions and matrix products of one forward pass."""
    evaluator.model.eval()
    with eager_mode(evaluator.args.compile), FlopCounterMode(display=False) as counter:
        evaluator.step(batch)
    return counter.get_total_flops() / 2


@torch.no_grad()
def measure_latency(evaluator):
    """Milliseconds of one image's forward pass on this device: (median, 95th percentile)."""
    evaluator.model.eval()
    batch = evaluator.loader.read_one()
    times_ms = time_calls(lambda: evaluator.step(batch).flatten()[0].item())  # waits for the device
    return statistics.median(times_ms), sorted(times_ms)[int(0.95 * (len(times_ms) - 1))]


def time_calls(call):
    """Milliseconds of each call, in NUM_RUNS or fewer if they take long."""
    times_ms, start_s = [], time.perf_counter()
    for i in range(WARM_UPS + NUM_RUNS):
        if i > WARM_UPS and time.perf_counter() - start_s > MAX_S:
            break
        mark_s = time.perf_counter()
        call()
        times_ms.append((time.perf_counter() - mark_s) * 1000)
    return times_ms[WARM_UPS:]


def count_bytes(trainer):
    """About how large a checkpoint of a run becomes: weights, their average, optimizer state."""
    num_weights = sum(t.nbytes for t in unwrap(trainer.model).state_dict().values())
    group = trainer.optimizer.param_groups[0]
    num_states = 2 if 'betas' in group else bool(group.get('momentum'))
    return num_weights * (1 + bool(trainer.args.ema) + num_states)
