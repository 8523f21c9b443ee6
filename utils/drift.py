"""What has changed since a checkpoint was made, and whether its scores have changed with it.

Below, `old` is a checkpoint and `new` has the same of what runs now: args, provenance, code, probe.
"""

import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path

from utils.errors import count
from utils.provenance import describe_list_change
from utils.sources import compare_sources, get_running_files

# Whose part a file is; whatever else runs is shared.
PARTS = {'model': 'model', 'data': 'data', 'metrics.py': 'metric', 'loss.py': 'metric'}
# Share of the largest answer that rounding may change: with another number of threads; and on GPUs
# or with other versions, where convolutions may be computed in another way.
ROUNDING, ROUNDING_ELSEWHERE = 1e-5, 1e-2
# Options that say where things are or how fast they go, not what is computed.
HARMLESS = ('val_list', 'data_root', 'num_workers', 'val_batch_size', 'class_names', 'metrics')

SAME_SAMPLE = 'no effect on evaluation, the first sample comes out the same'


@dataclass
class Finding:
    """Lines of the report; in a word each, what has an effect on scores and what may have one."""

    lines: list
    causes: list = field(default_factory=list)
    suspects: list = field(default_factory=list)


@dataclass
class Drift:
    """Findings by name; the files that changed and the scores at training, None when unknown."""

    findings: dict
    changed_files: list | None = None
    trained: dict | None = None
    best_metric: str = ''

    @property
    def code_state(self):
        """'unchanged', 'changed: model/submodules.py' or 'unknown'."""
        if self.changed_files is None:
            return 'unknown'
        return 'changed: ' + ' '.join(self.changed_files) if self.changed_files else 'unchanged'

    def describe(self, *names):
        """The lines of the findings, all or those named: a single line when nothing changed."""
        findings = [self.findings[n] for n in names or self.findings if n in self.findings]
        lines = [line for finding in findings for line in finding.lines]
        is_calm = all(len(f.lines) <= 1 and not f.causes for f in findings)
        return [' | '.join(lines)] if is_calm else lines

    def compare_scores(self, scores):
        """The lines to print after the scores, and whether the checkpoint has drifted.

        It has when a printed digit differs or something that has an effect changed; without scores
        of training to compare, also when something changed that may have an effect.
        """
        causes = [cause for finding in self.findings.values() for cause in finding.causes]
        suspects = [suspect for finding in self.findings.values() for suspect in finding.suspects]
        names = [name for name in scores if name in (self.trained or {})]
        if not names:
            lines = ['training kept no scores with this checkpoint'] if self.trained == {} else []
            return lines, bool(causes or suspects)
        pairs = {name: (f'{scores[name]:.4f}', f'{self.trained[name]:.4f}') for name in names}
        differing = [name for name, (now, then) in pairs.items() if now != then]
        best = self.best_metric if self.best_metric in pairs else names[0]
        lines = []
        for name in dict.fromkeys([best, *differing]):
            now, then = pairs[name]
            difference = f'{float(now) - float(then):+.4f}' if name in differing else 'equal'
            lines.append(f'{name} {now} (training {then}, {difference})')
        if differing:
            reasons = suspects + causes or self.changed_files or ['nothing that is recorded']
            lines.append(f'changed since training: {", ".join(reasons)}')
        if differing and self.changed_files:
            command = shlex.join(['python', *sys.argv, '--use_snapshot'])
            lines.append(f'with the code of that day: {command}')
        return lines, bool(differing or causes)


def find_drift(old, new):
    """The Drift between a checkpoint and what runs now."""
    if 'probe' not in old:
        line = 'drift: unknown, the checkpoint does not say how it was made'
        return Drift({'code': Finding([line], suspects=['unknown'])})
    changes = compare_sources(old['code'], new['code'])
    running = get_running_files()
    used = [change for change in changes if change[0] in running]
    probe, data = compare_probes(old, new), compare_data(old, new)
    proofs = {
        'model': '' if probe.causes + probe.suspects else 'no effect on the probe',
        'data': SAME_SAMPLE if is_same_sample(old, new) else '',
    }
    findings = {
        'code': describe_code(used, len(changes) - len(used), proofs),
        'probe': probe,
        'data': data,
        'options': compare_options(old, new),
        'versions': compare_versions(old, new),
    }
    scores = {k[4:]: v for k, v in old['metrics'].items() if k[:4] == 'val/' and '/' not in k[4:]}
    trained = scores if is_same_list(old, new) else None
    best_metric = old['args']['best_metric'] or old['args']['metrics'][0]
    return Drift(findings, [name for name, *_ in used], trained, best_metric)


def describe_code(changes, num_others, proofs):
    """The files that changed; those of a part that is proved to come out the same do no harm."""
    others = f', apart from {count(num_others, "file")} not used here' if num_others else ''
    state = f'{count(len(changes), "file")} changed' if changes else 'unchanged'
    finding = Finding([f'code: {state}{others}'])
    for name, num_added, num_removed, is_layout in changes:
        part = PARTS.get(name.split('/')[0], 'shared')
        effect = 'comments or layout only' if is_layout else proofs.get(part)
        finding.lines.append(
            f'  {name}  +{num_added} -{num_removed}  ({part}{f": {effect}" if effect else ""})'
        )
        finding.suspects += [] if effect else [name]
    return finding


def compare_probes(old, new):
    """Whether the model, with the same weights, still gives the same answer to the same input."""
    then, now = old['probe']['answer'], new['probe']['answer']
    for answer in (now, then):
        if isinstance(answer, str):
            return Finding([f'probe: not compared ({answer})'], suspects=['probe'])
    if then.shape != now.shape:
        shapes = f'{tuple(then.shape)} -> {tuple(now.shape)}'
        return Finding([f'probe: the answer has another shape, {shapes}'], ['probe'])
    difference, largest = (then - now).abs().max().item(), then.abs().max().item()
    if difference == 0:
        return Finding(['probe: identical'])
    is_elsewhere = get_versions(old) != get_versions(new) or new['probe']['device'] != 'cpu'
    if difference <= largest * (ROUNDING_ELSEWHERE if is_elsewhere else ROUNDING):
        return Finding([f'probe: equal up to rounding (largest difference {difference:.1e})'])
    line = f'probe: differs by up to {difference:.4g} (answers reach {largest:.4g})'
    return Finding([f'{line}: the forward pass changed though every parameter loaded'], ['probe'])


def compare_data(old, new):
    """Whether the list that training validated on, its files and first sample are the same."""
    then, now = (x['provenance']['data']['val'] for x in (old, new))
    if not is_same_list(old, new):
        return Finding([f'data: {now["list"]} is not the list that training validated on'])
    rows = (x['probe']['rows'].tolist() for x in (old, new))
    change = describe_list_change(then, now, *rows)
    if not change and not is_same_sample(old, new):
        change = 'its first sample is read or preprocessed in another way'
    if not change:
        return Finding(['data: unchanged'])
    return Finding([f'data: {Path(now["list"]).name}: {change}'], ['data'])


def is_same_list(old, new):
    """Whether both validate on one list: the same content, or the same path."""
    old, new = (x['provenance']['data']['val'] for x in (old, new))
    same_path = Path(old['list']).absolute() == Path(new['list']).absolute()
    return same_path or ('sha256' in old and old['sha256'] == new.get('sha256'))


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
    then, now = get_versions(old), get_versions(new)
    names = [name for name in then if then[name] != now.get(name)]
    changes = [f'{name} {then[name]} -> {now.get(name)}' for name in names]
    return Finding([f'version: {change}' for change in changes], suspects=changes)


def get_versions(checkpoint):
    """{name: version} of the libraries, and the kind of device."""
    return checkpoint['provenance']['versions'] | {'device': checkpoint['probe']['device']}
