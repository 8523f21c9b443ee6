"""What has changed since a checkpoint was made, and whether its scores have changed with it.

Below, `stored` is of a checkpoint and `current` the same of what runs now: args, provenance, code
and probe.
"""

import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path

from utils.errors import list_some, plural
from utils.scores import get_headline
from utils.tracking.sources import compare_sources, list_imported

# Whose part a file is; any other code is shared.
PARTS = {'model': 'model', 'data': 'data', 'metrics.py': 'metric', 'loss.py': 'metric'}
# Share of the largest output that rounding may change: with another number of threads, and in half
# precision or with another device or torch, which may compute convolutions in another way.
ROUNDING, ROUNDING_ELSEWHERE = 1e-5, 1e-2


@dataclass
class Finding:
    """Lines of the report, and what changed in a word each."""

    lines: list
    changes: list = field(default_factory=list)


@dataclass
class Drift:
    """Findings by name, and the scores at training: None if they are of another list."""

    findings: dict
    trained: dict | None = None
    best_metric: str = ''

    @property
    def changes(self):
        """What changed, in a word each."""
        return [change for finding in self.findings.values() for change in finding.changes]

    @property
    def code_state(self):
        """'unchanged', 'changed', or 'unknown' for a checkpoint without provenance."""
        if 'probe' not in self.findings:
            return 'unknown'
        return 'changed' if self.findings['code'].changes else 'unchanged'

    def describe(self, *names):
        """The lines of the findings, all or those named: a single line if nothing changed."""
        findings = [self.findings[n] for n in names or self.findings if n in self.findings]
        lines = [line for finding in findings for line in finding.lines]
        is_calm = all(len(finding.lines) <= 1 and not finding.changes for finding in findings)
        return [' | '.join(lines)] if is_calm else lines

    def compare_scores(self, scores):
        """The lines to print after the scores, and whether the checkpoint has drifted.

        It has if a printed digit of a score or the probe differs, or if anything else changed and
        training kept no scores that could show whether this matters.
        """
        if not self.trained:
            lines = ['training kept no scores with this checkpoint'] if self.trained == {} else []
            return lines, bool(self.changes)
        pairs = {n: (score, scores[n]) for n, score in self.trained.items() if n in scores}
        texts = {name: [f'{score:.4f}' for score in pair] for name, pair in pairs.items()}
        differing = [name for name, (stored, current) in texts.items() if stored != current]
        names = dict.fromkeys([self.best_metric] * (self.best_metric in texts) + differing)
        lines = [compare_score(name, *texts[name]) for name in names]
        code_changes = self.findings['code'].changes
        has_drifted = bool(differing or self.findings['probe'].changes)
        if has_drifted:
            lines.append(f'changed since training: {self.reasons}')
        elif code_changes:
            lines.append(f'no effect on evaluation: {list_some(code_changes)}')
        if has_drifted and code_changes:
            command = shlex.join(['python', *sys.argv, '--use_snapshot'])
            lines.append(f'to run the original code: {command}')
        return lines, has_drifted

    @property
    def reasons(self):
        """What changed, for people."""
        return list_some(self.changes) or 'nothing that is recorded'

    def get_exit_code(self, scores, is_strict):
        """3 with --strict_drift if the checkpoint has drifted, which stderr is told; else 0."""
        if not is_strict or not self.compare_scores(scores)[1]:
            return 0
        print(f'--strict_drift: scores may have drifted; changed: {self.reasons}', file=sys.stderr)
        return 3


def compare_score(name, stored, current):
    """'miou 0.7312 (training 0.7312, equal)', or the difference; scores as they are printed."""
    difference = 'equal' if stored == current else f'{float(current) - float(stored):+.4f}'
    return f'{name} {current} (training {stored}, {difference})'


def find_drift(stored, current):
    """The Drift between a checkpoint and what runs now."""
    if 'probe' not in stored:
        line = 'drift: unknown, the checkpoint does not say how it was made'
        return Drift({'code': Finding([line], ['unknown'])})
    versions = [get_versions(x) for x in (stored, current)]
    data = [get_data(x, 'val') for x in (stored, current)]
    train_data = [get_data(x, 'train') for x in (stored, current)]
    findings = {
        'code': compare_code(stored['code'], current['code']),
        'probe': compare_probes(stored, current),
        'data': compare_data('data', *data),
        'train data': compare_data('train data', *train_data) if all(train_data) else Finding([]),
        'options': compare_values('option', stored['args'], current['args']),
        'versions': compare_values('version', *versions),
    }
    trained = get_headline(stored['metrics'], 'val/') if is_same_list(*data) else None
    return Drift(findings, trained, stored.get('best_metric', ''))


def compare_code(stored, current):
    """Which files changed, of those that are imported here and those stored that are not Python."""
    names = list_imported() | {name for name in stored if not name.endswith('.py')}
    changes = [change for change in compare_sources(stored, current) if change[0] in names]
    state = f'{plural(len(changes), "file")} changed' if changes else 'unchanged'
    finding = Finding([f'code: {state}'])
    for name, num_added, num_removed in changes:
        part = PARTS.get(name.split('/')[0], 'shared')
        finding.lines.append(f'  {name}  +{num_added} -{num_removed}  ({part})')
        finding.changes.append(name)
    return finding


def compare_probes(stored, current):
    """Whether the model, with the same weights, still has the same output for the same input."""
    outputs = stored['probe']['answer'], current['probe']['answer']
    if outputs[1] is None:
        return Finding(['probe: not compared (with --load_not_strict weights may be missing)'])
    if isinstance(outputs[0], str):
        return Finding([f'probe: not compared ({outputs[0]})'])
    if isinstance(outputs[1], str):
        return Finding([f'probe: the model failed on it ({outputs[1]})'], ['probe'])
    if outputs[0].shape != outputs[1].shape:
        shapes = ' -> '.join(str(tuple(output.shape)) for output in outputs)
        return Finding([f'probe: the output has another shape, {shapes}'], ['probe'])
    # -inf of a model that masks a class, nan of one that diverged: equal if both have it.
    is_equal = (outputs[0] == outputs[1]) | (outputs[0].isnan() & outputs[1].isnan())
    difference = (outputs[0] - outputs[1]).abs().masked_fill(is_equal, 0).max().item()
    if difference == 0:
        return Finding(['probe: identical'])
    largest = outputs[0].nan_to_num(0, 0, 0).abs().max().item()
    if difference <= largest * get_rounding(stored, current):
        return Finding([f'probe: equal up to rounding (largest difference {difference:.1e})'])
    line = f'probe: differs by up to {difference:.4g} (largest output {largest:.4g})'
    line += ': the forward pass changed though every parameter loaded'
    return Finding([line], ['probe'])


def get_rounding(stored, current):
    """The share of the largest output that rounding may change."""
    versions = [get_versions(x) for x in (stored, current)]
    names = [n for n in ('torch', 'cuda', 'device') if versions[0].get(n) != versions[1].get(n)]
    is_mixed = any(x['args'].get('amp', 'off') != 'off' for x in (stored, current))
    return ROUNDING_ELSEWHERE if names or is_mixed else ROUNDING


def compare_data(title, stored, current):
    """Whether a list, its files and its first sample are the same."""
    if not is_same_list(stored, current):
        # The scores of two validation lists are not compared, so that this is no drift.
        changes = [] if title == 'data' else [title]
        return Finding([f'{title}: {current["list"]} is not the list that training used'], changes)
    num_more = current['samples'] - stored['samples']
    lines = f'{plural(abs(num_more), "line")} {"added" if num_more > 0 else "removed"}'
    changes = {
        'samples': f'{lines} ({stored["samples"]} -> {current["samples"]} samples)',
        'sha256': 'its lines changed',
        'total_bytes': 'its files have other sizes',
        'file_sizes': 'its files have other sizes',
        'class_names': 'its class file changed',
        'sample': 'its first sample is read or preprocessed in another way',
    }
    for name, change in changes.items():
        if name in stored and stored[name] != current.get(name):
            return Finding([f'{title}: {Path(current["list"]).name}: {change}'], [title])
    return Finding([f'{title}: unchanged'])


def get_data(checkpoint, split):
    """The fingerprint of a list, with its absolute path and, for 'val', its first sample's digest;
    None without one.
    """
    provenance = checkpoint['provenance']
    facts = provenance['data'].get(split)
    sample = {'sample': checkpoint['probe']['sample']} if split == 'val' else {}
    path = Path(provenance['directory'], facts['list'] if facts else '').resolve()
    return facts and facts | sample | {'path': path}


def is_same_list(stored, current):
    """Whether two fingerprints are of one list: the same content, or the same path."""
    names = [name for name in ('sha256', 'list', 'path') if name in stored]
    return any(stored[name] == current.get(name) for name in names)


def compare_values(title, stored, current):
    """The names in `current` whose value differs in `stored`."""
    names = [name for name in current if name in stored and stored[name] != current[name]]
    changes = [f'{name} {stored[name]} -> {current[name]}' for name in names]
    return Finding([f'{title}: {change}' for change in changes], changes)


def get_versions(checkpoint):
    """{name: version} of the libraries, and the kind of device."""
    return checkpoint['provenance']['versions'] | {'device': checkpoint['probe']['device']}
