"""The rules by which drift is found and reported."""

import pytest
import torch

from utils.tracking.drift import (
    Drift,
    Finding,
    compare_code,
    compare_data,
    compare_probes,
    compare_values,
    get_data,
    is_same_list,
)
from utils.tracking.sources import compare_sources


def test_added_and_removed_lines_are_counted():
    stored = {'a.py': '1\n2\n3\n', 'same.py': 'x', 'gone.py': '1\n', 'notes.md': 'a'}
    current = {'a.py': '1\n4\n5\n3\n', 'same.py': 'x', 'new.py': '', 'notes.md': 'b'}
    assert compare_sources(stored, current) == [('a.py', 2, 1), ('gone.py', 0, 1)]


def test_text_beside_a_model_counts_as_code_and_text_elsewhere_does_not():
    stored = {'model/base/widths.json': '1\n', 'requirements.txt': 'a\n'}
    current = {'model/base/widths.json': '2\n', 'requirements.txt': 'b\n'}
    assert compare_sources(stored, current) == [('model/base/widths.json', 1, 1)]


def test_comments_and_layout_of_python_are_no_change_and_what_it_computes_is():
    stored = {'a.py': 'x = [1, 2]\n', 'broken.py': 'x = (\n'}
    remarks = {'a.py': '# A remark.\nx = [\n    1,\n    2,\n]  # two\n', 'broken.py': 'x = (\n'}
    assert compare_sources(stored, remarks) == []
    assert compare_sources(stored, stored | {'a.py': 'x = [1, 3]\n'}) == [('a.py', 1, 1)]
    assert compare_sources(stored, stored | {'broken.py': 'y = (\n'}) == [('broken.py', 1, 1)]


@pytest.mark.parametrize('name', ['model/ops.h', 'model/ops.cu', 'model/widths.txt', 'a.yaml'])
def test_a_line_that_begins_with_a_hash_is_a_comment_in_python_only(name):
    stored, current = {name: '#define WIDTH 8\n'}, {name: '#define WIDTH 16\n'}
    assert compare_sources(stored, current) == [(name, 1, 1)]


def test_code_is_what_is_imported_here_and_what_is_not_python():
    stored = {'loss.py': 'a\n', 'data/unused.py': 'a\n', 'model/widths.json': '1\n', 'a.yaml': 'a'}
    current = {'loss.py': 'b\n', 'data/unused.py': 'b\n', 'model/widths.json': '2\n'}
    current['wandb/config.yaml'] = 'what git ignores, read where there is no git'
    finding = compare_code(stored, current)
    assert finding.changes == ['a.yaml', 'loss.py', 'model/widths.json']
    parts = [line.split()[-1] for line in finding.lines[1:]]
    assert parts == ['(shared)', '(metric)', '(model)']


FACTS = {'list': 'a.txt', 'samples': 4, 'sha256': 'x', 'total_bytes': 90, 'file_sizes': 7}


@pytest.mark.parametrize(
    ('change', 'expected'),
    [
        ({'samples': 6, 'sha256': 'y', 'total_bytes': 99}, '2 lines added (4 -> 6 samples)'),
        ({'samples': 5, 'sha256': 'y'}, '1 line added (4 -> 5 samples)'),
        ({'samples': 3, 'sha256': 'y'}, '1 line removed (4 -> 3 samples)'),
        ({'sha256': 'y', 'total_bytes': 99, 'file_sizes': 8}, 'its lines changed'),
        ({'total_bytes': 99, 'file_sizes': 8}, 'its files have other sizes'),
        ({'file_sizes': 8}, 'its files have other sizes'),
        ({'sample': 'q'}, 'its first sample is'),
    ],
)
def test_a_changed_list_says_how_it_changed(change, expected):
    stored = FACTS | {'sample': 'p'}
    assert compare_data('data', stored, stored).changes == []
    finding = compare_data('data', stored, stored | change)
    assert finding.changes == ['data']
    assert finding.lines[0].startswith(f'data: a.txt: {expected}')


def test_a_list_is_found_changed_by_any_of_its_facts_that_both_know():
    """A checkpoint made before file_sizes existed does not hold it, and is equal without it."""
    stored = {name: value for name, value in FACTS.items() if name != 'file_sizes'}
    assert compare_data('data', stored, FACTS).changes == []
    assert compare_data('data', stored, FACTS | {'total_bytes': 91}).changes == ['data']
    assert compare_data('data', FACTS, stored).changes == ['data']


def test_a_list_of_unknown_form_is_compared_by_its_digest_and_samples():
    stored = {'list': 'a.txt', 'samples': 4, 'sha256': 'x'}
    assert compare_data('data', stored, stored).changes == []
    assert compare_data('data', stored, stored | {'sha256': 'y'}).changes == ['data']
    directory = {'list': 'images', 'samples': 4}  # no file, so no digest
    assert compare_data('data', directory, directory).changes == []
    assert '1 line removed' in compare_data('data', directory, directory | {'samples': 3}).lines[0]


def make_trained(split='val', directory='/a', path='lists/a.txt', **facts):
    """As much of a checkpoint as get_data looks at."""
    facts = {'list': path, 'samples': 1, 'sha256': directory} | facts
    provenance = {'directory': directory, 'data': {split: facts}}
    return {'provenance': provenance, 'probe': {'sample': 'p'}}


@pytest.mark.parametrize(
    ('directory', 'path', 'is_same'),
    [
        ('/a/model', '../lists/a.txt', True),  # the same file
        ('/b', 'lists/a.txt', True),  # the same name, in another clone
        ('/b', '../lists/a.txt', False),
        ('/b', '/a/lists/a.txt', True),
    ],
)
def test_a_list_is_the_same_from_another_directory(directory, path, is_same):
    stored, current = make_trained(), make_trained(directory=directory, path=path)
    assert is_same_list(get_data(stored, 'val'), get_data(current, 'val')) == is_same


def test_a_list_that_moved_is_the_same_by_its_content():
    stored = get_data(make_trained(sha256='x'), 'val')
    moved = get_data(make_trained(directory='/b', path='moved.txt', sha256='x'), 'val')
    assert compare_data('data', stored, moved).lines == ['data: unchanged']


def test_another_list_is_no_change_but_is_named():
    stored = get_data(make_trained(), 'val')
    other = get_data(make_trained(directory='/b', path='other.txt'), 'val')
    finding = compare_data('data', stored, other)
    assert 'other.txt is not the list' in finding.lines[0]
    assert finding.changes == []


def test_a_training_list_is_compared_without_a_sample_and_an_evaluation_has_none():
    checkpoint = make_trained('train')
    assert 'sample' not in get_data(checkpoint, 'train')
    assert get_data(checkpoint, 'val') is None
    assert get_data(make_trained('val'), 'val')['sample'] == 'p'


def test_options_and_versions_are_compared_where_both_have_them():
    stored, current = {'seed': 0, 'lr': 1, 'gone': 1}, {'seed': 1, 'lr': 1, 'new': 2}
    assert compare_values('option', stored, current).lines == ['option: seed 0 -> 1']
    assert compare_values('option', stored, current).changes == ['seed 0 -> 1']


def test_every_reason_is_given_for_a_score_that_differs():
    findings = {
        'code': Finding([], ['metrics.py']),
        'probe': Finding([], ['probe']),
        'versions': Finding([], ['torch 1 -> 2']),
    }
    drift = Drift(findings, {'miou': 0.93224, 'acc': 0.5}, 'miou')
    lines, has_drifted = drift.compare_scores({'miou': 0.93226, 'acc': 0.5})
    assert lines[0] == 'miou 0.9323 (training 0.9322, +0.0001)'
    assert lines[1].endswith(': metrics.py, probe, torch 1 -> 2')
    assert '--use_snapshot' in lines[2]
    assert has_drifted


@pytest.mark.parametrize('has_probe_changed', [False, True])
def test_equal_scores_clear_everything_but_the_probe(has_probe_changed):
    findings = {
        'code': Finding([], ['a.py']),
        'probe': Finding([], ['probe'] * has_probe_changed),
        'options': Finding([], ['seed 0 -> 1']),
    }
    drift = Drift(findings, {'miou': 0.5}, 'miou')
    lines, has_drifted = drift.compare_scores({'miou': 0.50001})
    assert lines[0] == 'miou 0.5000 (training 0.5000, equal)'
    assert has_drifted == has_probe_changed
    if has_probe_changed:
        assert lines[1].endswith(': a.py, probe, seed 0 -> 1')
    else:
        assert lines[1:] == ['no effect on evaluation: a.py']


def make_drift(trained, code=(), probe=()):
    findings = {'code': Finding([], list(code)), 'probe': Finding([], list(probe))}
    return Drift(findings, trained, 'miou')


def test_a_score_that_nothing_explains_says_so():
    lines, has_drifted = make_drift({'miou': 0.5}).compare_scores({'miou': 0.25})
    assert 'nothing' in lines[1]
    assert len(lines) == 2
    assert has_drifted


def test_an_epoch_without_scores_says_so_and_has_drifted_if_anything_changed():
    lines, has_drifted = make_drift({}).compare_scores({'miou': 0.25})
    assert ['no scores' in line for line in lines] == [True]
    assert not has_drifted
    assert make_drift({}, code=['a.py']).compare_scores({'miou': 0.25})[1]
    assert make_drift(None, code=['a.py']).compare_scores({'miou': 0.25}) == ([], True)
    assert make_drift(None).compare_scores({'miou': 0.25}) == ([], False)


@pytest.mark.parametrize(('is_strict', 'score', 'code'), [(0, 0, 0), (1, 0.5, 0), (1, 0, 3)])
def test_only_strict_drift_has_exit_code_3_and_it_says_why(is_strict, score, code, capsys):
    drift = make_drift({'miou': 0.5}, code=['a.py'])
    assert drift.get_exit_code({'miou': score}, is_strict) == code
    error = capsys.readouterr().err
    assert ('a.py' in error) == (code == 3)


def make_probed(output, amp='off', **versions):
    """As much of a checkpoint as compare_probes looks at."""
    versions = {'torch': '1', 'cuda': '', 'pillow': '1'} | versions
    probe = {'answer': output, 'device': 'CPU'}
    return {'probe': probe, 'provenance': {'versions': versions}, 'args': {'amp': amp}}


@pytest.mark.parametrize(
    ('change', 'facts', 'is_drift'),
    [
        (1e-6, {}, False),
        (1e-3, {}, True),
        (1e-3, {'pillow': '2'}, True),
        (1e-3, {'torch': '2'}, False),
        (1e-1, {'torch': '2'}, True),
        (1e-3, {'amp': 'bf16'}, False),
    ],
)
def test_another_torch_explains_more_than_rounding_and_another_pillow_does_not(
    change, facts, is_drift
):
    stored = make_probed(torch.ones(1, 2))
    current = make_probed(torch.ones(1, 2) + change, **facts)
    assert compare_probes(stored, current).changes == ['probe'] * is_drift


def test_versions_that_only_one_of_the_two_knows_are_no_obstacle():
    stored, current = make_probed(torch.ones(1, 2)), make_probed(torch.ones(1, 2) + 1e-3)
    del stored['provenance']['versions']['pillow']  # of an older format
    current['provenance']['versions']['torchvision'] = '1'
    assert compare_probes(stored, current).changes == ['probe']


def test_a_model_that_fails_now_has_drifted_and_one_that_always_failed_is_not_compared():
    output, error = make_probed(torch.ones(1, 2)), make_probed('RuntimeError: x')
    assert compare_probes(output, error).changes == ['probe']
    assert compare_probes(error, output).changes == []
    assert 'RuntimeError: x' in compare_probes(error, output).lines[0]
    assert compare_probes(output, make_probed(torch.ones(1, 3))).changes == ['probe']
    assert compare_probes(output, make_probed(None)).changes == []


def test_outputs_that_are_not_finite_in_the_same_places_are_identical():
    output = torch.tensor([[1.0, -torch.inf, torch.nan]])
    stored, same = make_probed(output), make_probed(output.clone())
    assert compare_probes(stored, same).lines == ['probe: identical']
    for other in (2.0, torch.inf, torch.nan):
        current = make_probed(torch.tensor([[1.0, other, torch.nan]]))
        assert compare_probes(stored, current).changes == ['probe']
    current = make_probed(torch.tensor([[1.0, -torch.inf, 0.0]]))
    assert compare_probes(stored, current).changes == ['probe']
