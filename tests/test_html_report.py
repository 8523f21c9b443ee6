"""report.html: what it holds, and what a reader can do with it in a browser."""

import json
import math
import re

import pytest
from browser import needs_browser, open_browser
from conftest import train

import eval as evaluation
from options import get_test_args
from utils.html_report import clean, write_page


def read_data(path):
    """The JSON that a page holds."""
    page = path.read_text(encoding='utf-8')
    return json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])


def evaluate(run, *options):
    """Evaluates the best checkpoint of a run; returns the path of report.html."""
    path = run.model_dir / 'best.pth'
    args, checkpoint = get_test_args(['--load_model_path', str(path), *map(str, options)])
    evaluation.main(args, checkpoint)
    return next(path.with_suffix('').rglob('report.html'))


@pytest.fixture
def run(make_args):
    return train(make_args('--epochs', 2))


def test_the_page_holds_scores_classes_images_curves_and_how_it_was_made(run):
    data = read_data(evaluate(run, '--save_viz', 2))
    scores = run.evaluator.eval()
    assert data['scores']['miou'] == pytest.approx(scores['miou'])
    assert [row['class'] for row in data['classes']] == ['0', '1', '2']
    assert len(data['images']) == 5
    counts = sum(cell[2] for image in data['images'] for cell in image['cells'])
    assert counts == sum(map(sum, data['confusion']))
    assert [row['epoch'] for row in data['curves']] == ['1', '2']
    assert data['options']['batch_size'] == str(run.args.batch_size)
    assert 'python' in data['command'] or 'pytest' in data['command']
    with_pictures = [image for image in data['images'] if image['pictures']]
    assert {'img', 'pred', 'label', 'error'} == set(with_pictures[0]['pictures'])


def test_the_pictures_that_it_names_are_beside_it(run):
    path = evaluate(run, '--save_viz', 1)
    pictures = [p for image in read_data(path)['images'] for p in image['pictures'].values()]
    assert pictures
    assert all((path.parent / picture).exists() for picture in pictures)


def test_a_name_cannot_end_the_data_and_nan_is_null(tmp_path):
    name = '</script><script>alert(1)</script>'
    write_page(tmp_path / 'a.html', 'report.html', {'name': name, 'score': math.nan})
    assert name not in (tmp_path / 'a.html').read_text()
    assert read_data(tmp_path / 'a.html') == {'name': name, 'score': None}
    assert clean({'a': [1.5, math.inf, (1, 'x')]}) == {'a': [1.5, None, [1, 'x']]}


def test_a_page_loads_nothing_from_the_network(tmp_path):
    write_page(tmp_path / 'a.html', 'report.html', {})
    assert 'http' not in (tmp_path / 'a.html').read_text().replace('http://www.w3.org/2000/svg', '')


def make_report(num_images):
    """What report.html shows, of images with scores from 0 to 1, every second one with an error."""
    images = [
        {
            'name': f'{i}.png',
            'scores': {'loss': 1 - i / num_images, 'miou': i / num_images},
            'cells': [[0, 0, 90], [1, 1, 10], *([[1, 0, i + 1]] if i % 2 else [])],
            'classes': {},
            'pictures': {'img': 'i.jpg', 'pred': 'p.jpg', 'error': 'e.jpg'} if i < 3 else {},
        }
        for i in range(num_images)
    ]
    return {
        'title': 'best.pth on val.txt',
        'facts': {},
        'scores': {'loss': 0.5, 'miou': 0.5},
        'drift': [],
        'command': 'python train.py',
        'options': {},
        'classes': [{'class': n, 'colour': [9, 9, 9], 'iou': 0.5} for n in ('sky', 'road')],
        'confusion': [[90 * num_images, 0], [99, 10 * num_images]],
        'images': images,
        'curves': [{'epoch': '1', 'train/miou': '0.5', 'val/miou': '0.6', 'lr': '0.1'}],
        'lower_is_better': ['loss'],
    }


ROWS = "return [...document.querySelectorAll('#list tbody tr')].map(row => row.cells[0].innerText)"
CARDS = (
    "return [...document.querySelectorAll('.card figcaption')].map(x => x.children[0].innerText)"
)


@needs_browser
@pytest.mark.slow
def test_a_reader_filters_sorts_toggles_and_steps_through_the_images(tmp_path):
    path = tmp_path / 'report.html'
    write_page(path, 'report.html', make_report(10))
    with open_browser() as browser:
        browser.open(path)
        assert browser.run(CARDS) == ['0.png', '1.png', '2.png']  # the worst first
        browser.click('[data-cell="1,0"]')
        assert browser.run(CARDS) == ['1.png']
        assert browser.run(ROWS) == ['9.png', '7.png', '5.png', '3.png']  # most pixels first
        browser.click('.chip')
        assert len(browser.run(ROWS)) == 7
        browser.run("const s = document.getElementById('sort'); s.value = 'loss';"
                    "s.dispatchEvent(new Event('change'))")  # fmt: skip
        browser.click('#direction')
        assert browser.run(ROWS)[0] == '9.png'
        browser.click('#direction')
        browser.click('[data-layer="error"]')
        source = "return document.querySelector('.card .over')?.getAttribute('src')"
        assert browser.run(source) == 'e.jpg'
        browser.press('p')
        assert browser.run(source) == 'p.jpg'
        browser.press('p')
        assert browser.run(source) is None
        browser.click('.card button')
        name = "return document.querySelector('dialog[open] strong')?.innerText"
        assert browser.run(name) == '0.png'
        browser.press('\ue014')  # the right arrow
        browser.press('j')
        browser.press('k')
        assert browser.run(name) == '1.png'
        browser.press('\ue00c')  # Escape
        assert browser.run(name) is None
        browser.click('#histogram rect')
        assert len(browser.run(CARDS) + browser.run(ROWS)) == 1
        errors = [line for line in browser.list_errors() if 'ERR_FILE_NOT_FOUND' not in line]
        assert errors == []


@needs_browser
@pytest.mark.slow
def test_five_thousand_images_open_and_are_listed_in_parts(tmp_path):
    path = tmp_path / 'report.html'
    write_page(path, 'report.html', make_report(5000))
    assert path.stat().st_size < 5e6
    with open_browser(400) as browser:
        browser.open(path)
        assert len(browser.run(CARDS) + browser.run(ROWS)) == 60
        browser.click('#more')
        assert len(browser.run(CARDS) + browser.run(ROWS)) == 120
        assert '5000 of 5000' in browser.run("return document.getElementById('number').innerText")
        browser.emulate(400, 'dark')
        assert browser.run('return document.documentElement.scrollWidth') <= 400
