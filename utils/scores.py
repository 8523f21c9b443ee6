"""Scores, {name: number}, for people."""


def get_headline(scores, prefix=''):
    """The scores that begin with prefix, named without it; not those of a class, as iou/road."""
    own = {k.removeprefix(prefix): v for k, v in scores.items() if k.startswith(prefix)}
    return {name: value for name, value in own.items() if '/' not in name}


def format_scores(scores, prefix=''):
    """'loss 0.4312 | miou 0.7312 | acc 0.9120': the headline."""
    texts = []
    for name, value in get_headline(scores, prefix).items():
        classes = [v for k, v in scores.items() if k.startswith(f'{prefix}{name[1:]}/')]
        num_seen = sum(v == v for v in classes)  # a class that never occurs is nan
        note = f' ({num_seen} of {len(classes)} classes)' if num_seen < len(classes) else ''
        texts.append(f'{name} {value:.4f}{note}')
    return ' | '.join(texts)
