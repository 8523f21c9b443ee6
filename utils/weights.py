"""State dicts: found in checkpoints of any kind, matched with a model by name and shape, loaded."""

from collections import Counter

import torch
from torch import nn

from utils.checkpoint import load_checkpoint
from utils.errors import UserError, list_some


def get_weights(state):
    """The state dict to evaluate or to start from: of a checkpoint of this project the averaged
    weights, of any other file the dict with the most tensors, at whatever depth. UserError if there
    are none, or if they contain nan.
    """
    found, seen = [state], set()
    for candidate in found:  # grows while it is walked
        seen.add(id(candidate))
        found += [v for v in candidate.values() if isinstance(v, dict) and id(v) not in seen]
    own = [state[name] for name in ('ema', 'model') if isinstance(state.get(name), dict)]
    named = [
        {k: v for k, v in candidate.items() if isinstance(k, str) and torch.is_tensor(v)}
        for candidate in (own if 'format_version' in state else own + found)
    ]
    if not any(named):
        keys = list_some([str(key) for key in state])
        raise UserError(f'the checkpoint contains no named tensors; its keys: {keys}')
    weights = max(named, key=len)
    wrong = [k for k, v in weights.items() if v.is_floating_point() and v.isnan().any()]
    if wrong:
        raise UserError(f'the checkpoint contains nan in {list_some(wrong)}: use an earlier one')
    return weights


def unwrap(model):
    """The network itself, out of DataParallel and the like."""
    return model.module if isinstance(model, nn.DataParallel) else model


def load_match_dict(model, state_or_path):
    """Loads every tensor that matches by name and shape; returns one line that reports the rest.

    UserError if nothing matches. Weights may come from DataParallel or a compiled model.
    """
    is_path = not isinstance(state_or_path, dict)
    state = get_weights(load_checkpoint(state_or_path)) if is_path else state_or_path
    matching, report = match_state(model, state)
    if not matching:
        raise UserError(f'none of its {len(state)} tensors has a name and shape of this model')
    unwrap(model).load_state_dict(matching, strict=False)
    return report


def load_strict(model, state):
    """Loads every tensor and returns one line; UserError, and nothing loaded, if one differs."""
    matching, report = match_state(model, state)
    if not len(matching) == len(state) == len(unwrap(model).state_dict()):
        raise UserError(f'these weights are of another model ({report}); see --load_not_strict')
    unwrap(model).load_state_dict(matching)
    return report.partition(', ')[0]


def match_state(model, state):
    """The part of a state dict that matches the model by name and shape, and one line about all."""
    own = unwrap(model).state_dict()
    state, note = align_names(own, {k.replace('_orig_mod.', ''): v for k, v in state.items()})
    matching = {k: v for k, v in state.items() if k in own and own[k].shape == v.shape}
    other = [k for k in state if k in own and k not in matching]
    shapes = [f'{k} {tuple(state[k].shape)} -> {tuple(own[k].shape)}' for k in other]
    missing = [k for k in own if k not in state]
    unexpected = [k for k in state if k not in own]
    return matching, (
        f'loaded {len(matching)} tensors{note}, {first_names(shapes)} of another shape, '
        f'{first_names(missing)} missing, {first_names(unexpected)} unexpected'
    )


def align_names(own, state):
    """The state dict with a constant prefix such as 'module.' removed or 'net.' added, if more of
    its names are then among `own`; and a note that says so.
    """

    def rename(removed, added):
        return {f'{added}{name.removeprefix(removed)}': name for name in state}

    pairs = ((r, a) for r in find_prefixes(state) for a in find_prefixes(own))
    pairs = sorted(pairs, key=lambda pair: (len(''.join(pair)), pair))
    best = max(pairs, key=lambda pair: len(own.keys() & rename(*pair).keys()))
    notes = [f"'{best[0]}' removed"] * bool(best[0]) + [f"'{best[1]}' added"] * bool(best[1])
    note = f' (prefix {", ".join(notes)})' if notes else ''
    return {new: state[old] for new, old in rename(*best).items()}, note


def find_prefixes(names):
    """'' and the commonest beginnings of names, of one part and of two, as 'module.' and
    'net.backbone.': a constant one is among them.
    """
    prefixes = ['']
    for number in (1, 2):
        parts = (name.split('.') for name in names)
        counts = Counter('.'.join(p[:number]) for p in parts if len(p) > number)
        prefixes += [f'{prefix}.' for prefix, _ in counts.most_common(4)]
    return prefixes


def first_names(names):
    """'2 (a, b)': how many, and the first of them."""
    return f'{len(names)} ({list_some(names, 10)})' if names else '0'
