"""Runs an exported file as its user does, outside this project, and compares outputs."""

import subprocess
import sys

import numpy as np

from utils.errors import UserError

TOLERANCE = 1e-4  # of the largest output: rounding; what is wrong differs by more
NUM_RUNS = 10  # for the latency
# Runs in a process of its own, outside this project, as a user of the file does.
RUN = f"""
import statistics, sys, time
import numpy as np

path, inputs, outputs = sys.argv[1:]
if path.endswith('.onnx'):
    import onnxruntime
    session = onnxruntime.InferenceSession(path)
    run = lambda img: session.run(None, {{session.get_inputs()[0].name: img}})[0]
else:
    import torch
    model = torch.export.load(path).module()
    run = lambda img: model(torch.from_numpy(img)).detach().numpy()
images, times = list(np.load(inputs).values()), []
results = [run(img) for img in images]
for _ in range({NUM_RUNS}):
    start_s = time.perf_counter()
    run(images[0])
    times.append((time.perf_counter() - start_s) * 1000)
np.savez(outputs, *results, latency_ms=statistics.median(times))
"""


def run_file(path, images, directory):
    """Runs the file in a process of its own, on each of `images`; returns ([output], the median
    milliseconds of the first).
    """
    inputs, outputs = directory / 'inputs.npz', directory / 'outputs.npz'
    np.savez(inputs, *(img.numpy() for img in images))
    command = [sys.executable, '-c', RUN, path, inputs, outputs]
    ended = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    if ended.returncode:
        reason = ended.stderr.strip().rpartition('\n')[2]
        raise UserError(f'{path.name} does not run outside this project: {reason[:300]}')
    content = np.load(outputs)
    return [content[f'arr_{i}'] for i in range(len(images))], float(content['latency_ms'])


def compare(expected, results):
    """The largest difference of two lists of outputs, as a share of the largest output."""
    largest = np.max([np.abs(output).max() for output in expected])  # unlike max, keeps a nan
    pairs = zip(expected, results, strict=True)
    return float(np.max([np.abs(a - b).max() for a, b in pairs]) / np.maximum(largest, 1e-9))
