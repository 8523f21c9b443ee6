"""The rules by which drift is found and told."""

import pytest
import torch

from utils.drift import Drift, Finding, compare_probes, compare_train_data, is_same_list
from utils.provenance import describe_list_change
from utils.sources import compare_sources


def test_added_and_removed_lines_are_counted():
    old = {'a.py': '1\n2\n3\n', 'same.py': 'x', 'gone.py': '1\n', 'notes.md': 'a'}
    new = {'a.py': '1\n4\n5\n3\n', 'same.py': 'x', 'new.py': '', 'notes.md': 'b'}
    assert compare_sources(old, new) == [('a.py', 2, 1, False), ('gone.py', 0, 1, False)]


@pytest.mark.parametrize(
    ('rows', 'change'),
    [
        ([1, 2, 2, 3], ''),
        ([1, 2, 2, 3, 4, 5], '2 lines added (4 -> 6 samples)'),
        ([9, 1, 2, 2, 3], '1 line added (4 -> 5 samples)'),
        ([1, 2, 3], '1 line removed (4 -> 3 samples)'),
        ([1, 2, 2, 8], '1 line added, 1 line removed (4 -> 4 samples)'),
        ([3, 2, 2, 1], 'its lines are in another order'),
    ],
)
def test_added_removed_and_moved_lines_of_a_list_are_counted(rows, change):
    old, new = {'samples': 4}, {'samples': len(rows)}
    old_rows, new_rows = ([(row, 7) for row in numbers] for numbers in ([1, 2, 2, 3], rows))
    assert describe_list_change(old, new, old_rows, new_rows) == change


def test_lines_whose_files_changed_are_counted_also_where_they_were_swapped():
    same = {'samples': 2}
    change = describe_list_change(same, same, [(1, 5), (2, 6)], [(1, 6), (2, 5)])
    assert change == '2 lines with other files'


def test_a_list_of_unknown_form_has_changed_with_its_digest():
    old, new = {'samples': 4, 'sha256': 'a'}, {'samples': 5, 'sha256': 'b'}
    assert describe_list_change(old, new, [], []) == 'it changed (4 -> 5 samples)'
    assert describe_list_change(old, old, [], []) == ''


def test_every_reason_is_given_for_a_score_that_differs():
    findings = {
        'code': Finding([], ['metrics.py']),
        'probe': Finding([], ['probe'], is_certain=True),
        'versions': Finding([], ['torch 1 -> 2']),
    }
    drift = Drift(findings, {'miou': 0.93224, 'acc': 0.5}, 'miou')
    lines, has_drifted = drift.compare_scores({'miou': 0.93226, 'acc': 0.5})
    assert lines[0] == 'miou 0.9323 (training 0.9322, +0.0001)'
    assert lines[1] == 'changed since training: metrics.py, probe, torch 1 -> 2'
    assert '--use_snapshot' in lines[2]
    assert has_drifted


@pytest.mark.parametrize('has_probe_changed', [False, True])
def test_equal_scores_clear_everything_but_the_probe(has_probe_changed):
    probe = Finding([], ['probe'] * has_probe_changed, has_probe_changed)
    drift = Drift({'code': Finding([], ['a.py']), 'probe': probe}, {'miou': 0.5}, 'miou')
    lines, has_drifted = drift.compare_scores({'miou': 0.50001})
    changed = ['changed since training: a.py, probe', lines[-1]]
    assert lines[0] == 'miou 0.5000 (training 0.5000, equal)'
    assert lines[1:] == (changed if has_probe_changed else ['no effect on evaluation: a.py'])
    assert has_drifted == has_probe_changed


def make_probed(answer, **versions):
    """As much of a checkpoint as compare_probes looks at."""
    versions = {'torch': '1', 'cuda': '', 'pillow': '1'} | versions
    probe = {'answer': answer, 'device': 'CPU'}
    return {'probe': probe, 'provenance': {'versions': versions}, 'args': {'amp': 'off'}}


@pytest.mark.parametrize(
    ('change', 'versions', 'is_drift'),
    [
        (1e-6, {}, False),
        (1e-3, {}, True),
        (1e-3, {'pillow': '2'}, True),
        (1e-3, {'torch': '2'}, False),
        (1e-1, {'torch': '2'}, True),
    ],
)
def test_another_torch_explains_more_than_rounding_and_another_pillow_does_not(
    change, versions, is_drift
):
    old = make_probed(torch.ones(1, 2))
    new = make_probed(torch.ones(1, 2) + change, **versions)
    assert compare_probes(old, new).is_certain == is_drift


def test_a_model_that_answers_no_more_has_drifted_and_one_that_never_did_is_not_compared():
    answer, error = make_probed(torch.ones(1, 2)), make_probed('RuntimeError: x')
    assert compare_probes(answer, error).is_certain
    assert compare_probes(error, answer).lines == ['probe: not compared (RuntimeError: x)']
    assert not compare_probes(error, answer).is_certain
    assert compare_probes(answer, make_probed(torch.ones(1, 3))).is_certain
    assert compare_probes(answer, make_probed(None)).changes == []


def test_answers_that_are_no_numbers_in_the_same_places_are_identical():
    answer = torch.tensor([[1.0, -torch.inf, torch.nan]])
    old, same = make_probed(answer), make_probed(answer.clone())
    assert compare_probes(old, same).lines == ['probe: identical']
    for other in (2.0, torch.inf, torch.nan):
        new = make_probed(torch.tensor([[1.0, other, torch.nan]]))
        assert compare_probes(old, new).is_certain
    assert compare_probes(old, make_probed(torch.tensor([[1.0, -torch.inf, 0.0]]))).is_certain


def test_text_beside_a_model_counts_as_code_and_text_elsewhere_does_not():
    old = {'model/base/widths.json': '1\n', 'requirements.txt': 'a\n'}
    new = {'model/base/widths.json': '2\n', 'requirements.txt': 'b\n'}
    assert compare_sources(old, new) == [('model/base/widths.json', 1, 1, False)]


def test_a_training_list_is_compared_by_text_and_by_the_sizes_of_its_files():
    def known(**facts):
        train = {'list': 'a.txt', 'samples': 2, 'sha256': 'x', 'total_bytes': 9} | facts
        return {'provenance': {'data': {'train': train}}}

    assert compare_train_data(known(), known(list='moved/a.txt')).lines == []
    lines = compare_train_data(known(), known(total_bytes=8)).lines
    assert lines == ['data: a.txt: its files have other sizes']
    lines = compare_train_data(known(), known(sha256='y', samples=3)).lines
    assert lines == ['data: a.txt: it changed (2 -> 3 samples)']
    assert compare_train_data(known(), {'provenance': {'data': {}}}).lines == []


def test_a_list_is_the_same_from_another_directory():
    def known(directory, path):
        val = {'list': path, 'samples': 1, 'sha256': directory}
        return {'provenance': {'directory': directory, 'data': {'val': val}}}

    assert is_same_list(known('/a', 'lists/val.txt'), known('/a/model', '../lists/val.txt'))
    assert is_same_list(known('/a', 'lists/val.txt'), known('/b', 'lists/val.txt'))
    assert not is_same_list(known('/a', 'lists/val.txt'), known('/b', '../lists/val.txt'))


def test_a_score_that_nothing_explains_says_so():
    drift = Drift({'code': Finding([])}, {'miou': 0.5}, 'miou')
    lines, has_drifted = drift.compare_scores({'miou': 0.25})
    assert lines[1:] == ['changed since training: nothing that is recorded']
    assert has_drifted


def test_an_epoch_without_scores_says_so():
    lines, has_drifted = Drift({'code': Finding([])}, {}, 'miou').compare_scores({'miou': 0.25})
    assert lines == ['training kept no scores with this checkpoint']
    assert not has_drifted
