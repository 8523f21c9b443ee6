"""What TensorBoard's own server says of a run."""

import contextlib
import json
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

from train import Trainer


@pytest.fixture
def server(make_args, tmp_path):
    """Address of a TensorBoard server on a run of two epochs."""
    Trainer(make_args('--scheduler', 'none')).train()
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    command = f'-m tensorboard.main --logdir {tmp_path} --port {port} --host 127.0.0.1'
    process = subprocess.Popen(
        [sys.executable, *command.split()], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    yield f'http://127.0.0.1:{port}/data/plugin'
    process.terminate()
    process.wait()


def ask(url, message=None):
    """The response as JSON; a message is sent with POST."""
    data = None if message is None else json.dumps(message).encode()
    request = urllib.request.Request(url, data, {'Content-Type': 'application/json'})
    with urllib.request.urlopen(request) as response:
        return json.load(response)


def wait_for_tags(url):
    """The response as soon as the server is up and has read the run; AssertionError after 60 s."""
    tags = {}
    for _ in range(300):
        with contextlib.suppress(OSError):  # not listening yet
            tags = ask(url)
        if tags:
            return tags
        time.sleep(0.2)
    raise AssertionError(f'{url} returned nothing in 60 s')


@pytest.mark.slow
def test_the_page_lists_curves_and_pictures(server):
    scalars = wait_for_tags(f'{server}/scalars/tags')['run']
    for name in ('/loss', '/miou', '/acc', ' per class/iou/1'):
        assert {f'train{name}', f'val{name}'} <= set(scalars)
    assert {'lr', 'train/grad_norm', 'speed/img_per_s', 'speed/data_wait'} <= set(scalars)
    assert {'best/loss', 'best/miou'} <= set(scalars)
    charts = str(ask(f'{server}/custom_scalars/layout'))
    assert 'train/miou' in charts
    assert 'val/miou' in charts
    points = ask(f'{server}/scalars/scalars?run=run&tag=lr')
    assert [point[1] for point in points] == [1, 2]
    assert wait_for_tags(f'{server}/text/tags')['run'] == ['args/text_summary']
    experiment = ask(f'{server}/hparams/experiment', {})
    assert {'lr', 'model_type', 'seed'} <= {info['name'] for info in experiment['hparamInfos']}
    request = {'startIndex': 0, 'sliceSize': 9, 'allowedStatuses': ['STATUS_UNKNOWN']}
    group = ask(f'{server}/hparams/session_groups', request)['sessionGroups'][0]
    assert group['hparams']['scheduler'] == 'none'
    names = {value['name']['tag'] for value in group['metricValues'] if value['value'] > 0}
    assert {'best/loss', 'best/miou', 'best/acc', 'best/mdice'} <= names
    images = wait_for_tags(f'{server}/images/tags')['run']
    assert {'train/0000', 'val/0000'} <= set(images)
