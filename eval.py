"""Evaluator: the only loop without gradients. `python eval.py --load_model_path X` scores X."""

import sys
from pathlib import Path

from options import get_inherited, get_test_args, get_test_result_dir, parse_test_args, save_args

if __name__ == '__main__':
    ARGS = get_test_args()  # before torch is imported, so that --help answers at once

import torch

from data.data_entry import select_eval_loader
from data.list_file import ListFile
from loss import compute_loss
from metrics import compute_metrics, summarize
from model.model_entry import forward_batch, probe_model, select_model
from utils.arg_parser import Parser
from utils.checkpoint import load_checkpoint
from utils.classes import get_class_names
from utils.drift import advise_snapshot, find_drift
from utils.errors import UserError, one_line, one_line_errors, undo_on_error
from utils.logger import Recorder
from utils.progress import Progress
from utils.provenance import digest_sample, get_provenance
from utils.report import Report, format_scores
from utils.sources import read_imported, read_sources, run_snapshot
from utils.torch_utils import repeatable_kernels, seed_step, set_up_torch, slice_batch
from utils.viz import gen_imgs_to_write


class Evaluator:
    """Scores a model on args.val_list: during training, and on a checkpoint."""

    def __init__(self, args, model):
        self.args, self.model = args, model
        self.loader = select_eval_loader(args)
        self.class_names = get_class_names(args)
        self.data_probe = self.probe_data()

    @torch.no_grad()
    @repeatable_kernels()
    def eval(self, on_image):
        """{name: score} over the list; calls on_image(i, sample, pred, pairs) for each image.

        `sample` and `pred` are a batch of one. Images are scored one by one, so that the numbers
        do not depend on --val_batch_size.
        """
        self.model.eval()
        recorder, i = Recorder(), 0
        for batch in Progress(self.loader, 'val', self.args.print_freq):
            seed_step(self.args.seed, i)  # for a model that draws when it is scored
            preds = self.step(batch)
            for j in range(len(preds)):
                sample, pred = slice_batch(batch, j, j + 1), preds[j : j + 1]
                pairs = self.compute_metrics(pred, sample)
                recorder.record_all(pairs)
                on_image(i, sample, pred, pairs)
                i += 1
        return self.summarize(recorder)

    def step(self, batch):
        """The model's answer to a batch."""
        return forward_batch(self.model, batch, self.args)

    def compute_metrics(self, pred, batch):
        """{name: (sum, count)} of the losses and metrics."""
        losses = compute_loss(pred, batch, self.args)
        return {name: (loss, 1) for name, loss in losses.items()} | compute_metrics(
            pred, batch, self.args
        )

    def summarize(self, recorder):
        """{name: score} of what a recorder holds."""
        return summarize(recorder.summary(), self.class_names)

    def gen_imgs_to_write(self, pred, batch):
        """{name: picture} of the first sample."""
        return gen_imgs_to_write(pred, batch, self.args)

    def probe_data(self):
        """{'rows': (N,2) checksum and bytes of each row, 'sample': digest of the first sample}."""
        files = getattr(self.loader.samples, 'files', None)
        is_list = isinstance(files, ListFile)
        return {
            'rows': torch.from_numpy(files.checksum_rows()) if is_list else torch.empty(0, 2),
            'sample': digest_sample(self.loader.dataset[0, 0]),
        }

    def take_probe(self):
        """What a checkpoint keeps so that a change of the code's behaviour is noticed."""
        return probe_model(self.model, self.args) | self.data_probe

    def compare_with(self, checkpoint, sources, provenance):
        """The Drift between the checkpoint, loaded into the model, and what runs now."""
        fast_dev_run = {'fast_dev_run': self.args.fast_dev_run}  # not inherited, but it counts
        now = {
            'args': get_inherited(vars(self.args)) | fast_dev_run,
            'provenance': provenance,
            'code': sources,
            'probe': self.take_probe(),
        }
        if self.args.load_model_path and self.args.load_not_strict:
            now['probe']['answer'] = None  # weights may be missing: no answer to compare
        return find_drift(checkpoint, now)

    def eval_into(self, report):
        """{name: score} over the list; `report` gets each image's scores and some pictures."""

        def on_image(i, sample, pred, pairs):
            recorder = Recorder()
            recorder.record_all(pairs)
            report.add_image(sample['name'][0], self.summarize(recorder))
            if self.args.save_viz and i % self.args.viz_freq == 0:
                report.add_panel(sample['name'][0], self.gen_imgs_to_write(pred, sample))

        return self.eval(on_image)


def main(args):
    """Says what changed since training, the scores and where the rest is; returns the exit code."""
    checkpoint = load_checkpoint(args.load_model_path)
    if args.use_snapshot:
        return evaluate_with_snapshot(args.load_model_path, checkpoint)
    # First: what is edited from now on does not run.
    sources = read_sources(others=checkpoint.get('code', ()))
    set_up_torch(args)
    evaluator = Evaluator(args, load_model(args, checkpoint, sources))
    sources |= read_imported(sources)
    provenance = get_provenance({'val': (args.val_list, evaluator.loader.samples)})
    drift = evaluator.compare_with(checkpoint, sources, provenance)
    print(*drift.describe(), sep='\n', flush=True)
    result_dir = get_test_result_dir(args)
    with undo_on_error(result_dir, is_new=not result_dir.exists()):
        report = Report(args, result_dir)
        scores = evaluator.eval_into(report)
    comparison, has_drifted = drift.compare_scores(scores)
    report.write(scores, [*drift.describe(), *comparison])
    report.add_result(scores, drift)
    save_args(args, result_dir, parse_test_args)
    print(f'val | {format_scores(scores)}', *comparison, f'results in {result_dir}', sep='\n')
    if args.strict_drift and has_drifted:
        reasons = ', '.join(drift.changes) or 'nothing that is recorded'
        print(f'--strict_drift: scores may have drifted; changed: {reasons}', file=sys.stderr)
        return 3
    return 0


def load_model(args, checkpoint, sources):
    """The model with the checkpoint's weights; an error names the code that has changed since."""
    try:
        return select_model(args, checkpoint)
    except (UserError, ImportError, AttributeError, TypeError) as error:
        advice = advise_snapshot(checkpoint, sources)
        if not advice:
            raise
        kind = '' if isinstance(error, UserError) else f'{type(error).__name__}: '
        raise UserError(f'{kind}{one_line(error)}{advice}') from error


def evaluate_with_snapshot(path, checkpoint):
    """Runs the same command with the code that made the checkpoint; returns its exit code."""
    if 'code' not in checkpoint:
        raise UserError(f'checkpoint {path} holds no code for --use_snapshot')
    argv = [word for word in Parser().expand(sys.argv[1:]) if word != '--use_snapshot']
    return run_snapshot('eval.py', checkpoint['code'], Path(path).parent, argv)


if __name__ == '__main__':
    with one_line_errors():
        sys.exit(main(ARGS))
