"""A page in Chromium, over the WebDriver protocol and the standard library alone."""

import json
import re
import shutil
import subprocess
import urllib.error
import urllib.request
from contextlib import contextmanager

import pytest

CHROMIUM = shutil.which('chromium') or shutil.which('google-chrome')
needs_browser = pytest.mark.skipif(
    not CHROMIUM or not shutil.which('chromedriver'), reason='needs chromium and chromedriver'
)


class Browser:
    """One tab; JavaScript is run in it and its keys are pressed."""

    def __init__(self, url):
        self.url = url
        flags = ['--headless=new', '--no-sandbox', '--disable-dev-shm-usage', '--disable-gpu']
        options = {'binary': CHROMIUM, 'args': flags}
        wanted = {'goog:chromeOptions': options, 'goog:loggingPrefs': {'browser': 'ALL'}}
        answer = self._post('/session', {'capabilities': {'alwaysMatch': wanted}})
        self.url = f'{url}/session/{answer["sessionId"]}'

    def _post(self, place, content):
        data = json.dumps(content).encode()
        try:
            with urllib.request.urlopen(f'{self.url}{place}', data, timeout=60) as reply:
                return json.load(reply)['value']
        except urllib.error.HTTPError as error:
            raise AssertionError(json.load(error)['value']['message']) from None

    def open(self, path, width=1400, height=900):
        """Opens a file in a window of that size."""
        self.command('Emulation.setDeviceMetricsOverride', width=width, height=height,
                     deviceScaleFactor=1, mobile=False)  # fmt: skip
        still = {'name': 'prefers-reduced-motion', 'value': 'reduce'}  # no smooth scrolling
        self.command('Emulation.setEmulatedMedia', features=[still])
        self._post('/url', {'url': path.absolute().as_uri()})

    def command(self, name, **params):
        """What the browser answers to a command of the DevTools protocol."""
        return self._post('/goog/cdp/execute', {'cmd': name, 'params': params})

    def run(self, script):
        """The value of a JavaScript expression."""
        return self._post('/execute/sync', {'script': f'return {script}', 'args': []})

    def click(self, selector):
        """Clicks an element as a mouse does: it has to be in sight."""
        found = self._post('/element', {'using': 'css selector', 'value': selector})
        self._post(f'/element/{next(iter(found.values()))}/click', {})

    def press(self, *keys):
        """Presses keys, one after the other; '\\ue00c' is Escape."""
        actions = [{'type': t, 'value': k} for k in keys for t in ('keyDown', 'keyUp')]
        self._post('/actions', {'actions': [{'type': 'key', 'id': 'keys', 'actions': actions}]})

    def read_errors(self):
        """The warnings and errors on the console since the last call."""
        logged = self._post('/se/log', {'type': 'browser'})
        return [line['message'] for line in logged if line['level'] in ('SEVERE', 'WARNING')]

    def close(self):
        """Ends the browser."""
        request = urllib.request.Request(self.url, method='DELETE')
        urllib.request.urlopen(request, timeout=60).close()


@contextmanager
def start_browser():
    """A Browser, which ends with the block."""
    command = ['chromedriver', '--port=0']
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as driver:
        try:
            lines = iter(driver.stdout.readline, '')
            ports = (re.search(r'successfully on port (\d+)', line) for line in lines)
            port = next(match[1] for match in ports if match)
            browser = Browser(f'http://127.0.0.1:{port}')
            try:
                yield browser
            finally:
                browser.close()
        finally:
            driver.terminate()
