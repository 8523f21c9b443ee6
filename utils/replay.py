"""--replay EPOCH BATCH: one batch of a run again, just as training ran it; writes nothing."""

from utils.errors import UserError
from utils.torch_utils import seed_step

MOST = 10  # gradient norms that are printed


def replay(trainer, epoch, number):
    """Trains from the checkpoint that was loaded to the batch; returns lines with its files, its
    losses and the gradient norms of the largest tensors, before clipping.
    """
    loader, state = trainer.train_loader, trainer.state
    if number > len(loader) or epoch > trainer.args.epochs:
        size = f'{trainer.args.epochs} epochs of {len(loader)} batches'
        raise UserError(f'--replay {epoch} {number}: the run has {size}')
    trainer.model.train()
    while True:
        loader.start_at(state.epoch + 1, state.batch)
        for batch in loader:
            seed_step(trainer.args.seed, state.step)
            if (state.epoch + 1, state.batch + 1) == (epoch, number):
                return describe_batch(trainer, batch)
            trainer.update(batch)
            state.count_step()
        state.epoch, state.batch = state.epoch + 1, 0


def describe_batch(trainer, batch):
    """Lines about one batch that is run forward and backward; infinite gradients come first."""
    trainer.args.clip_grad = 0  # the norms before clipping, which would spread a nan to all
    _, losses = trainer.compute_gradients(batch)
    values = ', '.join(f'{name} {loss.item():.6g}' for name, loss in losses.items())
    lines = [f'files: {" ".join(batch["name"])}', f'losses: {values}']
    named = [(n, p) for n, p in trainer.model.named_parameters() if p.grad is not None]
    named.sort(key=lambda pair: (bool(pair[1].grad.isfinite().all()), -pair[1].numel()))
    for name, weight in named[:MOST]:
        norms = f'gradient norm {weight.grad.norm().item():.4g}, norm {weight.norm().item():.4g}'
        lines.append(f'{name} {tuple(weight.shape)}: {norms}')
    return lines
