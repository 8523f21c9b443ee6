"""What has changed since a checkpoint was made, and whether its scores have changed with it.

Below, `old` is a checkpoint and `new` has the same of what runs now: args, provenance, code, probe.
"""

import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path

from utils.errors import count
from utils.provenance import describe_list_change
from utils.report import get_headline
from utils.sources import compare_sources, list_imported, read_sources

# Whose part a file is; whatever else runs is shared.
PARTS = {'model': 'model', 'data': 'data', 'metrics.py': 'metric', 'loss.py': 'metric'}
APART = ('tests', 'scripts')  # no part of what runs
# Share of the largest answer that rounding may change: with another number of threads, and in half
# precision, on another device or torch, where convolutions may be computed in another way.
ROUNDING, ROUNDING_ELSEWHERE = 1e-5, 1e-2
# Options that say where things are, how fast they go or what is shown, not what is computed.
HARMLESS = ('val_list', 'data_root', 'num_workers', 'val_batch_size', 'class_names', 'metrics')


@dataclass
class Finding:
    """Lines of the report, and in a word each what changed; certain when that alone is drift."""

    lines: list
    changes: list = field(default_factory=list)
    is_certain: bool = False


@dataclass
class Drift:
    """Findings by name, and the scores at training: None when they are of another list."""

    findings: dict
    trained: dict | None = None
    best_metric: str = ''

    @property
    def changes(self):
        """What changed, in a word each."""
        return [change for finding in self.findings.values() for change in finding.changes]

    @property
    def code_state(self):
        """'unchanged', 'changed' or, of a checkpoint that says nothing, 'unknown'."""
        if 'probe' not in self.findings:
            return 'unknown'
        return 'changed' if self.findings['code'].changes else 'unchanged'

    def describe(self, *names):
        """The lines of the findings, all or those named: a single line when nothing changed."""
        findings = [self.findings[n] for n in names or self.findings if n in self.findings]
        lines = [line for finding in findings for line in finding.lines]
        is_calm = all(len(finding.lines) <= 1 and not finding.changes for finding in findings)
        return [' | '.join(lines)] if is_calm else lines

    def compare_scores(self, scores):
        """The lines to print after the scores, and whether the checkpoint has drifted.

        It has when a printed digit of a score or the probe differs, or when anything else changed
        and training kept no scores that could show whether this matters.
        """
        names = [name for name in scores if name in (self.trained or {})]
        if not names:
            lines = ['training kept no scores with this checkpoint'] if self.trained == {} else []
            return lines, bool(self.changes)
        pairs = {name: (f'{scores[name]:.4f}', f'{self.trained[name]:.4f}') for name in names}
        differing = [name for name, (now, then) in pairs.items() if now != then]
        has_drifted = bool(differing) or any(f.is_certain for f in self.findings.values())
        best = self.best_metric if self.best_metric in pairs else names[0]
        lines = [compare_score(name, *pairs[name]) for name in dict.fromkeys([best, *differing])]
        code_changes = self.findings['code'].changes
        if has_drifted:
            reasons = ', '.join(self.changes) or 'nothing that is recorded'
            lines.append(f'changed since training: {reasons}')
        elif code_changes:
            lines.append(f'no effect on evaluation: {", ".join(code_changes)}')
        if has_drifted and code_changes:
            command = shlex.join(['python', *sys.argv, '--use_snapshot'])
            lines.append(f'with the code of that day: {command}')
        return lines, has_drifted


def compare_score(name, now, then):
    """'miou 0.7312 (training 0.7312, equal)', or the difference; scores as they are printed."""
    difference = 'equal' if now == then else f'{float(now) - float(then):+.4f}'
    return f'{name} {now} (training {then}, {difference})'


def find_drift(old, new):
    """The Drift between a checkpoint and what runs now."""
    if 'probe' not in old:
        line = 'drift: unknown, the checkpoint does not say how it was made'
        return Drift({'code': Finding([line], ['unknown'])})
    probe = compare_probes(old, new)
    notes = {
        'model': '' if probe.changes else 'the probe comes out the same',
        'data': 'the first sample comes out the same' if is_same_sample(old, new) else '',
    }
    findings = {
        'code': compare_code(old['code'], new['code'], notes),
        'probe': probe,
        'data': compare_data(old, new),
        'train data': compare_train_data(old, new),
        'options': compare_options(old, new),
        'versions': compare_versions(old, new),
    }
    scores = get_headline(old['metrics'], 'val/')
    best_metric = old['args']['best_metric'] or old['args']['metrics'][0]
    return Drift(findings, scores if is_same_list(old, new) else None, best_metric)


def advise_snapshot(checkpoint, sources=None):
    """For a checkpoint that does not load: which code changed, and the way out; '' when none."""
    stored = checkpoint.get('code', {})
    sources = sources or read_sources(others=stored)
    # All, not what runs alone: a module that cannot be imported does not run.
    changes = compare_sources(stored or sources, sources)
    names = [n for n, *_, is_layout in changes if not is_layout and n.split('/')[0] not in APART]
    if not names:
        return ''
    return f'; changed since training: {", ".join(names)}; --use_snapshot runs the code of then'


def compare_code(old, new, notes):
    """Which files that run here changed; `notes` is what speaks for a part's being unharmed."""
    changes = compare_sources(old, new)
    running = list_imported()  # of a file that is no Python it is not known
    used = [change for change in changes if change[0] in running or change[0][-3:] != '.py']
    unused = len(changes) - len(used)
    others = f', apart from {count(unused, "file")} not used here' if unused else ''
    state = f'{count(len(used), "file")} changed' if used else 'unchanged'
    finding = Finding([f'code: {state}{others}'])
    for name, num_added, num_removed, is_layout in used:
        part = PARTS.get(name.split('/')[0], 'shared')
        note = 'comments or layout only' if is_layout else notes.get(part)
        part = f'{part}: {note}' if note else part
        finding.lines.append(f'  {name}  +{num_added} -{num_removed}  ({part})')
        finding.changes += [] if is_layout else [name]
    return finding


def compare_probes(old, new):
    """Whether the model, with the same weights, still gives the same answer to the same input."""
    then, now = old['probe']['answer'], new['probe']['answer']
    if now is None or isinstance(then, str):
        reason = 'with --load_not_strict weights may be missing' if now is None else then
        return Finding([f'probe: not compared ({reason})'])
    if isinstance(now, str):
        return Finding([f'probe: no answer any more ({now})'], ['probe'], is_certain=True)
    if then.shape != now.shape:
        shapes = f'{tuple(then.shape)} -> {tuple(now.shape)}'
        line = f'probe: the answer has another shape, {shapes}'
        return Finding([line], ['probe'], is_certain=True)
    # -inf of a model that masks a class, nan of one that diverged: equal where both have it.
    is_equal = (then == now) | (then.isnan() & now.isnan())
    difference = (then - now).abs().masked_fill(is_equal, 0).max().item()
    largest = then.nan_to_num(0, 0, 0).abs().max().item()
    if difference == 0:
        return Finding(['probe: identical'])
    is_elsewhere = any(
        get_stored_versions(old)[name] != get_stored_versions(new)[name]
        for name in ('torch', 'cuda', 'device')
    )
    is_coarse = is_elsewhere or new['args']['amp'] != 'off'
    if difference <= largest * (ROUNDING_ELSEWHERE if is_coarse else ROUNDING):
        return Finding([f'probe: equal up to rounding (largest difference {difference:.1e})'])
    line = f'probe: differs by up to {difference:.4g} (answers reach {largest:.4g})'
    line += ': the forward pass changed though every parameter loaded'
    return Finding([line], ['probe'], is_certain=True)


def compare_data(old, new):
    """Whether the list that training validated on, its files and first sample are the same."""
    then, now = (x['provenance']['data']['val'] for x in (old, new))
    if not is_same_list(old, new):
        return Finding([f'data: {now["list"]} is not the list that training validated on'])
    rows = ([tuple(row) for row in x['probe']['rows'].tolist()] for x in (old, new))
    change = describe_list_change(then, now, *rows)
    if not change and not is_same_sample(old, new):
        change = 'its first sample is read or preprocessed in another way'
    if not change:
        return Finding(['data: unchanged'])
    return Finding([f'data: {Path(now["list"]).name}: {change}'], ['data'])


def compare_train_data(old, new):
    """Whether a resumed training has the list that it began with; an evaluation has none."""
    then, now = (x['provenance']['data'].get('train') for x in (old, new))
    if not now or now | {'list': ''} == then | {'list': ''}:
        return Finding([])
    change = describe_list_change(then, now, [], []) or 'its files have other sizes'
    return Finding([f'data: {Path(now["list"]).name}: {change}'], ['train data'])


def is_same_list(old, new):
    """Whether both validate on one list: the same content, or the same path."""
    then, now = (x['provenance']['data']['val'] for x in (old, new))
    homes = [x['provenance']['directory'] for x in (old, new)]
    paths = [Path(home, data['list']) for home, data in zip(homes, (then, now), strict=True)]
    is_same_path = then['list'] == now['list'] or paths[0].resolve() == paths[1].resolve()
    return is_same_path or ('sha256' in then and then['sha256'] == now.get('sha256'))


def is_same_sample(old, new):
    """Whether the list's first sample is preprocessed to the same bytes."""
    return is_same_list(old, new) and old['probe']['sample'] == new['probe']['sample']


def compare_options(old, new):
    """The options that are not those of training, where they change what is computed."""
    then, now = old['args'], new['args']
    names = [n for n in then if n in now and n not in HARMLESS and then[n] != now[n]]
    lines = [f'option: {name} {then[name]} -> {now[name]}' for name in names]
    return Finding(lines, [f'--{name}' for name in names])


def compare_versions(old, new):
    """The versions, and the kind of device, that are not those of training."""
    then, now = get_stored_versions(old), get_stored_versions(new)
    names = [name for name in then if then[name] != now.get(name)]
    changes = [f'{name} {then[name]} -> {now.get(name)}' for name in names]
    return Finding([f'version: {change}' for change in changes], changes)


def get_stored_versions(checkpoint):
    """{name: version} of the libraries, and the kind of device."""
    return checkpoint['provenance']['versions'] | {'device': checkpoint['probe']['device']}
