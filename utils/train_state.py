"""TrainState: where training is, which epoch was best, and when to stop."""

import math
import sys

from metrics import DIRECTIONS, is_lower_better
from utils.errors import UserError, nearest
from utils.logger import get_headline


class TrainState:
    """Counts epochs and optimizer steps and keeps the best epoch."""

    def __init__(self, args, scores):
        """`scores` are the names of the scores that validation gives."""
        self.args, self.best_metric = args, select_best_metric(args, scores)
        self.epoch = self.step = 0
        self.first_score = math.nan  # for --overfit of a score that is better when lower
        self.best = {'epoch': 0, 'score': math.nan, 'scores': {}}

    def update_best(self, scores):
        """Takes the scores of the finished epoch; returns whether it is the best so far.

        FloatingPointError if its training loss is not finite.
        """
        if not math.isfinite(scores['train/loss']):
            loss = f'the training loss of epoch {self.epoch} is {scores["train/loss"]}'
            advice = 'lower --lr or set --clip_grad; earlier checkpoints are intact'
            raise FloatingPointError(f'{loss}: {advice}')
        score = scores.get(f'val/{self.best_metric}', math.nan)
        if f'val/{self.best_metric}' in scores and not math.isfinite(score):
            line = f'val {self.best_metric} of epoch {self.epoch} is {score}: it cannot be the best'
            print(f'warning: {line}', file=sys.stderr)
        if math.isnan(self.first_score):
            self.first_score = score
        is_best = self.is_better(score)
        if is_best:
            headline = get_headline(scores, 'val/')
            self.best = {'epoch': self.epoch, 'score': score, 'scores': headline}
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
        return self.epoch >= self.args.epochs or 0 < patience <= self.epoch - self.best['epoch']

    def has_learned(self):
        """Whether --overfit has reached its goal: a score of 0.95, or an error 20 times smaller."""
        if is_lower_better(self.best_metric):
            return self.best['score'] <= 0.05 * self.first_score
        return self.best['score'] >= 0.95

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
        """The files that the finished epoch's checkpoint goes to; last.pth comes last, because
        resuming starts from it.
        """
        names = []
        if self.best['epoch'] == self.epoch:
            names.append('best.pth')
        if self.is_due(self.args.save_freq):
            names.append(f'{self.epoch:04d}_{self.step:08d}.pth')
        return [*names, 'last.pth']

    def is_due(self, freq):
        """Whether what happens every `freq` epochs happens in this one; 0: never."""
        return bool(freq) and self.epoch % freq == 0

    def describe(self):
        """How far the run is, for run.json."""
        return {
            'epoch': self.epoch,
            'epochs': self.args.epochs,
            'best_metric': self.best_metric,
            'lower_is_better': [n for n in ('loss', *DIRECTIONS) if is_lower_better(n)],
            'best': self.best,
        }

    def state_dict(self):
        """What a checkpoint keeps of it."""
        state = {'epoch': self.epoch, 'step': self.step, 'best': self.best}
        return state | {'first_score': self.first_score}

    def load_state_dict(self, state):
        """Takes over what `state_dict` returned."""
        self.epoch, self.step, self.best = state['epoch'], state['step'], state['best']
        self.first_score = state.get('first_score', math.nan)


def select_best_metric(args, scores):
    """The score that best.pth is best in: --best_metric, or the first metric's."""
    own = [name for name in scores if not name.startswith('loss')]
    name = args.best_metric or (args.metrics[0] if args.metrics[0] in scores else [*own, 'loss'][0])
    if name not in scores:
        listed = ', '.join(name for name in scores if '/' not in name)
        near = nearest(name, scores)
        raise UserError(f"--best_metric '{name}' is not among the scores{near} ({listed})")
    return name
