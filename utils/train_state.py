"""TrainState: where training is, which epoch was best, and when to stop."""

import math

from metrics import LOWER_IS_BETTER
from utils.logger import get_headline


class TrainState:
    """Counts epochs and optimizer steps and keeps the best epoch."""

    def __init__(self, args):
        self.args = args
        self.best_metric = args.best_metric or args.metrics[0]
        self.epoch = self.step = 0
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
        is_best = self.is_better(score)
        if is_best:
            headline = get_headline(scores, 'val/')
            self.best = {'epoch': self.epoch, 'score': score, 'scores': headline}
        return is_best

    def is_better(self, score):
        """Whether a score is better than the best so far; nan never is."""
        if math.isnan(score) or math.isnan(self.best['score']):
            return not math.isnan(score)
        is_lower = score < self.best['score']
        return is_lower if self.best_metric in LOWER_IS_BETTER else score > self.best['score']

    def is_finished(self):
        """Whether the last epoch, or --early_stop validations without improvement, are done."""
        patience = self.args.early_stop * self.args.val_freq
        return self.epoch >= self.args.epochs or 0 < patience <= self.epoch - self.best['epoch']

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
            'lower_is_better': LOWER_IS_BETTER,
            'best': self.best,
        }

    def state_dict(self):
        """What a checkpoint keeps of it."""
        return {'epoch': self.epoch, 'step': self.step, 'best': self.best}

    def load_state_dict(self, state):
        """Takes over what `state_dict` returned."""
        self.epoch, self.step, self.best = state['epoch'], state['step'], state['best']
