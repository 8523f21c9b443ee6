"""Trainer: the loop that changes weights. `python train.py --help` lists the options."""

from options import COMPARED, RESUMED, get_train_args, get_train_model_dir, save_args
from utils.stop import STOP, check_finite, keep_epoch

if __name__ == '__main__':
    STOP.catch_signals()
    ARGS = get_train_args()  # before the rest is imported, so that --help answers at once

import torch

from data.check import check_data
from data.data_entry import select_train_loader
from eval import Evaluator
from loss import compute_loss
from metrics import compute_metrics
from model.model_entry import forward_batch, select_model
from utils.checkpoint import load_checkpoint
from utils.console import TRAIN_LOG, Console
from utils.errors import one_line_errors
from utils.logger import Logger
from utils.optim import Ema, clip_gradients, select_optimizer, select_scaler, select_scheduler
from utils.replay import replay
from utils.resume import find_newest, get_state, load_state
from utils.torch_utils import seed_step, set_up_torch, split_batch
from utils.tracking.tracker import Tracker, claim_run
from utils.train_state import TrainState, is_due
from utils.viz import MAX_PICTURES, gen_imgs_to_write
from utils.weights import unwrap


class Trainer:
    """Trains --model_type on --train_list and validates it on --val_list."""

    def __init__(self, args):
        set_up_torch(args)
        self.args, self.model_dir = args, get_train_model_dir(args)
        resumed = find_newest(args, self.model_dir, RESUMED)
        self.train_loader = select_train_loader(args)
        initial = load_checkpoint(args.load_model_path) if args.load_model_path else None
        self.model = select_model(args, initial)
        self.ema, self.scaler = Ema(unwrap(self.model), args.ema), select_scaler(args)
        self.optimizer = select_optimizer(self.model, args)
        self.scheduler = select_scheduler(self.optimizer, args, len(self.train_loader))
        self.evaluator = Evaluator(args, self.ema.module)
        check_data(args, self.train_loader.samples, self.evaluator.loader.samples)
        self.state = TrainState(args, self.evaluator.list_scores())
        self.logger = Logger(self.model_dir, self.evaluator.class_names)
        self.console = Console(args, self.model_dir)
        self.tracker = Tracker(args, self.evaluator, COMPARED, self.train_loader, initial)
        if resumed:
            load_state(self, resumed)

    def train(self):
        """Trains to the last epoch, or until --early_stop; returns lines that say how it ended."""
        if self.state.is_finished():
            self.tracker.mark_finished(self.state)
            return self.console.list_footer(self.state)
        with self.tracker.open(self.state), self.logger.open(self.state.epoch), STOP.after_step():
            changed = save_args(self.args, self.model_dir)
            self.console.print_header(self, changed)
            if not self.state.step:
                self.logger.save_args(vars(self.args))
                self.save()  # a full disk is noticed before the first step
            while not self.state.is_finished():
                epoch = self.state.epoch + 1
                self.train_per_epoch(epoch)
                if is_due(epoch, self.args.val_freq):
                    self.val_per_epoch(epoch)
                self.finish_epoch(epoch)
        return self.console.list_footer(self.state)

    def train_per_epoch(self, epoch):
        """One optimizer step per batch; records losses, metrics, learning rate and speed."""
        self.model.train()
        self.train_loader.start_at(epoch, self.state.batch)
        progress = self.console.follow(self.train_loader, epoch, self.state.batch)
        for i, batch in enumerate(progress, self.state.batch):
            seed_step(self.args.seed, self.state.step)
            lr = self.scheduler.get_last_lr()[0]
            pred, losses = self.update(batch)
            self.state.count_step()
            self.logger.record_scalars('train', losses | self.compute_metrics(pred, batch))
            if progress.is_due:
                progress.show(loss=losses['loss'].item(), lr=lr)
            for sample in self.train_loader.pick_samples(i, pred, batch, self.args.viz_freq):
                self.viz_per_batch(*sample, split='train')
            self.logger.record_scalar('lr', lr)
            self.logger.record_scalars('speed', progress.measure())
            if is_due(self.state.step, self.args.save_steps):
                self.save()
            STOP.end_if_asked(self.save)

    def update(self, batch):
        """One optimizer step; returns pred (N,C,...) and {name: loss or gradient norm}."""
        pred, losses = self.compute_gradients(batch)
        losses = check_finite(losses, batch, self.state, self.scaler)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.scheduler.step()
        self.ema.update_parameters(unwrap(self.model))
        return pred, losses

    def compute_gradients(self, batch):
        """Forward and backward pass of each micro-batch; returns the same as `update`."""
        preds, losses = [], {}
        self.optimizer.zero_grad()
        for part, share in split_batch(batch, self.args.accum):
            pred = self.step(part)
            part_losses = compute_loss(pred, part, self.args)
            self.scaler.scale(part_losses['loss'] * share).backward()
            preds.append(pred.detach())
            for name, loss in part_losses.items():
                losses[name] = losses.get(name, 0) + loss.detach() * share
        self.scaler.unscale_(self.optimizer)
        losses['grad_norm'] = clip_gradients(self.model, self.args.clip_grad)
        return torch.cat(preds) if len(preds) > 1 else preds[0], losses

    def step(self, batch):
        """The forward pass: pred (N,C,...)."""
        return forward_batch(self.model, batch, self.args)

    def compute_metrics(self, pred, batch):
        """{score: (sum, count)} of --metrics."""
        return compute_metrics(pred, batch, self.args)

    def val_per_epoch(self, epoch):
        """Records the scores on the validation list, and shows pictures."""

        def on_image(*image):
            self.viz_per_batch(*image)
            STOP.end_if_asked(self.save)

        with keep_epoch(self.save):
            self.logger.record_scores('val', self.evaluator.eval(on_image))

    def viz_per_batch(self, i, pred, batch, pairs=None, split='val'):
        """Sends every viz_freq-th sample of a list to TensorBoard, the same ones each epoch."""
        if i % self.args.viz_freq == 0 and i < self.args.viz_freq * MAX_PICTURES:
            imgs = gen_imgs_to_write(pred, batch, self.args)
            self.logger.save_imgs(f'{split}/{i:04d}', imgs, self.state.epoch + 1, batch['name'][0])

    def finish_epoch(self, epoch):
        """Writes the epoch's curves and checkpoints, and prints its scores."""
        scores = self.logger.save_curves(epoch)
        if self.state.finish_epoch(scores):
            self.logger.save_best(epoch, self.state.best['scores'])
        self.save(self.state.list_checkpoints(), scores)
        self.console.print_epoch(epoch, scores)

    def save(self, names=('last.pth',), scores=None):
        """Writes a checkpoint under each name; within an epoch it has no scores."""
        with self.tracker.saving(self.state, names):
            self.logger.save_checkpoint(get_state(self, scores or {}), names)


def main(args):
    """Trains, or runs the batch of --replay; says how it ended."""
    with claim_run(args), STOP.with_undo(), TRAIN_LOG.record():
        trainer = Trainer(args)
        lines = replay(trainer, *args.replay) if args.replay else trainer.train()
        print(*lines, sep='\n')


if __name__ == '__main__':
    with one_line_errors():
        main(ARGS)
