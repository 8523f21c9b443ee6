"""Trainer: the loop that changes weights. `python train.py --help` lists the options."""

from options import COMPARED, get_train_args, get_train_model_dir, save_args

if __name__ == '__main__':
    ARGS = get_train_args()  # before the rest is imported, so that --help answers at once

import math

import torch

from data.check import check_data
from data.data_entry import select_train_loader
from eval import Evaluator
from loss import compute_loss
from metrics import compute_metrics
from model.model_entry import forward_batch, select_model
from utils.checkpoint import load_checkpoint, unwrap
from utils.errors import one_line_errors
from utils.logger import Logger, print_epoch
from utils.optim import select_average, select_optimizer, select_scaler, select_scheduler
from utils.progress import Progress
from utils.torch_utils import seed_step, set_up_torch, split_batch
from utils.tracking.tracker import Tracker, claim_run
from utils.train_state import TrainState
from utils.viz import gen_imgs_to_write

MAX_PICTURES = 8  # per epoch and list in TensorBoard
STATEFUL = ('optimizer', 'scheduler', 'scaler')  # what a checkpoint keeps beside the weights


class Trainer:
    """Trains args.model_type on args.train_list and validates it on args.val_list."""

    def __init__(self, args):
        set_up_torch(args)
        self.args, self.model_dir = args, get_train_model_dir(args)
        self.train_loader = select_train_loader(args)
        parent = load_checkpoint(args.load_model_path) if args.load_model_path else None
        self.model = select_model(args, parent)
        self.average = select_average(self.model, args)
        self.optimizer = select_optimizer(self.model, args)
        self.scheduler = select_scheduler(self.optimizer, args, len(self.train_loader))
        self.scaler = select_scaler(args)
        self.evaluator = Evaluator(args, self.average.module)
        check_data(args, self.train_loader.samples, self.evaluator.loader.samples)
        self.state = TrainState(args, self.evaluator.list_scores())
        self.logger = Logger(self.model_dir, self.evaluator.class_names)
        self.tracker = Tracker(args, self.evaluator, COMPARED, self.train_loader, parent)
        if args.resume and self.logger.run_dir.last.exists():
            self.load_state(load_checkpoint(self.logger.run_dir.last))

    def train(self):
        """Trains to the last epoch, or until --early_stop; returns the best epoch and score."""
        if self.state.is_finished():
            return self.state.best
        with self.tracker.open(self.state), self.logger.open(self.state.epoch):
            save_args(self.args, self.model_dir)
            self.logger.save_args(vars(self.args), ['loss', *self.args.metrics])
            while not self.state.is_finished():
                epoch = self.state.epoch + 1
                self.train_per_epoch(epoch)
                if self.args.val_freq and epoch % self.args.val_freq == 0:
                    self.val_per_epoch(epoch)
                self.finish_epoch(epoch)
        return self.state.best

    def train_per_epoch(self, epoch):
        """Changes the weights once per batch and records losses, metrics and speed."""
        self.model.train()
        self.train_loader.sampler.epoch = epoch
        title = f'epoch {epoch}/{self.args.epochs}'
        progress = Progress(self.train_loader, title, self.args.print_freq)
        for i, batch in enumerate(progress):
            seed_step(self.args.seed, self.state.step)
            pred, losses = self.update(batch)
            self.state.step += 1
            self.logger.record_scalars('train', losses)
            for name, pair in self.compute_metrics(pred, batch).items():
                self.logger.record_scalar(f'train/{name}', *pair)
            if progress.is_due:
                progress.show(loss=losses['loss'].item(), lr=self.scheduler.get_last_lr()[0])
            self.viz_per_batch(i, pred, batch, split='train')
        self.logger.record_scalars('speed', progress.speed)

    def update(self, batch):
        """One optimizer step; returns pred (N,C,...) and {name: loss or gradient norm}."""
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
        max_norm = self.args.clip_grad or math.inf
        losses['grad_norm'] = torch.nn.utils.clip_grad_norm_(self.model.parameters(), max_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.scheduler.step()
        self.average.update_parameters(unwrap(self.model))
        return torch.cat(preds) if len(preds) > 1 else preds[0], losses

    def step(self, batch):
        """The model's output for a batch."""
        return forward_batch(self.model, batch, self.args)

    def compute_metrics(self, pred, batch):
        """{name: (sum, count)} of the metrics."""
        return compute_metrics(pred, batch, self.args)

    def val_per_epoch(self, epoch):
        """Records the scores on the validation list, and shows pictures."""
        scores = self.evaluator.eval(self.viz_per_batch)
        self.logger.record_scalars('val', scores)

    def viz_per_batch(self, i, pred, batch, pairs=None, split='val'):
        """Sends the first sample of every viz_freq-th batch to TensorBoard."""
        if i % self.args.viz_freq == 0 and i < self.args.viz_freq * MAX_PICTURES:
            imgs = gen_imgs_to_write(pred, batch, self.args)
            self.logger.save_imgs(f'{split}/{i:04d}', imgs, self.state.epoch + 1)

    def finish_epoch(self, epoch):
        """Writes the epoch's curves and checkpoints, and prints its scores."""
        self.logger.record_scalar('lr', self.optimizer.param_groups[0]['lr'])
        scores, self.state.epoch = self.logger.save_curves(epoch), epoch
        if self.state.update_best(scores):
            self.logger.save_best(epoch, self.state.best['scores'])
        names = self.state.list_checkpoints()
        self.logger.save_checkpoint(self.get_state(scores), names, self.args.keep)
        self.tracker.update(self.state)
        print_epoch(f'epoch {epoch}/{self.args.epochs}', scores)

    def get_state(self, scores):
        """The dict that a checkpoint holds: tensors and plain types only."""
        return {
            'model': unwrap(self.model).state_dict(),
            'ema': self.average.module.state_dict(),  # without --ema the same tensors, stored once
            **{name: getattr(self, name).state_dict() for name in STATEFUL},
            'args': vars(self.args),
            'metrics': scores,
            **self.state.state_dict(),
            **self.tracker.get_state(),
        }

    def load_state(self, checkpoint):
        """Restores a checkpoint, to continue after its epoch."""
        unwrap(self.model).load_state_dict(checkpoint['model'])
        self.average.module.load_state_dict(checkpoint['ema'])
        self.average.n_averaged.fill_(checkpoint['step'])
        for name in STATEFUL:
            getattr(self, name).load_state_dict(checkpoint[name])
        self.state.load_state_dict(checkpoint)
        self.tracker.continue_from(checkpoint, self.state)
        self.args.load_model_path = checkpoint['args']['load_model_path']  # for args.txt


def main(args):
    """Trains; says which epoch was best."""
    with claim_run(args):
        trainer = Trainer(args)
        trainer.train()
    print(*trainer.state.list_results(), sep='\n')


if __name__ == '__main__':
    with one_line_errors('stopped; --resume continues from the last finished epoch'):
        main(ARGS)
