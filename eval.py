"""Evaluator: the scores of a model on a list. `python eval.py --load_model_path X` evaluates X."""

import sys
from functools import partial

from options import COMPARED, get_test_args, get_test_result_dir, parse_test_args, save_args
from utils.stop import STOP

if __name__ == '__main__':
    STOP.catch_signals()
    ARGS, CHECKPOINT = get_test_args()  # before the rest is imported: --help answers at once

import torch

from data.data_entry import select_eval_loader
from loss import compute_loss
from metrics import compute_metrics, summarize
from model.model_entry import forward_batch, select_model
from utils.classes import get_class_names
from utils.errors import one_line_errors
from utils.logger import Recorder
from utils.progress import Progress
from utils.report import Report
from utils.scores import format_scores
from utils.torch_utils import repeatable_kernels, seed_step, set_up_torch, slice_batch
from utils.tracking.tracker import Tracker, run_snapshot, undo_on_error


class Evaluator:
    """Evaluates a model on --val_list, during training and from a checkpoint."""

    def __init__(self, args, model):
        self.args, self.model = args, model
        self.loader = select_eval_loader(args)
        self.class_names = get_class_names(args)

    @torch.no_grad()
    @repeatable_kernels()
    def eval(self, on_image=lambda i, pred, batch, pairs: None):
        """{name: score} over the list; calls on_image for each image, as a batch of one.

        Losses and metrics see one image at a time, so that they do not depend on --val_batch_size.
        """
        self.model.eval()
        recorder, i = Recorder(), 0
        for batch in Progress(self.loader, 'val'):
            seed_step(self.args.seed, i)  # for a model that is stochastic in evaluation
            preds = self.step(batch)
            for j in range(len(preds)):
                pred, sample = preds[j : j + 1], slice_batch(batch, j, j + 1)
                pairs = self.compute_pairs(pred, sample)
                recorder.record_all(pairs)
                sample['read_full_img'] = partial(self.loader.read_full_img, i)
                on_image(i, pred, sample, pairs)
                i += 1
        return self.summarize(recorder)

    @torch.no_grad()
    def list_scores(self):
        """The names of the scores, from the first sample: a broken metric fails at the start."""
        self.model.eval()
        batch, recorder = self.loader.read_one(), Recorder()
        recorder.record_all(self.compute_pairs(self.step(batch), batch))
        return list(self.summarize(recorder))

    def compute_pairs(self, pred, batch):
        """{name: (sum, count)} of the loss, its parts and the metrics."""
        losses = {name: (loss, 1) for name, loss in compute_loss(pred, batch, self.args).items()}
        return losses | self.compute_metrics(pred, batch)

    def step(self, batch):
        """The forward pass: pred (N,C,...)."""
        return forward_batch(self.model, batch, self.args)

    def compute_metrics(self, pred, batch):
        """{score: (sum, count)} of --metrics."""
        return compute_metrics(pred, batch, self.args)

    def summarize(self, recorder):
        """{name: score} of a recorder's sums."""
        return summarize(recorder.summary(), self.class_names)

    def viz_per_batch(self, i, pred, batch, pairs, report):
        """Adds an image to the report, with its scores; the report chooses which are drawn."""
        recorder = Recorder()
        recorder.record_all(pairs)
        report.add_image(pred, batch, self.summarize(recorder))


def main(args, checkpoint):
    """Prints what changed since training and the scores, writes a report; returns the exit code."""
    if args.use_snapshot:
        return run_snapshot(args, checkpoint)
    set_up_torch(args)
    evaluator = Evaluator(args, select_model(args, checkpoint))
    drift = Tracker(args, evaluator, COMPARED).print_drift(checkpoint)
    result_dir = get_test_result_dir(args)
    with undo_on_error(result_dir):
        report = Report(args, result_dir, evaluator, checkpoint)
        scores = evaluator.eval(lambda *image: evaluator.viz_per_batch(*image, report))
    print(f'val | {format_scores(scores)}', flush=True)  # even if the report cannot be written
    comparison = report.write(scores, drift)
    save_args(args, result_dir, parse_test_args)
    print(*comparison, f'results in {result_dir}', sep='\n')
    return drift.get_exit_code(scores, args.strict_drift)


if __name__ == '__main__':
    with one_line_errors(), STOP.with_undo():
        sys.exit(main(ARGS, CHECKPOINT))
