"""Trainer: the loop that changes weights. `python train.py --help` lists the options."""

from options import get_changed_args, get_train_args, get_train_model_dir, save_args

if __name__ == '__main__':
    ARGS = get_train_args()  # before torch is imported, so that --help answers at once

import math

import torch

from data.data_entry import select_train_loader, warn_of_overlap
from eval import Evaluator
from loss import compute_loss
from metrics import LOWER_IS_BETTER, compute_metrics
from model.model_entry import forward_batch, select_model
from utils.checkpoint import load_checkpoint
from utils.errors import one_line_errors, undo_on_error
from utils.logger import Logger, Recorder
from utils.optim import select_average, select_optimizer, select_scaler, select_scheduler
from utils.progress import Progress
from utils.provenance import describe_parent, get_provenance
from utils.report import format_scores, get_headline
from utils.run_record import RunRecord, check_unused, lock_run
from utils.sources import SNAPSHOT, read_imported, read_sources
from utils.torch_utils import seed_step, select_device, set_up_torch, split_batch, unwrap
from utils.viz import gen_imgs_to_write

MAX_PICTURES = 8  # an epoch shows so many of each list in TensorBoard


class Trainer:
    """Trains args.model_type on args.train_list and scores it on args.val_list."""

    def __init__(self, args):
        self.args, self.model_dir = args, get_train_model_dir(args)
        before = read_sources(self.model_dir / SNAPSHOT) if args.resume else {}
        sources = read_sources(others=before)  # first: what is edited from now on does not run
        set_up_torch(args)
        self.best_metric = args.best_metric or args.metrics[0]
        self.train_loader = select_train_loader(args)
        parent = load_checkpoint(args.load_model_path) if args.load_model_path else None
        self.model = select_model(args, parent)
        self.average = select_average(self.model, args)
        self.optimizer = select_optimizer(self.model, args)
        self.scheduler = select_scheduler(self.optimizer, args, len(self.train_loader))
        self.scaler = select_scaler(args, select_device(args))
        self.evaluator = Evaluator(args, self.average.module)
        warn_of_overlap(self.train_loader, self.evaluator.loader)
        self.logger = Logger(self.model_dir)
        self.epoch = self.num_steps = 0  # finished ones
        self.best = {'epoch': 0, 'score': math.nan, 'scores': {}}
        sources |= read_imported(sources)
        self.record = RunRecord(self.model_dir, self.get_provenance(parent), sources)
        if parent:
            drift = self.evaluator.compare_with(parent, sources, self.record.provenance)
            print(*drift.describe('code', 'probe'), sep='\n')
        if args.resume and (self.model_dir / 'last.pth').exists():
            self.load_state(load_checkpoint(self.model_dir / 'last.pth'))

    def train(self):
        """Trains to the last epoch, or until --early_stop; returns the best epoch and score."""
        if self.is_finished():
            self.record.mark_finished(**self.get_progress())
            print(f'{self.model_dir} is finished: {self.epoch} epochs; more --epochs go on')
            return self.best
        facts = {'args': vars(self.args), 'changed': get_changed_args(self.args)}
        with self.logger.open(self.epoch), self.record.open(**facts, **self.get_progress()):
            save_args(self.args, self.model_dir)
            self.logger.save_args(vars(self.args), ['loss', *self.args.metrics])
            while not self.is_finished():
                self.epoch += 1
                scores = self.train_per_epoch(self.epoch)
                if self.args.val_freq and self.epoch % self.args.val_freq == 0:
                    scores |= self.val_per_epoch(self.epoch)
                self.finish_epoch(scores, self.evaluator.take_probe())
        return self.best

    def train_per_epoch(self, epoch):
        """Changes the weights once a batch; returns {name: mean over the epoch}."""
        recorder = Recorder()
        self.model.train()
        self.train_loader.sampler.epoch = epoch
        title = f'epoch {epoch}/{self.args.epochs}'
        progress = Progress(self.train_loader, title, self.args.print_freq)
        for i, batch in enumerate(progress):
            seed_step(self.args.seed, self.num_steps)
            pred, losses = self.step(batch)
            self.num_steps += 1
            recorder.record_all({name: (loss, 1) for name, loss in losses.items()})
            recorder.record_all(self.compute_metrics(pred, batch))
            if progress.is_due:
                progress.show(loss=losses['loss'].item(), lr=self.scheduler.get_last_lr()[0])
            self.viz_per_batch('train', i, pred, batch)
        scores = self.evaluator.summarize(recorder)
        return {f'train/{k}': v for k, v in scores.items()} | {
            f'speed/{k}': v for k, v in progress.speed.items()
        }

    def step(self, batch):
        """One optimiser step; returns pred (N,C,...) and {name: loss or gradient norm}."""
        preds, losses = [], {}
        self.optimizer.zero_grad()
        for part, share in split_batch(batch, self.args.accum):
            pred = forward_batch(self.model, part, self.args)
            part_losses = compute_loss(pred, part, self.args)
            self.scaler.scale(part_losses['loss'] * share).backward()
            preds.append(pred.detach())
            for name, loss in part_losses.items():
                losses[name] = losses.get(name, 0) + loss.detach() * share
        self.scaler.unscale_(self.optimizer)
        max_norm = self.args.clip_grad or math.inf
        losses['grad_norm'] = torch.nn.utils.clip_grad_norm_(self.model.parameters(), max_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.scheduler.step()
        self.average.update_parameters(unwrap(self.model))
        return torch.cat(preds) if len(preds) > 1 else preds[0], losses

    def compute_metrics(self, pred, batch):
        """{name: (sum, count)} of the metrics."""
        return compute_metrics(pred, batch, self.args)

    def val_per_epoch(self, epoch):
        """{name: score} on the validation list, with pictures in TensorBoard."""
        scores = self.evaluator.eval(
            lambda i, sample, pred, _: self.viz_per_batch('val', i, pred, sample)
        )
        return {f'val/{name}': score for name, score in scores.items()}

    def viz_per_batch(self, split, i, pred, batch):
        """Sends each viz_freq-th first sample to TensorBoard."""
        if i % self.args.viz_freq == 0 and i < self.args.viz_freq * MAX_PICTURES:
            imgs = self.gen_imgs_to_write(pred, batch)
            self.logger.save_imgs(f'{split}/{i:04d}', imgs, self.epoch)

    def gen_imgs_to_write(self, pred, batch):
        """{name: picture} of the first sample."""
        return gen_imgs_to_write(pred, batch, self.args)

    def finish_epoch(self, scores, probe):
        """Writes the epoch's curves and checkpoints, and prints its scores."""
        if not math.isfinite(scores['train/loss']):
            raise FloatingPointError(
                f'the training loss of epoch {self.epoch} is {scores["train/loss"]}: lower --lr or '
                'set --clip_grad; checkpoints of earlier epochs stand'
            )
        scores['lr'] = self.optimizer.param_groups[0]['lr']
        score = scores.get(f'val/{self.best_metric}', math.nan)
        is_best = self.is_better(score)
        if is_best:
            headline = get_headline(scores, 'val/')
            self.best = {'epoch': self.epoch, 'score': score, 'scores': headline}
        self.logger.save_curves(self.epoch, scores, self.best['scores'] if is_best else {})
        names = ['last.pth'] + ['best.pth'] * is_best
        if self.args.save_freq and self.epoch % self.args.save_freq == 0:
            names.append(f'{self.epoch:04d}_{self.num_steps:08d}.pth')
        self.logger.save_checkpoint(self.get_state(scores, probe), names, self.args.keep)
        self.record.update(**self.get_progress())
        for split in ('train', 'val'):
            line = format_scores(scores, f'{split}/')
            if line:
                print(f'epoch {self.epoch}/{self.args.epochs} {split} | {line}', flush=True)

    def is_better(self, score):
        """Whether a score is better than the best so far; nan never is."""
        if math.isnan(score) or math.isnan(self.best['score']):
            return not math.isnan(score)
        lower = self.best_metric in LOWER_IS_BETTER
        return score < self.best['score'] if lower else score > self.best['score']

    def is_finished(self):
        """True after the last epoch, or when --early_stop epochs brought nothing better."""
        patience = self.args.early_stop * self.args.val_freq
        waited = self.epoch - self.best['epoch']
        return self.epoch >= self.args.epochs or 0 < patience <= waited

    def get_progress(self):
        """How far the run is, for run.json."""
        return {
            'epoch': self.epoch,
            'epochs': self.args.epochs,
            'best_metric': self.best_metric,
            'lower_is_better': LOWER_IS_BETTER,
            'best': self.best,
        }

    def get_provenance(self, parent):
        """How this run comes about; `parent` is the checkpoint that it starts from, or None."""
        datasets = {
            'train': (self.args.train_list, self.train_loader.samples),
            'val': (self.args.val_list, self.evaluator.loader.samples),
        }
        return get_provenance(
            datasets, describe_parent(self.args.load_model_path, parent) if parent else None
        )

    def get_state(self, scores, probe):
        """The dict that a checkpoint holds: tensors and plain types only."""
        return {
            'model': unwrap(self.model).state_dict(),
            'ema': self.average.module.state_dict(),  # without --ema the same tensors, stored once
            'optimizer': self.optimizer.state_dict(),
            'scheduler': self.scheduler.state_dict(),
            'scaler': self.scaler.state_dict(),
            'epoch': self.epoch,
            'step': self.num_steps,
            'best': self.best,
            'args': vars(self.args),
            'metrics': scores,
            'provenance': self.record.provenance,
            'code': self.record.sources,
            'probe': probe,
        }

    def load_state(self, state):
        """Takes up a checkpoint's state, to go on after its epoch."""
        unwrap(self.model).load_state_dict(state['model'])
        self.average.module.load_state_dict(state['ema'])
        self.average.n_averaged.fill_(state['step'])
        self.optimizer.load_state_dict(state['optimizer'])
        self.scheduler.load_state_dict(state['scheduler'])
        self.scaler.load_state_dict(state['scaler'])
        self.epoch, self.num_steps, self.best = state['epoch'], state['step'], state['best']
        drift = self.evaluator.compare_with(state, self.record.sources, self.record.provenance)
        self.record.continue_from(state, drift.describe())
        print(*drift.describe(), sep='\n')
        self.args.load_model_path = state['args']['load_model_path']  # args.txt keeps the start


def main(args):
    """Trains; says which epoch was best and how to look at the run."""
    model_dir = get_train_model_dir(args)
    is_new = not model_dir.exists()
    with lock_run(model_dir), undo_on_error(model_dir, is_new):
        if not (args.resume or args.overwrite):
            check_unused(model_dir)
        trainer = Trainer(args)
        best = trainer.train()
    if best['epoch']:
        print(f'best: epoch {best["epoch"]}, val {trainer.best_metric} {best["score"]:.4f}')


if __name__ == '__main__':
    with one_line_errors('stopped; --resume goes on from the last finished epoch'):
        main(ARGS)
