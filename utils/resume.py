"""What a checkpoint keeps of training; --resume: which one training continues from, and which
options may change.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from metrics import is_lower_better
from utils.checkpoint import load_checkpoint, save_checkpoint
from utils.errors import UserError, list_some, one_line, plural
from utils.html_report import to_number
from utils.logger import read_epochs
from utils.optim import load_optimizer
from utils.tracking.run_dir import RunDir, get_step
from utils.tracking.tracker import list_changed_code
from utils.train_state import NO_BEST
from utils.weights import unwrap

# What a checkpoint keeps beside the weights and TrainState.
STATEFUL = ('optimizer', 'scheduler', 'scaler', 'logger')
# Scores before and after a change of one of these are not compared; the loss's, for a loss only.
SCORED_BY = ('data_type', 'img_size', 'label_values', 'ignore_index')
LOSS_BY = ('loss', 'class_weights')
NAMES = ('model_type', 'save_prefix', 'model_dir', 'fast_dev_run')  # of the run directory


@dataclass
class Resumed:
    """A checkpoint to continue from, its file, and the epoch that best.pth contains (0: none)."""

    checkpoint: dict
    path: Path
    best_epoch: int = 0


def get_state(trainer, scores):
    """The dict that a checkpoint contains: tensors and plain types only."""
    return {
        'model': unwrap(trainer.model).state_dict(),
        'ema': trainer.ema.module.state_dict(),  # without --ema the same tensors, stored once
        **{name: getattr(trainer, name).state_dict() for name in STATEFUL},
        'args': vars(trainer.args),
        'metrics': scores,
        'num_batches': len(trainer.train_loader),
        **trainer.state.state_dict(),
        **trainer.tracker.get_state(),
    }


def load_state(trainer, resumed):
    """Restores a checkpoint, to continue after its batch, with the current options."""
    checkpoint, args, num_batches = resumed.checkpoint, trainer.args, len(trainer.train_loader)
    stored, stored_batches = checkpoint.get('args', {}), checkpoint.get('num_batches', num_batches)
    if args.replay and stored_batches != num_batches:
        raise UserError('--replay: give the --batch_size, --train_list and --overfit of the run')
    try:
        unwrap(trainer.model).load_state_dict(checkpoint['model'])
        trainer.ema.module.load_state_dict(checkpoint['ema'])
        trainer.ema.num_steps = checkpoint['step']
        for name in ('scaler', 'logger'):
            if checkpoint.get(name):  # the scaler of a run without fp16 has {}
                getattr(trainer, name).load_state_dict(checkpoint[name])
        trainer.state.load_state_dict(checkpoint)
        # With another batch size an epoch has another number of batches.
        trainer.state.batch = trainer.state.batch * num_batches // stored_batches
        num_steps = round(checkpoint['scheduler']['last_epoch'] * num_batches / stored_batches)
        load_optimizer(trainer.optimizer, trainer.scheduler, checkpoint['optimizer'], num_steps)
    except (RuntimeError, ValueError, KeyError, TypeError, ZeroDivisionError) as error:
        names = list_changed_code(checkpoint)
        changed = f'; changed since: {list_some(names)}' if names else ''
        reason = f'{one_line(error)[:300]}{changed}; nothing was changed'
        raise UserError(f'cannot resume from {resumed.path}: {reason}') from error
    is_same_list = trainer.tracker.continue_from(checkpoint)
    if not args.replay:
        restore_files(trainer.state, resumed, trainer.logger.run_dir, is_same_list)
    args.load_model_path = stored.get('load_model_path', '')  # for args.txt


def find_newest(args, model_dir, allowed):
    """The Resumed that --resume continues from, the newest checkpoint that loads; for --replay the
    newest one before that batch. None without --resume, or if there is no checkpoint.

    UserError if there are checkpoints and none can be used, or for a change that is not `allowed`.
    """
    if not args.resume:
        return None
    check_moved(args, RunDir(model_dir))
    newest = walk_back(RunDir(model_dir), args.replay)
    if newest:
        check_changes(args, newest.checkpoint, allowed)
    return newest


def walk_back(run_dir, before):
    """The Resumed of the newest checkpoint that loads; with `before`, (epoch, batch), of the newest
    from before that batch. Prints which.
    """
    paths, newest, best_epoch, position = run_dir.list_checkpoints(), None, 0, (-1,)
    for path in paths:
        if newest and 0 < get_step(path.name) <= position[1]:
            break  # they come newest first
        try:
            checkpoint = load_training(path)
        except UserError as error:
            print(f'warning: {error}; looking for another one', file=sys.stderr)
            continue
        if path == run_dir.best:
            best_epoch = checkpoint['epoch']
        own = checkpoint['epoch'], checkpoint['step'], checkpoint.get('batch', 0)
        is_before = not before or (own[0] + 1, own[2] + 1) <= tuple(before)
        if own > position and is_before:
            newest, position = Resumed(checkpoint, path), own
    if newest:
        newest.best_epoch = best_epoch
        within = f', {plural(position[2], "batch")} of the next' if position[2] else ''
        print(f'resuming from {newest.path}: {plural(position[0], "epoch")} done{within}')
    elif paths:
        place = f' before epoch {before[0]}, batch {before[1]}' if before else ''
        names = f'{place} in {", ".join(path.name for path in paths)}'
        advice = '--save_steps and --save_freq keep more' if before else '--overwrite starts again'
        line = f'{run_dir.path.absolute()}: no checkpoint{names}'
        raise UserError(f'{line}; nothing was changed; {advice}')
    elif before:
        raise UserError(f'--replay: {run_dir.path.absolute()} contains no checkpoint')
    else:
        print(f'no run to resume in {run_dir.path.absolute()}; starting')
    return newest


def check_moved(args, run_dir):
    """UserError for `@<run>/args.txt` of a run that was renamed, moved or copied: its options name
    another directory.
    """
    for path in [Path(word[1:]).parent for word in sys.argv if word.startswith('@')]:
        stored = RunDir(path).read_record().get('args')
        stored = stored if isinstance(stored, dict) else {}
        is_its_name = all(stored.get(name) == vars(args)[name] for name in NAMES)
        if is_its_name and path.resolve() != run_dir.path.resolve():
            line = f'{path} was moved or copied: its args.txt names {run_dir.path}'
            raise UserError(f'{line}: --model_dir {path} continues it where it is')


def load_training(path):
    """The content of a checkpoint that training can continue from; UserError for any other."""
    checkpoint = load_checkpoint(path)
    missing = [name for name in ('model', 'optimizer', 'epoch', 'step') if name not in checkpoint]
    if missing:
        advice = '--load_model_path starts a new run from its weights'
        raise UserError(f'checkpoint {path} contains no {missing[0]} to resume: {advice}')
    return checkpoint


def check_changes(args, checkpoint, allowed):
    """UserError for options that a resumed run may not change; says which other changes apply.

    `allowed` is RESUMED of options.py.
    """
    stored = checkpoint.get('args', {})
    changes = {
        kind: [
            f'{name} {stored[name]} -> {getattr(args, name)}'
            for name in names.split()
            if name in stored and stored[name] != getattr(args, name)
        ]
        for kind, names in allowed.items()
    }
    if bool(stored.get('ema')) != bool(args.ema):
        changes['impossible'].append(f'ema {stored.get("ema")} -> {args.ema}')
    advice = 'another --save_prefix starts a new run, `@<run>/args.txt --resume` keeps the options'
    if changes['impossible']:
        raise UserError(f'--resume cannot change {", ".join(changes["impossible"])}: {advice}')
    if changes['refused'] and not args.allow_changes:
        listed = ', '.join(changes['refused'])
        raise UserError(f'--resume would change {listed}: give --allow_changes; or {advice}')
    if changes['refused'] or changes['applied']:
        print('from the next step on:', ', '.join(changes['refused'] + changes['applied']))


def restore_files(state, resumed, run_dir, is_same_list):
    """Makes last.pth hold what training continues from, and best.pth the best epoch by the current
    score, direction and list; if its weights are gone the search starts afresh, which is said.
    """
    if resumed.path != run_dir.last:
        save_checkpoint(resumed.checkpoint, run_dir.last)
    stored = resumed.checkpoint
    metric = stored.get('best_metric', state.best_metric)
    is_lower = is_lower_better(state.best_metric)
    is_same = metric == state.best_metric and stored.get('is_lower_better', is_lower) == is_lower
    found, reason = state.best, ''
    names = SCORED_BY + (LOSS_BY if state.best_metric.startswith('loss') else ())
    before, now = stored.get('args', {}), vars(state.args)
    changed = [name for name in names if name in before and before[name] != now[name]]
    if changed:
        found, reason = NO_BEST, f'another --{changed[0]}'
    elif not is_same_list:
        found, reason = NO_BEST, 'another validation list'
    elif not is_same:
        state.best = NO_BEST
        for row in read_epochs(run_dir.log, state.epoch):
            scores = {name: to_number(text) for name, text in row.items()}
            known = {name: score for name, score in scores.items() if score is not None}
            state.keep_best(int(row['epoch']), known)
        found, reason = state.best, 'another score or direction'
    is_end = found['epoch'] == stored['epoch'] and not stored.get('batch')  # of the best epoch
    if found['epoch'] and is_end and found['epoch'] != resumed.best_epoch:
        save_checkpoint(stored, run_dir.best)
    elif found['epoch'] != resumed.best_epoch and found['epoch']:
        reason = f'best.pth contains epoch {resumed.best_epoch}, not the best, {found["epoch"]}'
        found = NO_BEST
    state.best = found
    if reason:
        result = f'epoch {found["epoch"]}, {found["score"]:.4f}, from log.csv'
        print(f'best ({reason}): {result if found["epoch"] else "starts afresh"}')
