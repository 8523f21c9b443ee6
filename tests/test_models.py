"""Every entry of the model registry, and how a model is run."""

from pkgutil import resolve_name

import pytest
import torch
from torch import nn

from eval import Evaluator
from loss import compute_loss
from model.base.unet import UNet
from model.model_entry import MODELS, forward_batch, probe_model, select_model
from train import Trainer
from utils.checkpoint import get_weights, load_checkpoint, save_checkpoint
from utils.torch_utils import denormalize, load_match_dict, load_strict, normalize

ENTRIES = sorted(MODELS)


def make_batch(num_samples=2, size=(64, 64)):
    generator = torch.Generator().manual_seed(0)
    return {
        'img': torch.randint(0, 256, (num_samples, 3, *size), generator=generator).to(torch.uint8),
        'label': torch.randint(0, 3, (num_samples, *size), generator=generator),
        'name': [str(i) for i in range(num_samples)],
    }


@pytest.mark.parametrize('name', ENTRIES)
def test_an_entry_builds_learns_and_comes_back_from_its_file(make_args, tmp_path, name):
    args, batch = make_args('--model_type', name), make_batch()
    model = select_model(args)
    pred = forward_batch(model, batch, args)
    assert pred.shape == (2, 3, 64, 64)
    assert pred.dtype == torch.float32
    compute_loss(pred, batch, args)['loss'].backward()
    without_grad = [n for n, p in model.named_parameters() if p.grad is None]
    assert without_grad == []
    save_checkpoint({'model': model.state_dict()}, tmp_path / 'a.pth')
    again = select_model(args)
    load_strict(again, get_weights(load_checkpoint(tmp_path / 'a.pth')))
    with torch.no_grad():
        preds = [forward_batch(m.eval(), batch, args) for m in (model, again)]
    assert torch.equal(*preds)


@pytest.mark.parametrize('name', ENTRIES)
def test_an_entry_trains_two_steps_and_is_scored(make_args, name):
    args = make_args('--model_type', name, '--epochs', 1, '--img_size', 64, 64)
    trainer = Trainer(args)
    trainer.train()
    assert trainer.num_steps == 2
    scores = Evaluator(args, trainer.model).eval(lambda *_: None)
    assert 0 <= scores['miou'] <= 1
    answer = load_checkpoint(trainer.model_dir / 'last.pth')['probe']['answer']
    assert answer.shape == (1, 3, 22, 26)  # no error: every network takes the probe
    assert torch.equal(answer, probe_model(trainer.model, args)['answer'])


@pytest.mark.parametrize(
    'change',
    [
        lambda model: setattr(model.block[0], 'padding_mode', 'reflect'),
        lambda model: setattr(model.block[1], 'eps', 1e-3),
        lambda model: model.block.append(torch.nn.Tanh()),
        lambda model: model.register_forward_hook(lambda m, i, pred: pred.flip(-1)),
    ],
    ids=['padding', 'eps', 'activation', 'mirror'],
)
def test_a_probe_sees_a_change_that_no_weight_shows(make_args, change):
    model = select_model(make_args())
    before = probe_model(model, make_args())['answer']
    change(model)
    assert (probe_model(model, make_args())['answer'] - before).abs().max() > 1e-4


def test_a_probe_sees_another_normalisation_and_another_way_to_resize(make_args, monkeypatch):
    model = select_model(make_args())
    answers = [probe_model(model, make_args())['answer']]
    with monkeypatch.context() as patch:
        patch.setattr('utils.torch_utils.MEAN', (0.5, 0.5, 0.5))
        answers.append(probe_model(model, make_args())['answer'])
    upsample = torch.nn.functional.interpolate
    nearest = lambda pred, size, **_: upsample(pred, size, mode='nearest')  # noqa: E731
    monkeypatch.setattr('model.model_entry.F.interpolate', nearest)
    answers.append(probe_model(model, make_args())['answer'])
    assert all((answer - answers[0]).abs().max() > 1e-3 for answer in answers[1:])


def test_a_model_that_draws_when_it_answers_gives_the_same_answer_to_the_probe(make_args):
    model = select_model(make_args())
    model.register_forward_hook(lambda m, i, pred: pred + torch.randn_like(pred))
    first, second = (probe_model(model, make_args())['answer'] for _ in range(2))
    assert torch.equal(first, second)


def test_base_model_has_about_a_million_parameters(make_args):
    num_parameters = sum(p.numel() for p in UNet(make_args('--num_classes', 11)).parameters())
    assert 0.7e6 < num_parameters < 1.3e6


@pytest.mark.parametrize('size', [(1, 1), (17, 31), (40, 56), (33, 16)])
def test_base_model_takes_any_size(make_args, size):
    with torch.no_grad():
        assert UNet(make_args()).eval()(torch.zeros(1, 3, *size)).shape == (1, 3, *size)


def test_the_answer_has_the_labels_size(make_args):
    args, batch = make_args(), make_batch()
    batch['label'] = torch.zeros(2, 100, 90)
    assert forward_batch(select_model(args), batch, args).shape == (2, 3, 100, 90)


@pytest.mark.parametrize('options', [['--amp', 'bf16'], ['--channels_last']])
def test_precision_and_memory_order_change_the_answer_little(make_args, options):
    batch, preds = make_batch(), []
    for more in ([], options):
        args = make_args('--model_type', 'base_model', *more)
        torch.manual_seed(0)
        with torch.no_grad():
            preds.append(forward_batch(select_model(args).eval(), batch, args))
    assert preds[1].dtype == torch.float32
    assert (preds[0] - preds[1]).abs().max() < 0.05


def test_float_images_are_taken_as_normalised_already():
    img = torch.randn(2, 3, 4, 4)
    assert normalize(img) is img


def test_normalising_gives_0_mean_images_and_can_be_undone():
    img = make_batch()['img']
    assert abs(normalize(img).mean()) < 0.3
    assert torch.equal(denormalize(normalize(img)[0]), img[0])


def test_a_broken_entry_that_was_not_chosen_does_not_matter(make_args, monkeypatch):
    monkeypatch.setitem(MODELS, 'broken', 'model.no_such_file:Nothing')
    assert isinstance(select_model(make_args()), resolve_name(MODELS['toy']))


def make_head(num_classes):
    torch.manual_seed(num_classes)
    return nn.Sequential(nn.Linear(2, 3), nn.Linear(3, num_classes))


def test_what_fits_by_name_and_shape_is_loaded_and_the_rest_is_said():
    model, source = make_head(5), make_head(4).state_dict() | {'extra': torch.zeros(1)}
    del source['0.bias']
    report = load_match_dict(model, source)
    assert torch.equal(model[0].weight, source['0.weight'])
    assert report == (
        'loaded 1 tensors, 2 (1.weight (4, 3) -> (5, 3), 1.bias (4,) -> (5,)) of another shape, '
        '1 (0.bias) missing, 1 (extra) unexpected'
    )


@pytest.mark.parametrize('prefix', ['module.', '_orig_mod.', 'module._orig_mod.'])
def test_prefixes_of_wrappers_are_taken_off(prefix):
    source = make_head(4).state_dict()
    model = make_head(4)
    wrapped = {prefix + name: value for name, value in source.items()}
    assert load_match_dict(model, wrapped).startswith('loaded 4 tensors, 0 of another shape')
    load_strict(model, wrapped)
    assert all(torch.equal(value, source[name]) for name, value in model.state_dict().items())


def test_nothing_that_matches_is_an_error_and_so_is_a_part_when_strict():
    with pytest.raises(ValueError, match='none of its 1 tensors'):
        load_match_dict(make_head(4), {'a': torch.zeros(1)})
    with pytest.raises(ValueError, match=r'1.weight \(4, 3\) -> \(5, 3\).*--load_not_strict'):
        load_strict(make_head(5), make_head(4).state_dict())


def test_a_failed_strict_load_changes_no_weight():
    model = make_head(5)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match='another model'):
        load_strict(model, make_head(4).state_dict())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
