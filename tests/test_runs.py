"""scripts/runs.py on run directories, and scripts/sweep.sh."""

import csv
import json
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from browser import needs_browser, start_browser
from conftest import ROOT, RUN, find_line, run_python

from options import parse_train_args
from utils.arg_parser import Parser
from utils.files import write_rows
from utils.tracking.claim import lock_run
from utils.tracking.run_dir import RunDir

DEFAULTS = parse_train_args(Parser()).get_defaults()
LR = 0.0123  # no default


def write_run(root, name, score=0.5, seed=0, prefix='a', **facts):
    """A run directory with a run.json, as training leaves it."""
    args = DEFAULTS | {'save_prefix': prefix, 'seed': seed, 'lr': LR, 'train_list': 'list.txt'}
    run = {
        'status': 'finished',
        'args': args,
        'epoch': 3,
        'epochs': 3,
        'best_metric': 'miou',
        'lower_is_better': ['loss', 'l1'],
        'best': {'epoch': 2, 'score': score, 'scores': {'miou': score, 'loss': 1 - score}},
        'command': f'python train.py --save_prefix {prefix}',
        'directory': '/somewhere',
        'git': {'commit': 'c' * 40, 'branch': 'main', 'is_dirty': False},
        'versions': {'torch': '2.6.0', 'cuda': ''},
        'host': 'somewhere',
        'devices': ['CPU'],
        'start': '2026-01-02 03:04:05+00:00',
        'data': {'val': {'list': 'val.txt', 'samples': 5, 'sha256': 'ab'}},
        'parent': None,
        'earlier': [],
    }
    (root / name / 'code').mkdir(parents=True)
    (root / name / 'code' / 'loss.py').write_text('x = 1\n')
    (root / name / 'args.txt').write_text(f'--lr {LR}\n')
    (root / name / 'run.json').write_text(json.dumps(run | facts))
    return root / name


@pytest.fixture
def runs(tmp_path):
    """Five runs: three finished seeds, one that failed, one that was killed."""
    for seed, score in enumerate((0.5, 0.6, 0.7)):
        write_run(tmp_path, f'net_a_seed{seed}', score, seed)
    write_run(tmp_path, 'net_b', 0.9, prefix='b', status='failed', error='RuntimeError: boom')
    write_run(tmp_path, 'net_c', best={}, status='running')
    (tmp_path / 'net_c' / '.lock').touch()
    return tmp_path


def ask(runs, *command, code=0):
    """What runs.py prints, run with the standard library alone."""
    process = run_python('-E', '-S', ROOT / 'scripts' / 'runs.py', *command, '--dir', runs)
    assert process.returncode == code, process.stderr
    return process.stdout if code == 0 else process.stderr


def test_torch_is_out_of_reach_of_what_runs_py_runs_with():
    assert 'torch' in run_python('-E', '-S', '-c', 'import torch').stderr


def test_list_shows_every_run_and_marks_those_that_broke(runs):
    rows = list(csv.DictReader(ask(runs, 'list', '--csv').splitlines()))
    statuses = {row['run']: row['status'] for row in rows}
    assert statuses['net_a_seed0'] == 'finished'
    assert statuses['net_b'] == 'failed'
    assert statuses['net_c'] == 'killed'
    first = rows[0]
    assert (first['epochs'], first['best']) == ('3/3', 'miou 0.5000 @2')
    assert first['date'] == '2026-01-02 03:04'
    options = dict(option.split('=') for option in first['options'].split())
    assert options.keys() <= {'lr', 'seed'}  # no defaults, no paths, no names
    assert options['lr'] == str(LR)


def test_a_run_is_running_while_a_process_holds_its_lock_and_killed_after_that(tmp_path):
    path = write_run(tmp_path, 'a', status='running')
    with lock_run(RunDir(path)):
        assert ' running ' in ask(tmp_path, 'list')
    assert ' killed ' in ask(tmp_path, 'list')


def test_a_directory_that_lost_its_record_is_marked(tmp_path):
    (tmp_path / 'old').mkdir()
    (tmp_path / 'old' / 'best.pth').touch()
    write_run(tmp_path, 'broken')
    (tmp_path / 'broken' / 'run.json').write_text('{"status": ')
    assert ask(tmp_path, 'list').count('unreadable') == 2
    process = run_python(ROOT / 'scripts' / 'runs.py', 'diff', 'broken', 'old', '--dir', tmp_path)
    assert 'note: the run.json of broken is unreadable' in process.stderr


def test_tables_come_as_text_and_markdown(runs):
    text, markdown = ask(runs, 'list').splitlines(), ask(runs, 'list', '--md').splitlines()
    assert text[0].split() == ['run', 'status', 'epochs', 'best', 'date', 'options']
    assert len(text) == 6
    assert markdown[1].startswith('| ---')
    assert len({line.count('|') for line in markdown}) == 1


def test_best_gives_mean_and_deviation_over_seeds(runs):
    rows = list(csv.DictReader(ask(runs, 'best', '--csv').splitlines()))
    assert [row['save_prefix'] for row in rows] == ['b', 'a']
    group = rows[1]
    assert (group['runs'], group['mean'], group['std']) == ('3', '0.6000', '0.1000')
    assert group['run'] == 'net_a_seed2'
    # b failed and one of a was killed: marked, not hidden
    assert [row['notes'] for row in rows] == ['1 unfinished', '1 unfinished, 1 without a score']


def test_best_may_be_the_lowest_and_grouped_by_several_options(runs):
    options = ['best', '--metric', 'loss', '--group_by', 'lr', 'seed', '--csv']
    rows = list(csv.DictReader(ask(runs, *options).splitlines()))
    assert [(row['lr'], row['seed'], row['best']) for row in rows][0] == (str(LR), '0', '0.1000')
    assert [row['seed'] for row in rows] == ['0', '2', '1']  # means 0.3, 0.3 and 0.4


def set_args(path, **values):
    """Changes options in a run.json."""
    record = json.loads((path / 'run.json').read_text())
    record['args'] |= values
    (path / 'run.json').write_text(json.dumps(record))
    return path


def test_best_leaves_trials_out_and_says_so(runs):
    set_args(write_run(runs, 'net_o', 0.99, prefix='a'), overfit=8)
    set_args(write_run(runs, 'net_f', 0.01, prefix='f'), fast_dev_run=True)
    process = run_python(ROOT / 'scripts' / 'runs.py', 'best', '--csv', '--dir', runs)
    rows = list(csv.DictReader(process.stdout.splitlines()))
    assert [(row['save_prefix'], row['best']) for row in rows] == [('b', '0.9000'), ('a', '0.7000')]
    assert process.stderr == 'note: without 2 of --fast_dev_run or --overfit\n'


def test_best_shows_runs_on_another_validation_list_apart_and_last(runs):
    other = {'val': {'list': 'night.txt', 'samples': 5, 'sha256': 'cd'}}
    set_args(write_run(runs, 'net_n', 0.95, prefix='a', data=other), val_list='night.txt')
    rows = list(csv.DictReader(ask(runs, 'best', '--csv').splitlines()))
    assert [row['mean'] for row in rows] == ['0.9000', '0.6000', '0.9500']
    assert rows[2]['notes'] == 'on another list, night.txt'
    moved = {'val': {'list': '/elsewhere/val.txt', 'samples': 5, 'sha256': 'ab'}}  # the same list
    write_run(runs, 'net_m', 0.6, prefix='a', data=moved)
    rows = list(csv.DictReader(ask(runs, 'best', '--csv').splitlines()))
    assert [row['runs'] for row in rows] == ['1', '4', '1']


def write_page(runs, *options):
    """The data in the page of all runs, three of which have curves and one a report."""
    for i, name in enumerate(('net_a_seed0', 'net_a_seed1', 'net_b')):
        curves = [{'epoch': e, 'train/loss': 1 / e, 'val/miou': 0.1 * e + i} for e in (1, 2, 3)]
        write_rows(runs / name / 'log.csv', curves)
    for place in ('best/demo val', 'code/utils'):  # a report, and the template of reports
        (runs / 'net_b' / place).mkdir(parents=True, exist_ok=True)
        (runs / 'net_b' / place / 'report.html').touch()
    (runs / 'net_c' / 'log.csv').write_bytes(b'\xff\0')
    ask(runs, 'html', *options)
    text = (runs / 'runs.html').read_text().partition('id="data">')[2]
    return json.loads(text.partition('</script>')[0])


def test_html_holds_every_run_its_curves_and_its_reports_without_torch(runs):
    set_args(write_run(runs, 'net_o', 0.99), overfit=8)
    data = write_page(runs)
    found = {run['name']: run for run in data['runs']}
    assert len(found) == 6
    b, killed = found['net_b'], found['net_c']
    assert b['curves']['val/miou'] == [2.1, 2.2, 2.3]
    assert b['link'] == 'net_b'
    assert b['reports'] == [['best/demo val', 'net_b/best/demo%20val/report.html']]
    assert (b['status'], b['error'], b['epochs']) == ('failed', 'RuntimeError: boom', '3/3')
    assert (killed['status'], killed['curves'], killed['scores']) == ('killed', {}, {})
    assert found['net_o']['notes'] == '--overfit'
    assert b['notes'] == ''
    assert (data['metrics'], data['lower_is_better']) == (['miou', 'loss'], ['loss'])
    printed = list(csv.DictReader(ask_quietly(runs, 'best', '--csv').splitlines()))
    assert [{k: str(v) for k, v in row.items()} for row in data['groups']['miou']] == printed


def ask_quietly(runs, *command):
    """What runs.py prints, whatever it notes."""
    return run_python(ROOT / 'scripts' / 'runs.py', *command, '--dir', runs).stdout


def test_html_goes_where_it_is_told_and_links_from_there(runs):
    page = runs / 'pages' / 'all.html'
    assert 'No such file' in ask(runs, 'html', '--output', page, code=2)
    page.parent.mkdir()
    ask(runs, 'html', '--output', page)
    assert '"link":"../net_b"' in page.read_text()


@needs_browser
@pytest.mark.slow
def test_the_page_of_runs_sorts_filters_and_overlays_curves(runs):
    write_page(runs)
    names = "[...document.querySelectorAll('#runs tbody a:first-child')].map(e => e.textContent)"
    legend = "[...document.querySelectorAll('#chart .key')].map(e => e.textContent)"
    with start_browser() as browser:
        browser.open(runs / 'runs.html')
        assert browser.run(legend) == ['net_b', 'net_a_seed1', 'net_a_seed0', '']  # best first
        browser.click('#runs th:nth-child(5) button')  # the best score
        assert browser.run(names)[:2] == ['net_b', 'net_a_seed2']
        browser.click('#runs tbody tr:first-child input')
        assert browser.run(legend) == ['net_a_seed1', 'net_a_seed0', '']
        browser.click('#search')
        browser.press(*'seed=1')
        assert browser.run(names) == ['net_a_seed1']
        browser.click('#none')
        assert browser.run(legend) == []
        browser.click('#all')
        assert browser.run(legend) == ['net_a_seed1', '']
        assert browser.run("document.querySelector('#groups td').textContent") == 'b'
        browser.open(runs / 'runs.html', width=400)
        assert browser.run('document.documentElement.scrollWidth') <= 400
        assert browser.read_errors() == []


def test_diff_shows_options_code_data_and_versions(runs):
    (runs / 'net_b' / 'code' / 'loss.py').write_text('x = 2\n')
    write_run(runs, 'net_d', versions={'torch': '2.7.0', 'cuda': ''}, data={})
    lines = ask(runs, 'diff', 'net_a_seed0', 'net_b').splitlines()
    assert find_line(lines, 'a -> b').split()[0] == 'save_prefix'
    assert {'val data: equal', 'versions: equal', 'code: loss.py', '-x = 1', '+x = 2'} <= {*lines}
    other = ask(runs, 'diff', 'net_a_seed0', 'net_d')
    assert find_line(other.splitlines(), '2.6.0 -> 2.7.0').split()[0] == 'torch'
    (runs / 'net_d' / 'code' / 'net.yaml').write_text('depth: 3\n')
    assert 'code: net.yaml' in ask(runs, 'diff', 'net_a_seed0', 'net_d')
    assert find_line(other.splitlines(), '5 -> blank').split()[0] == 'samples'


def test_show_tells_how_a_run_was_made_and_why_it_failed(runs):
    text = ask(runs, 'show', 'net_b')
    for word in ('failed RuntimeError: boom', '3 of 3', 'miou 0.9000', 'val.txt, 5 samples', 'ccc'):
        assert word in text
    assert ['--lr', str(LR)] in [line.split() for line in text.splitlines()]
    assert '--momentum' not in text  # a default


@pytest.mark.slow
def test_a_run_is_found_by_name_and_path(runs):
    assert ask(runs, 'show', runs / 'net_b') == ask(runs, 'show', 'net_b')
    write_run(runs, 'net_e', directory=str(runs))
    command = ask(runs, 'cmd', 'net_e')
    assert f'cd {runs} && ' in command
    assert 'python net_e/code/train.py @net_e/args.txt' in command
    assert "did you mean 'net_a_seed0'?" in ask(runs, 'show', 'net_a_sed0', code=2)
    for name in ('nope', '/nowhere/at/all'):
        assert f"no run '{name}'" in ask(runs, 'show', name, code=2)
    assert "'nope'" in ask(runs, 'best', '--metric', 'nope', code=2)
    assert "'lrr'" in ask(runs, 'best', '--group_by', 'lrr', code=2)


@pytest.mark.parametrize('words', [['shwo', 'net_b'], ['diff', 'net_b'], ['list', '--cvs']])
def test_a_wrong_command_line_is_one_line(runs, words):
    assert ask(runs, *words, code=2).count('\n') == 1


DAMAGED = {
    'best': {'epoch': 1, 'score': 'high', 'scores': {'miou': 'high'}}, 'start': 5, 'args': [1],
    'lower_is_better': [[]], 'data': {'val': 'val.txt'}, 'epoch': '3', 'earlier': [5],
    'git': 'main',
}  # fmt: skip


@pytest.mark.slow
def test_a_value_of_another_type_marks_its_run_and_hides_no_other(runs):
    for name, value in DAMAGED.items():
        write_run(runs, f'odd_{name}', **{name: value})
    lines = ask(runs, 'list').splitlines()
    for name in DAMAGED:
        line = find_line(lines, f'odd_{name} ')
        assert re.search(r'unreadable: \w+: expected \w+, got ', line)
        ask(runs, 'show', f'odd_{name}')
    assert ask(runs, 'best', '--csv').count('\n') == 3
    ask(runs, 'html')
    ask(runs, 'diff', 'odd_best', 'odd_args')


def test_a_run_of_an_older_version_is_grouped_with_one_that_has_more_options(tmp_path):
    write_run(tmp_path, 'new', 0.5)
    path = write_run(tmp_path, 'old', 0.7, seed=1)
    record = json.loads((path / 'run.json').read_text())
    del record['args']['accum'], record['args']['ema'], record['data'], record['lower_is_better']
    record['data'] = {'val': {'list': 'val.txt', 'samples': 5, 'sha256': 'ab'}}
    (path / 'run.json').write_text(json.dumps(record))
    for names in (['new', 'old'], ['old', 'new']):
        assert 'accum' in ask(tmp_path, 'diff', *names)
    (row,) = csv.DictReader(ask(tmp_path, 'best', '--csv').splitlines())
    assert (row['mean'], row['notes']) == ('0.6000', '')


def test_the_parts_of_a_loss_are_better_when_lower(tmp_path):
    for seed, loss in enumerate((0.5, 0.3)):
        best = {'epoch': 1, 'score': 0.5, 'scores': {'miou': 0.5, 'loss_ce': loss}}
        write_run(tmp_path, f'a{seed}', seed=seed, best=best, lower_is_better=['loss'])
    (row,) = csv.DictReader(ask(tmp_path, 'best', '--metric', 'loss_ce', '--csv').splitlines())
    assert (row['best'], row['run']) == ('0.3000', 'a1')


def test_a_run_without_a_score_is_counted_and_not_averaged(runs):
    write_run(runs, 'net_a_seed3', best={}, status='failed')
    write_run(runs, 'net_a_seed4', math.nan)
    rows = list(csv.DictReader(ask(runs, 'best', '--csv').splitlines()))
    assert (rows[1]['runs'], rows[1]['mean']) == ('3', '0.6000')
    assert rows[1]['notes'] == '2 unfinished, 3 without a score'


@pytest.mark.slow
def test_a_checkpoint_without_its_directory_says_how_it_was_made(trained_clone, tmp_path):
    run, lone = trained_clone / RUN, tmp_path / 'lone.pth'
    shutil.copy(run / 'best.pth', lone)
    shown = run_python(ROOT / 'scripts' / 'runs.py', 'show', lone).stdout
    assert ['--save_prefix', 'first'] in [line.split() for line in shown.splitlines()]
    assert 'lists/val.txt, 3 samples' in shown
    diff = run_python(ROOT / 'scripts' / 'runs.py', 'diff', lone, run).stdout
    assert diff.count('equal') == 5
    missing = run_python(ROOT / 'scripts' / 'runs.py', 'show', tmp_path / 'none.pth')
    assert (missing.returncode, missing.stderr.count('\n')) == (2, 1)


def test_a_group_of_different_runs_is_no_group_of_seeds_and_that_is_said(tmp_path):
    for lr in (0.1, 0.2):
        set_args(write_run(tmp_path, f'lr{lr}', 0.5), lr=lr)
    rows = list(csv.DictReader(ask(tmp_path, 'best', '--csv').splitlines()))
    assert [row['notes'] for row in rows] == ['several lr']


@pytest.mark.slow
def test_a_record_that_lacks_something_hides_no_other_run(runs):
    texts = ['{}', '[]', '{"status": "running"}', '{"best": {}}', '', '{']
    for i, text in enumerate(texts):
        (runs / f'odd{i}').mkdir()
        (runs / f'odd{i}' / 'run.json').write_text(text)
        ask(runs, 'show', f'odd{i}')
    assert len(ask(runs, 'list').splitlines()) == 6 + len(texts)
    assert 'odd0 has no args.txt' in ask(runs, 'cmd', 'odd0', code=2)
    ask(runs, 'best')
    ask(runs, 'diff', 'odd0', 'net_b')


def test_a_run_that_went_on_with_other_code_says_when(runs):
    write_run(runs, 'net_f', earlier=[{'until_epoch': 3, 'changes': ['code: 1 file changed']}])
    assert 'after epoch 3' in ask(runs, 'show', 'net_f')


def test_a_reader_that_goes_away_is_no_error(runs):
    command = f'{sys.executable} {ROOT}/scripts/runs.py list --dir {runs} | true'
    process = subprocess.run(['bash', '-c', command], capture_output=True, text=True)
    assert process.stderr == ''


def test_an_empty_directory_holds_no_runs(tmp_path):
    assert ask(tmp_path, 'list') == f'no runs in {tmp_path}\n'


@pytest.fixture
def project(clone):
    """A project whose sweep trains one tiny run on the lists of the clone."""
    demo = shutil.copytree(clone / 'lists', clone / 'data' / 'demo')
    (demo / 'list.txt').rename(demo / 'train.txt')
    (demo / 'classes.txt').touch()  # so that no dataset is drawn
    return clone


def sweep(project):
    options = '--model_type toy --data_type toy --num_classes 3 --epochs 1 --img_size 24 40'
    options += ' --metrics miou --batch_size 2'
    environment = os.environ | {
        'LRS': '1e-3',
        'SEEDS': '5',
        'PATH': f'{Path(sys.executable).parent}:{os.environ["PATH"]}',
    }
    process = subprocess.run(
        ['bash', 'scripts/sweep.sh', *options.split()],
        cwd=project, env=environment, capture_output=True, text=True, timeout=1000,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    return process.stdout.splitlines()


@pytest.mark.slow
def test_a_sweep_leaves_others_work_alone_resumes_stopped_and_skips_finished_runs(project):
    name = 'sweep_lr1e-3_seed5'
    with lock_run(RunDir(project / 'checkpoints' / name)):  # as another sweep, elsewhere
        assert not any('epoch' in line for line in sweep(project))
    first = sweep(project)
    find_line(first, 'epoch 1/1 val')
    assert first[-1].startswith('sweep_lr1e-3')
    find_line(sweep(project), name, 'finished before')
    record = project / 'checkpoints' / name / 'run.json'
    record.write_text(record.read_text().replace('"finished"', '"stopped"'))
    find_line(sweep(project), name, 'is finished', '--epochs')  # resumed, with nothing left to do
    find_line(sweep(project), name, 'finished before')
