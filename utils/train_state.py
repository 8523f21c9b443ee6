"""TrainState: where training is, which epoch was best, and when to stop."""

import math
import sys

from metrics import DIRECTIONS, is_lower_better
from utils.errors import UserError, nearest
from utils.scores import get_headline

NO_BEST = {'epoch': 0, 'score': math.nan, 'scores': {}}


class TrainState:
    """Counts epochs, their batches and optimizer steps, and keeps the best epoch."""

    def __init__(self, args, scores):
        """`scores` are the names of the scores that validation gives."""
        self.args, self.best_metric = args, select_best_metric(args, scores)
        self.epoch = self.step = 0  # finished epochs, optimizer steps since the start
        self.batch = 0  # finished batches of the epoch that is not finished
        self.first_scores = {}  # of the first validation, for --overfit
        self.best = NO_BEST

    def count_step(self):
        """A step is done: its batch is not read again when training resumes."""
        self.step += 1
        self.batch += 1

    def finish_epoch(self, scores):
        """Counts the epoch and takes its scores; returns whether it is the best so far."""
        self.epoch, self.batch = self.epoch + 1, 0
        score = scores.get(f'val/{self.best_metric}', math.nan)
        if f'val/{self.best_metric}' in scores and not math.isfinite(score):
            line = f'val {self.best_metric} of epoch {self.epoch} is {score}: it cannot be the best'
            print(f'warning: {line}', file=sys.stderr)
        self.first_scores = self.first_scores or get_headline(scores, 'val/')
        return self.keep_best(self.epoch, scores)

    def keep_best(self, epoch, scores):
        """Keeps an epoch if its score is better than the best; returns whether it is."""
        score = scores.get(f'val/{self.best_metric}', math.nan)
        is_best = self.is_better(score)
        if is_best:
            self.best = {'epoch': epoch, 'score': score, 'scores': get_headline(scores, 'val/')}
        return is_best

    def is_better(self, score):
        """Whether a score is better than the best so far; nan and inf never are."""
        if not math.isfinite(score) or math.isnan(self.best['score']):
            return math.isfinite(score)
        is_lower = score < self.best['score']
        return is_lower if is_lower_better(self.best_metric) else score > self.best['score']

    def is_finished(self):
        """Whether the last epoch, or --early_stop validations without improvement, are done."""
        if self.args.overfit and self.has_learned():
            return True
        patience = self.args.early_stop * self.args.val_freq
        waited = self.epoch - (self.best['epoch'] or self.epoch)  # 0 until an epoch is the best
        return self.epoch >= self.args.epochs or 0 < patience <= waited

    def advise_more(self):
        """The option with which --resume trains on after the last epoch, or after --early_stop."""
        if self.epoch < self.args.epochs and not self.args.overfit:
            return f'--early_stop {self.args.early_stop * 2}'
        return f'--epochs {self.args.epochs + 10}'

    def has_learned(self):
        """Whether --overfit has reached its goal: a score of 0.95, or an error 20 times smaller
        than at first. Of a score that is no share, such as 30 dB, the loss tells it.
        """
        name = self.best_metric
        if not is_lower_better(name):
            if not self.best['score'] > 1:
                return self.best['score'] >= 0.95
            name = 'loss'
        best, first = (s.get(name, math.nan) for s in (self.best['scores'], self.first_scores))
        return best <= 0.05 * first

    def list_results(self):
        """Lines that say how training ended."""
        best = f'val {self.best_metric} {self.best["score"]:.4f}'
        lines = [f'best: epoch {self.best["epoch"]}, {best}'] if self.best['epoch'] else []
        if self.args.overfit and self.has_learned():
            lines.append(f'overfit passed: {best} after {self.step} steps')
        elif self.args.overfit:
            advice = 'look at the labels, the learning rate and the model, or give more --epochs'
            lines.append(f'overfit failed: {best} after {self.step} steps; {advice}')
        return lines or [f'finished: epoch {self.epoch}, never validated']

    def list_checkpoints(self):
        """The files that the finished epoch's checkpoint goes to; last.pth comes last: with it
        the epoch is done, and before it the others stand.
        """
        names = []
        if self.best['epoch'] == self.epoch:
            names.append('best.pth')
        if is_due(self.epoch, self.args.save_freq):
            names.append(f'{self.epoch:04d}_{self.step:08d}.pth')
        return [*names, 'last.pth']

    def describe(self):
        """How far the run is, for run.json."""
        names = ['loss', *DIRECTIONS, *(f'm{name}' for name in DIRECTIONS)]
        return {
            'epoch': self.epoch,
            'epochs': self.args.epochs,
            'step': self.step,
            'best_metric': self.best_metric,
            'lower_is_better': [n for n in names if is_lower_better(n)],
            'best': self.best,
        }

    def state_dict(self):
        """What a checkpoint keeps of it."""
        names = ('epoch', 'step', 'batch', 'best', 'best_metric', 'first_scores')
        state = {name: getattr(self, name) for name in names}
        return state | {'is_lower_better': is_lower_better(self.best_metric)}

    def load_state_dict(self, state):
        """Takes over what `state_dict` returned."""
        self.epoch, self.step, self.best = state['epoch'], state['step'], state['best']
        self.batch, self.first_scores = state.get('batch', 0), state.get('first_scores', {})


def is_due(number, freq):
    """Whether what happens every `freq` epochs or steps happens in this one; 0: never."""
    return freq > 0 and number % freq == 0


def select_best_metric(args, scores):
    """The score that best.pth is best in: --best_metric, or the first metric's."""
    own = [name for name in scores if not name.startswith('loss')]
    name = args.best_metric or (args.metrics[0] if args.metrics[0] in scores else [*own, 'loss'][0])
    if name not in scores:
        listed = ', '.join(name for name in scores if '/' not in name)
        near = nearest(name, scores)
        raise UserError(f"--best_metric '{name}' is not among the scores{near} ({listed})")
    return name
