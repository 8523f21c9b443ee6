"""A real browser for tests: Chromium through the WebDriver protocol, which needs no package."""

import base64
import json
import shutil
import socket
import subprocess
import time
import urllib.request
from contextlib import contextmanager

import pytest

needs_browser = pytest.mark.skipif(
    not (shutil.which('chromedriver') and shutil.which('chromium')), reason='no Chromium'
)
ARGUMENTS = ['--headless=new', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage']


class Browser:
    """A page in Chromium; `run` evaluates JavaScript in it."""

    def __init__(self, url, width):
        options = {'args': [*ARGUMENTS, f'--window-size={width},1000']}
        wanted = {'goog:chromeOptions': options, 'goog:loggingPrefs': {'browser': 'ALL'}}
        self.url = url
        answer = self.send('POST', '/session', {'capabilities': {'alwaysMatch': wanted}})
        self.url = f'{url}/session/{answer["sessionId"]}'

    def send(self, method, path, content=None):
        body = None if content is None else json.dumps(content).encode()
        request = urllib.request.Request(f'{self.url}{path}', body, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)['value']

    def open(self, path):
        self.send('POST', '/url', {'url': f'file://{path}'})

    def run(self, script, *values):
        return self.send('POST', '/execute/sync', {'script': script, 'args': list(values)})

    def click(self, selector):
        event = "new MouseEvent('click', {bubbles: true})"
        self.run(f'document.querySelector({selector!r}).dispatchEvent({event})')

    def press(self, key):
        keys = [{'type': kind, 'value': key} for kind in ('keyDown', 'keyUp')]
        self.send('POST', '/actions', {'actions': [{'type': 'key', 'id': 'k', 'actions': keys}]})

    def list_errors(self):
        logs = self.send('POST', '/se/log', {'type': 'browser'})
        return [entry['message'] for entry in logs if entry['level'] == 'SEVERE']

    def emulate(self, width, scheme):
        """Sets the width and 'light' or 'dark'."""
        command = {'width': width, 'height': 1000, 'deviceScaleFactor': 1, 'mobile': width < 500}
        media = {'features': [{'name': 'prefers-color-scheme', 'value': scheme}]}
        for name, params in (
            ('Emulation.setDeviceMetricsOverride', command),
            ('Emulation.setEmulatedMedia', media),
        ):
            self.send('POST', '/goog/cdp/execute', {'cmd': name, 'params': params})

    def save_picture(self, path):
        """The whole page as a PNG file."""
        params = {'captureBeyondViewport': True}
        content = self.send(
            'POST', '/goog/cdp/execute', {'cmd': 'Page.captureScreenshot', 'params': params}
        )
        path.write_bytes(base64.b64decode(content['data']))


@contextmanager
def open_browser(width=1400):
    """Starts Chromium; ends it with the block."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        ['chromedriver', f'--port={port}'], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(100):
            with socket.socket() as probe:
                if not probe.connect_ex(('127.0.0.1', port)):
                    break
            time.sleep(0.1)
        browser = Browser(f'http://127.0.0.1:{port}', width)
        yield browser
        browser.send('DELETE', '')
    finally:
        server.kill()
