"""Losses against formulas written out."""

from argparse import Namespace

import pytest
import torch
import torch.nn.functional as F

from loss import LOSSES, compute_loss, cut_strips
from utils.errors import UserError

WEIGHTS = [1.0, 2.0, 0.5]


def make_namespace(loss, **changes):
    return Namespace(
        **{'loss': loss, 'num_classes': 3, 'ignore_index': 255, 'class_weights': None} | changes
    )


@pytest.fixture
def sample():
    """Logits (2,3,4,5) that require a gradient, and a batch with some ignored pixels."""
    generator = torch.Generator().manual_seed(0)
    pred = torch.randn(2, 3, 4, 5, generator=generator, requires_grad=True)
    label = torch.randint(0, 3, (2, 4, 5), generator=generator).to(torch.uint8)
    label[0, :2] = 255
    return pred, {'label': label}


def test_ce_is_the_mean_over_the_valid_pixels(sample):
    pred, batch = sample
    log_probs = pred.log_softmax(1).movedim(1, -1)[batch['label'] != 255]
    label = batch['label'][batch['label'] != 255].long()
    by_hand = -sum(row[c] for row, c in zip(log_probs, label, strict=True)) / len(label)
    assert compute_loss(pred, batch, make_namespace('ce'))['loss'].item() == pytest.approx(
        by_hand.item(), abs=1e-6
    )


@pytest.mark.parametrize(
    ('name', 'weights'),
    [('ce', None), ('ce', WEIGHTS), ('dice', None), ('ce_dice', None), ('ce_dice', WEIGHTS)],
)
def test_a_large_map_is_worked_on_in_strips_with_the_same_result(
    sample, monkeypatch, name, weights
):
    pred, batch = sample
    args = make_namespace(name, class_weights=weights)
    whole = compute_loss(pred, batch, args)['loss']
    monkeypatch.setattr('loss.STRIP', 2 * 3 * 5 * 2)  # two rows of five
    assert [len(strip[0][0, 0]) for strip in cut_strips(pred, batch['label'])] == [2, 2]
    strips = compute_loss(pred, batch, args)['loss']
    assert strips.item() == pytest.approx(whole.item(), abs=1e-6)
    gradients = [torch.autograd.grad(loss, pred)[0] for loss in (whole, strips)]
    assert torch.allclose(*gradients, atol=1e-6)


def test_class_weights_weigh_as_torch_does(sample):
    pred, batch = sample
    weights = [0.5, 2.0, 1.0]
    torch_ce = F.cross_entropy(pred, batch['label'].long(), torch.tensor(weights), ignore_index=255)
    loss = compute_loss(pred, batch, make_namespace('ce', class_weights=weights))['loss']
    assert loss.item() == pytest.approx(torch_ce.item(), abs=1e-6)


def test_dice_is_0_for_a_sure_and_right_prediction_and_near_1_for_a_wrong_one(sample):
    _, batch = sample
    right = F.one_hot(batch['label'].long() % 255, 3).movedim(-1, 1) * 50.0
    assert compute_loss(right, batch, make_namespace('dice'))['loss'].item() == pytest.approx(
        0, abs=1e-4
    )
    assert compute_loss(right.roll(1, 1), batch, make_namespace('dice'))['loss'].item() > 0.99


def test_ce_dice_is_the_sum_of_its_named_parts(sample):
    losses = compute_loss(*sample, make_namespace('ce_dice'))
    assert set(losses) == {'loss', 'loss_ce', 'loss_dice'}
    assert losses['loss'].item() == pytest.approx(
        losses['loss_ce'].item() + losses['loss_dice'].item()
    )


@pytest.mark.parametrize('name', ['ce', 'dice', 'ce_dice'])
def test_ignored_pixels_have_no_gradient_and_ignored_images_a_loss_of_0(sample, name):
    pred, batch = sample
    compute_loss(pred, batch, make_namespace(name))['loss'].backward()
    assert pred.grad[0, :, :2].abs().max() == 0
    assert pred.grad[0, :, 2:].abs().max() > 0
    ignored = {'label': torch.full_like(batch['label'], 255)}
    assert compute_loss(pred, ignored, make_namespace(name))['loss'].item() == 0


@pytest.mark.parametrize(('name', 'expected'), [('l1', 1.5), ('mse', 2.5)])
def test_regression_losses(name, expected):
    pred, batch = torch.tensor([[1.0, 2.0]]), {'label': torch.tensor([[0, 4]])}
    assert compute_loss(pred, batch, make_namespace(name))['loss'].item() == expected


@pytest.mark.parametrize('losses', [torch.tensor(1.0), {'x': torch.tensor(1.0)}, {'loss': 1.0}])
def test_a_loss_that_returns_something_else_is_one_line(sample, monkeypatch, losses):
    monkeypatch.setitem(LOSSES, 'bad', lambda pred, batch, args: losses)
    with pytest.raises(UserError, match="--loss bad: expected {'loss'"):
        compute_loss(*sample, make_namespace('bad'))


@pytest.mark.parametrize(
    ('ignore_index', 'expected'),
    [(255, 126.0), (0, 251.0)],  # |1 - 0|, |4 - 255|, nan: by default 255 is a number
)
def test_float_labels_leave_out_nan_and_an_ignore_index_other_than_255(ignore_index, expected):
    pred = torch.tensor([[1.0, 4.0, 7.0]])
    batch = {'label': torch.tensor([[0.0, 255.0, torch.nan]])}
    args = make_namespace('l1', ignore_index=ignore_index)
    assert compute_loss(pred, batch, args)['loss'].item() == expected


@pytest.mark.parametrize('name', ['l1', 'mse'])
def test_regression_on_class_indices_says_that_shapes_differ(sample, name):
    with pytest.raises(UserError, match=r'\(2, 3, 4, 5\).*\(2, 4, 5\)'):
        compute_loss(*sample, make_namespace(name))


def make_tasks(num_classes):
    """{task: (pred, batch)} with two samples each: what an entry of a registry may be made for."""
    logits, index = torch.randn(2, num_classes, 4, 5), torch.arange(40).view(2, 4, 5)
    pairs = {
        'segmentation': (logits, index % num_classes),
        'classification': (logits[..., 0, 0], torch.tensor([0, num_classes - 1])),
        'regression': (logits, torch.rand(2, num_classes, 4, 5)),
        'numbers': (logits[..., 0, 0], torch.rand(2, num_classes)),
        'one logit': (logits[:, :1], index % 2),
        'depth': (logits[:, :1], torch.rand(2, 4, 5)),
    }
    img = torch.zeros(2, 3, 4, 5, dtype=torch.uint8)
    return {
        task: (pred.requires_grad_(), {'img': img, 'label': label, 'name': ['a', 'b']})
        for task, (pred, label) in pairs.items()
    }


OTHER_TASK = (ValueError, RuntimeError, IndexError, KeyError)  # what an entry raises for it


@pytest.mark.parametrize('name', LOSSES)
def test_an_entry_gives_a_finite_scalar_and_a_gradient_for_its_task(make_args, name):
    args, num_fitting = make_args('--loss', name), 0
    for pred, batch in make_tasks(3).values():
        args.num_classes = pred.shape[1]
        try:
            losses = compute_loss(pred, batch, args)
        except OTHER_TASK:
            continue
        if all(loss.isfinite() for loss in losses.values()):
            num_fitting += 1
            assert all(loss.shape == () for loss in losses.values())
            (gradient,) = torch.autograd.grad(losses['loss'], pred)
            assert gradient.isfinite().all()
    if not num_fitting:
        pytest.skip(f'{name} fits none of the tasks {", ".join(make_tasks(3))}')


@pytest.mark.parametrize('loss', ['dice', 'bce', 'l1', 'mse'])
def test_class_weights_that_a_loss_does_not_use_are_refused(loss):
    with pytest.raises(UserError, match=f'--class_weights.*{loss}'):
        compute_loss(None, None, Namespace(loss=loss, class_weights=[1.0, 2.0]))


@pytest.mark.parametrize('loss', ['ce', 'dice'])
def test_labels_that_are_no_class_indices_are_one_line(sample, loss):
    label = torch.zeros(2, 3, dtype=torch.long)  # a vector each: the classes of several labels
    with pytest.raises(UserError, match=r'class indices \(N,...\) .* got \(2, 3\)'):
        compute_loss(sample[0], {'label': label}, make_namespace(loss))
