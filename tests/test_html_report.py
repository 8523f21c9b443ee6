"""report.html: what is in it, and what it does in a browser."""

import json
import math
import re

import cv2
import numpy as np
import pytest
from browser import needs_browser, start_browser
from conftest import train

import eval as evaluation
from options import get_test_args
from utils.html_report import quote_path, read_curves, write_page
from utils.report import TEMPLATE, get_rank

CLASSES = ['road', 'car', 'tree']
HOSTILE = '</script><script>alert(1)</script><!-- "\'&'
COUNTS = {  # of each image: rows label, columns prediction
    'a': [[90, 10, 0], [0, 50, 0], [0, 0, 0]],
    'b': [[80, 40, 0], [0, 30, 0], [0, 0, 0]],
    'c': [[100, 0, 0], [0, 20, 30], [0, 0, 0]],
    'd': [[150, 0, 0], [0, 0, 0], [0, 0, 0]],
}


def make_image(name, counts, **pictures):
    counts = np.array(counts)
    cells = [[int(r), int(c), int(counts[r, c])] for r, c in np.argwhere(counts)]
    pictures = {kind: quote_path(path) for kind, path in pictures.items()}
    acc = float(np.trace(counts) / counts.sum())
    scores = {'acc': acc, 'loss': 1 - acc, 'iou/tree': math.nan}
    return {'name': f'{name}.jpg', 'scores': scores, 'cells': cells, 'pictures': pictures}


def make_report(**changes):
    """A report of four images, d without a picture; the class tree never occurs."""
    kinds = ('img', 'pred', 'label', 'error')
    files = {name: {kind: f'panels/{name} #{kind}.png' for kind in kinds} for name in 'abc'}
    images = [make_image(name, COUNTS[name], **files.get(name, {})) for name in COUNTS]
    confusion = np.sum(list(COUNTS.values()), axis=0).tolist()
    rows = [('road', 0.75, 0.9), ('car', 0.25, 0.6), ('tree', 0.0, None)]
    classes = [{'class': n, 'color': (9, 9, 9), 'share': s, 'iou': i} for n, s, i in rows]
    curves = [{'epoch': str(i), 'train/loss': f'{1 / i}', 'val/loss': ''} for i in range(1, 4)]
    curves[1] |= {'val/loss': '0.7', 'train/iou/car': '0.5', 'speed/seconds': '3', 'lr': '0.1'}
    report = {'title': 'demo', 'facts': {'images': '4'}, 'scores': {'loss': 0.2, 'acc': 0.875}}
    report |= {'drift': ['code: unchanged'], 'command': 'python eval.py', 'options': {'lr': '1'}}
    report |= {'classes': classes, 'confusion': confusion, 'images': images}
    report |= {'main_score': 'acc', 'curves': read_curves(curves)}
    return report | {'lower_is_better': ['loss']} | changes


def write_html(path, report):
    write_page(path, TEMPLATE, report)


def read_data(path):
    """The data of a page, as a browser finds it: up to the first end of a script."""
    text = path.read_text(encoding='utf-8')
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    return json.loads(found[1])


def test_the_page_holds_all_of_the_report_and_leaves_no_place_unfilled(tmp_path):
    write_html(tmp_path / 'report.html', make_report())
    data = read_data(tmp_path / 'report.html')
    image = data['images'][1]
    assert (image['name'], image['cells']) == ('b.jpg', [[0, 0, 80], [0, 1, 40], [1, 1, 30]])
    scores = {'acc': 0.733333, 'loss': 0.266667, 'iou/tree': None}  # nan is no JSON
    assert image['scores'] == scores
    assert image['pictures']['img'] == 'panels/b%20%23img.png'
    for name in ('title', 'facts', 'scores', 'drift', 'command', 'options', 'confusion'):
        assert data[name] == make_report()[name]
    text = (tmp_path / 'report.html').read_text(encoding='utf-8')
    assert '{{' not in text
    assert not re.search(r'(src|href)="(?!data:)|https?://(?!www\.w3\.org/2000/svg)', text)


def test_curves_are_numbers_without_speed_and_classes(tmp_path):
    write_html(tmp_path / 'report.html', make_report())
    loss = {'train/loss': [1.0, 0.5, 0.333333], 'val/loss': [None, 0.7, None]}
    other = {'epoch': [1.0, 2.0, 3.0], 'lr': [None, 0.1, None]}
    assert read_data(tmp_path / 'report.html')['curves'] == loss | other


def test_no_text_can_end_the_script_that_holds_it(tmp_path):
    hostile = make_report(title=HOSTILE, command=HOSTILE, facts={HOSTILE: HOSTILE})
    hostile['classes'][0]['class'] = hostile['images'][0]['name'] = HOSTILE
    write_html(tmp_path / 'report.html', hostile)
    data = read_data(tmp_path / 'report.html')
    assert data['title'] == data['command'] == data['facts'][HOSTILE] == HOSTILE
    assert data['classes'][0]['class'] == data['images'][0]['name'] == HOSTILE


def test_names_that_are_no_text_are_written(tmp_path):
    odd = 'b\udcff.png'  # a file name with a byte that is no UTF-8
    image = make_image('b', COUNTS['b'], img=odd) | {'name': odd}
    write_html(tmp_path / 'report.html', make_report(images=[image]))
    data = read_data(tmp_path / 'report.html')
    assert data['images'][0]['name'] == odd
    assert data['images'][0]['pictures'] == {'img': 'b%FF.png'}


def make_large():
    """5,000 images with 20 scores, 60 confusions and four pictures each."""
    scores = {f'iou/{i}': i / 19 for i in range(20)}
    cells = [(i // 11, i % 11, 54321) for i in range(60)]
    pictures = {kind: f'panels/00000_{kind}.png' for kind in ('img', 'pred', 'label', 'error')}
    image = {'scores': scores, 'cells': cells, 'pictures': pictures}
    return make_report(images=[image | {'name': f'val/{i:05}.png'} for i in range(5000)])


@pytest.mark.slow
def test_5000_images_take_less_than_8_megabytes(tmp_path):
    write_html(tmp_path / 'report.html', make_large())
    assert (tmp_path / 'report.html').stat().st_size < 8e6


def test_an_evaluation_writes_its_page_with_its_pictures_beside_it(make_args):
    run = train(make_args('--epochs', 2, '--loss', 'ce_dice'))
    path = run.model_dir / 'best.pth'
    argv = ['--load_model_path', str(path), '--save_viz', '1']
    evaluation.main(*get_test_args(argv))
    page = next(path.with_suffix('').rglob('report.html'))
    data = read_data(page)
    assert data['scores']['miou'] == pytest.approx(run.evaluator.eval()['miou'], rel=1e-5)
    assert data['lower_is_better'] == ['loss', 'loss_ce', 'loss_dice']
    assert data['main_score'] == 'miou'
    assert [row['class'] for row in data['classes']] == ['0', '1', '2']
    assert data['curves']['epoch'] == [1, 2]
    assert data['options']['batch_size'] == str(run.args.batch_size)
    counts = [count for image in data['images'] for _, _, count in image['cells']]
    assert sum(counts) == sum(map(sum, data['confusion']))
    pictures = [image['pictures'] for image in data['images'] if image['pictures']]
    assert {'img', 'pred', 'label', 'error'} == set(pictures[0])
    assert all((page.parent / name).exists() for names in pictures for name in names.values())


def test_images_are_ordered_by_the_first_metric_whichever_way_it_goes():
    assert get_rank({'loss': 0.5, 'loss_ce': 0.5, 'l1': 2.0, 'acc': 0.1}) == 'l1'
    assert get_rank({'loss': 0.5, 'loss_ce': 0.5}) == 'loss'


@pytest.fixture(scope='module')
def browser():
    with start_browser() as browser:
        yield browser


def open_report(browser, directory, **changes):
    """Writes a report with its pictures and opens it."""
    report = make_report(**changes)
    (directory / 'panels').mkdir()
    for image in report['images']:
        for kind in image['pictures']:
            color = np.full((30, 40, 3), len(kind) * 20, np.uint8)
            cv2.imwrite(str(directory / f'panels/{image["name"][0]} #{kind}.png'), color)
    write_html(directory / 'report.html', report)
    browser.open(directory / 'report.html')
    return browser


def list_names(browser):
    return browser.run("[...document.querySelectorAll('.card .name')].map(e => e.textContent)")


def read_text(browser, selector):
    return browser.run(f"document.querySelector('{selector}')?.textContent")


def list_layers(browser, place='.card'):
    """The layers that lie over the first picture there."""
    layers = f"document.querySelector('{place} .picture').querySelectorAll('.layer')"
    return browser.run(f'[...{layers}].map(e => e.dataset.layer)')


@needs_browser
@pytest.mark.slow
def test_a_cell_of_the_confusion_shows_its_images_most_pixels_first(browser, tmp_path):
    open_report(browser, tmp_path)
    assert list_names(browser) == ['b.jpg', 'c.jpg', 'a.jpg']  # by accuracy, worst first
    assert read_text(browser, '#rows tbody td') == 'd.jpg'  # has no picture
    browser.click('[data-cell="0 1"]')
    assert list_names(browser) == ['b.jpg', 'a.jpg']
    assert read_text(browser, '.chip') == 'road predicted as car'
    assert read_text(browser, '.card b') == '40 pixels'
    browser.click('.chip')
    assert list_names(browser) == ['b.jpg', 'c.jpg', 'a.jpg']
    assert browser.read_errors() == []


@needs_browser
@pytest.mark.slow
def test_images_are_sorted_and_filtered_by_scores_classes_and_names(browser, tmp_path):
    open_report(browser, tmp_path)
    choose = "(e => {{ e.value = '{}'; e.dispatchEvent(new Event('{}')) }})(document.{})"
    sort = 'getElementById("sort")'
    browser.click('#reverse')
    assert list_names(browser) == ['a.jpg', 'c.jpg', 'b.jpg']
    browser.run(choose.format('errors 0', 'change', sort))
    assert list_names(browser) == ['b.jpg', 'a.jpg', 'c.jpg']
    browser.run(choose.format('score 1', 'change', sort))  # the loss: the highest is the worst
    assert list_names(browser) == ['b.jpg', 'c.jpg', 'a.jpg']
    browser.run(choose.format('C.', 'input', 'getElementById("search")'))
    assert list_names(browser) == ['c.jpg']
    browser.run(choose.format('', 'input', 'getElementById("search")'))
    browser.click('#histogram .bin')  # the lowest accuracy
    assert list_names(browser) == ['b.jpg']
    browser.click('.chip')
    assert len(list_names(browser)) == 3
    browser.click('#classes th button')
    assert read_text(browser, '#classes td') == 'car'
    assert read_text(browser, '#classes tfoot') == 'mean of 2 of 3 classes0.7500'
    assert browser.read_errors() == []


@needs_browser
@pytest.mark.slow
def test_a_bar_shows_the_images_that_lie_on_its_edge(browser, tmp_path):
    counts = [[7, 3, 0], [0, 0, 0], [0, 0, 0]]
    images = [make_image(str(i), counts) | {'scores': {'acc': i / 10}} for i in range(11)]
    open_report(browser, tmp_path, images=images, classes=[], confusion=None)
    bars = browser.run("document.querySelectorAll('#histogram .bin').length")
    shown = []
    for i in range(bars):
        bar = f"document.querySelectorAll('#histogram .bin')[{i}]"
        click = "dispatchEvent(new MouseEvent('click', {bubbles: true}))"
        said = browser.run(f"{bar}.getAttribute('aria-label')")
        browser.run(f'{bar}.{click}')
        shown.append(browser.run("document.querySelectorAll('#rows tbody tr').length"))
        assert f': {shown[-1]} images' in said
        browser.run(f"document.querySelectorAll('#histogram .bin')[{i}].{click}")
    assert sum(shown) == 11


@needs_browser
@pytest.mark.slow
def test_a_regression_is_headlined_by_its_metric(browser, tmp_path):
    images = [make_image(n, COUNTS[n]) | {'scores': {'loss': 0.5, 'l1': 2.0}} for n in 'ab']
    open_report(browser, tmp_path, images=images, scores={'loss': 0.5, 'l1': 2.0}, classes=[],
                confusion=None, main_score='l1', lower_is_better=['loss', 'l1'])  # fmt: skip
    assert read_text(browser, '#scores dt') == 'l1'
    assert browser.run("document.getElementById('sort').value") == 'score 1'


@needs_browser
@pytest.mark.slow
def test_keys_toggle_the_layers_and_step_through_the_large_view(browser, tmp_path):
    open_report(browser, tmp_path)
    assert list_layers(browser) == ['error']
    browser.press('e', 'p')
    assert list_layers(browser) == ['pred']
    browser.press('l')
    assert list_layers(browser) == ['label']  # in place of the prediction
    browser.click('.card')
    assert read_text(browser, '#large-name') == 'b.jpg'
    assert list_layers(browser, '#stage') == ['label']
    browser.press('j')
    browser.press('\ue014')  # arrow to the right
    assert read_text(browser, '#large-name') == 'a.jpg'
    browser.press('k')
    assert read_text(browser, '#position') == '2 of 4'
    browser.press('\ue00c')
    assert not browser.run("document.querySelector('dialog').open")
    assert browser.read_errors() == []


@needs_browser
@pytest.mark.slow
def test_a_hostile_name_is_text_and_a_narrow_window_does_not_overflow(browser, tmp_path):
    image = make_image('b', COUNTS['b']) | {'name': HOSTILE}
    open_report(browser, tmp_path, images=[image], title=HOSTILE)
    assert browser.run('document.title') == HOSTILE
    assert read_text(browser, '#rows tbody td') == HOSTILE
    browser.open(tmp_path / 'report.html', width=400)
    assert browser.run('document.documentElement.scrollWidth') <= 400
    assert browser.read_errors() == []


@needs_browser
@pytest.mark.slow
def test_a_task_without_classes_and_an_empty_one_make_no_errors(browser, tmp_path):
    images = [make_image('b', COUNTS['b'], img='panels/b #img.png') | {'cells': []}]
    open_report(browser, tmp_path, classes=[], confusion=None, images=images, curves=[])
    assert list_names(browser) == ['b.jpg']
    assert browser.run("document.getElementById('classes').offsetParent") is None
    write_html(tmp_path / 'report.html', make_report(images=[], scores={}))
    browser.open(tmp_path / 'report.html')
    assert browser.read_errors() == []


@needs_browser
@pytest.mark.slow
def test_5000_images_are_drawn_in_pages_of_60(browser, tmp_path):
    large = make_large()['images']
    for image in large:
        image['pictures'] = {}
    open_report(browser, tmp_path, images=large, classes=[], confusion=None)
    rows = "document.querySelectorAll('#rows tbody tr').length"
    assert browser.run(rows) == 60
    browser.click('#more-rows')
    assert browser.run(rows) == 120
