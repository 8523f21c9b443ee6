"""What has changed since a checkpoint was made, and whether its scores have changed with it."""

import difflib
import hashlib
import shlex
import sys
from pathlib import Path

from utils.sources import ROOT

# Whose part a file is; whatever else an evaluation imports is shared.
PARTS = {'model': 'model', 'data': 'data', 'metrics.py': 'metric', 'loss.py': 'metric'}
# Share of the largest answer that rounding may change: with another number of threads, and on
# another kind of device or with other versions, where convolutions may be computed otherwise.
ROUNDING, ROUNDING_ELSEWHERE = 1e-5, 1e-2
# Options that say where things are or how fast they go, not what is computed.
HARMLESS = ('val_list', 'data_root', 'num_workers', 'val_batch_size', 'class_names', 'metrics')


class Drift:
    """A checkpoint beside what runs now.

    `before` is the report that needs no scores, `causes` names what changed, in a word each.
    """

    def __init__(self, checkpoint, now):
        """`now` has what a checkpoint has under the same names: provenance, code, probe, args."""
        self.checkpoint, self.now, self.causes = checkpoint, now, []
        self.code_state = 'unchanged'
        if 'probe' not in checkpoint:
            self.is_known, self.code_state = False, 'unknown'
            self.before = ['drift: unknown, the checkpoint does not say how it was made']
            return
        self.is_known, self.is_same_list = True, is_same_list(*self._pair('provenance'))
        parts = [self._compare_code(), self._compare_probe(), self._compare_data()]
        options = self._compare_options()
        lines = [line for part in [*parts, options] for line in part]
        self.before = lines if self.causes or len(lines) > 3 else [' | '.join(lines)]

    def compare_scores(self, scores):
        """The lines that come after the scores."""
        trained = {k: v for k, v in self.checkpoint.get('metrics', {}).items() if k[:4] == 'val/'}
        if not (self.is_known and self.is_same_list and trained):
            return []
        trained = {name.removeprefix('val/'): value for name, value in trained.items()}
        names = [name for name in scores if name in trained and '/' not in name]
        differing = [n for n in names if f'{scores[n]:.4f}' != f'{trained[n]:.4f}']
        if not differing:
            stored = self.checkpoint['args']
            name = stored['best_metric'] or stored['metrics'][0]
            name = name if name in names else names[0]
            return [f'{name} {scores[name]:.4f} (training {trained[name]:.4f}, equal)']
        reasons = ', '.join(self.causes) or 'nothing that is recorded'
        self.causes.append('scores')
        return [
            f'{n} {scores[n]:.4f} (training {trained[n]:.4f}, {scores[n] - trained[n]:+.4f}; '
            f'changed: {reasons})'
            for n in differing
        ] + self._advise()

    def _advise(self):
        command = shlex.join(['python', *sys.argv, '--use_snapshot'])
        return [f'with the code of that day: {command}']

    def _pair(self, key):
        return self.checkpoint[key], self.now[key]

    def _compare_code(self):
        changes = compare_sources(*self._pair('code'))
        used = [change for change in changes if is_imported(change[0])]
        others = len(changes) - len(used)
        if not used:
            more = f' in what this evaluation uses ({others} other files differ)' if others else ''
            return [f'code: unchanged{more}']
        self.code_state = 'changed: ' + ' '.join(name for name, *_ in used)
        lines = [self._describe_change(*change) for change in used]
        more = f', and {others} that this evaluation does not use' if others else ''
        return [f'code: {count(len(used), "file")} changed{more}', *lines]

    def _describe_change(self, name, num_added, num_removed):
        part = PARTS.get(name.split('/')[0], 'shared')
        if part == 'data' and self._is_sample_equal():
            part = 'data: no effect on evaluation, the first sample comes out the same'
        else:
            self.causes.append(name)
        return f'  {name}  +{num_added} -{num_removed}  ({part})'

    def _is_sample_equal(self):
        """Whether the list's first sample is preprocessed to the same bytes."""
        old, new = self._pair('probe')
        return self.is_same_list and old['sample'] == new['sample']

    def _compare_probe(self):
        old, new = (probe['answer'] for probe in self._pair('probe'))
        devices = {probe['device'] for probe in self._pair('probe')}
        is_elsewhere = len(devices) > 1 or self._list_versions()
        if isinstance(old, str) or isinstance(new, str):
            return [f'probe: not compared ({new if isinstance(new, str) else old})']
        if old.shape != new.shape:
            self.causes.append('probe')
            return [f'probe: the answer has another shape, {tuple(old.shape)} then']
        difference, largest = (old - new).abs().max().item(), old.abs().max().item()
        if difference == 0:
            return ['probe: identical']
        if difference <= largest * (ROUNDING_ELSEWHERE if is_elsewhere else ROUNDING):
            return [f'probe: equal up to rounding (largest difference {difference:.1e})']
        self.causes.append('probe')
        return [
            f'probe: differs by up to {difference:.4g} (answers reach {largest:.4g}): '
            'the forward pass changed though every parameter loaded'
        ]

    def _compare_data(self):
        old, new = (provenance['data']['val'] for provenance in self._pair('provenance'))
        if not self.is_same_list:
            return [f'data: {new["list"]} is not the list that training validated on']
        change = describe_list_change(old, new)
        if not change and not self._is_sample_equal():
            change = 'its first sample is read or preprocessed in another way'
        if not change:
            return ['data: unchanged']
        self.causes.append('data')
        return [f'data: {Path(new["list"]).name}: {change}']

    def _compare_options(self):
        old, new = self._pair('args')
        names = [n for n in old if n in new and n not in HARMLESS and old[n] != new[n]]
        self.causes += [f'--{name}' for name in names]
        lines = [f'option: {name} {old[name]} -> {new[name]}' for name in names]
        return lines + self._list_versions()

    def _list_versions(self):
        old, new = (provenance['versions'] for provenance in self._pair('provenance'))
        names = [name for name in old if old[name] != new.get(name)]
        return [f'version: {name} {old[name]} -> {new.get(name)}' for name in names]


def count(number, noun):
    """'1 file', '2 files'."""
    return f'{number} {noun}{"s" * (number != 1)}'


def is_imported(name):
    """Whether a source file runs in this process."""
    files = {getattr(module, '__file__', None) for module in list(sys.modules.values())}
    return str(ROOT / name) in files


def compare_sources(old, new):
    """[(name, lines added, lines removed)] of the Python files that differ."""
    changes = []
    for name in sorted(old.keys() | new.keys()):
        before, after = old.get(name, '').splitlines(), new.get(name, '').splitlines()
        if not name.endswith('.py') or before == after:
            continue
        diff = list(difflib.unified_diff(before, after, n=0, lineterm=''))[2:]
        signs = [line[0] for line in diff]
        changes.append((name, signs.count('+'), signs.count('-')))
    return changes


def is_same_list(old, new):
    """Whether two provenances validated on one list: the same content, or the same path."""
    old, new = old['data']['val'], new['data']['val']
    same_path = Path(old['list']).absolute() == Path(new['list']).absolute()
    return same_path or ('sha256' in old and old['sha256'] == new.get('sha256'))


def describe_list_change(old, new):
    """'40 lines added' and the like; '' when list and files are the same."""
    if old.get('sha256') == new.get('sha256'):
        sizes = old.get('total_bytes'), new.get('total_bytes')
        return f'its files changed, {sizes[0]} -> {sizes[1]} bytes' if len(set(sizes)) > 1 else ''
    samples = f'{old["samples"]} -> {new["samples"]} samples'
    content = Path(new['list']).read_bytes()
    if hashlib.sha256(content[: old['list_bytes']]).hexdigest() == old['sha256']:
        added = content[old['list_bytes'] :].count(b'\n')
        return f'{count(added, "line")} added ({samples})'
    return f'its lines changed ({samples})'
