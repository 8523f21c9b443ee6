"""Every entry of the model registry, and how a model is run."""

import os
import shutil
from pkgutil import resolve_name

import pytest
import torch
from conftest import ToyNet, train
from torch import nn
from torch.utils.data import Dataset

from data.data_entry import DATASETS
from eval import Evaluator
from model.base.unet import UNet
from model.model_entry import MODELS, equip_multi_gpu, forward_batch, select_model
from model.submodules import TorchvisionSegmenter
from options import get_test_args
from train import Trainer
from utils.checkpoint import load_checkpoint
from utils.errors import UserError
from utils.torch_utils import denormalize, normalize
from utils.tracking.probe import gen_probe_batch, probe_model
from utils.weights import load_match_dict, load_strict, unwrap

# Each entry of the registry; all but the small one take more than 3 s.
ENTRIES = [
    pytest.param(name, marks=() if name == 'base_model' else pytest.mark.slow) for name in MODELS
]


def make_batch(num_samples=2, size=(64, 64)):
    generator = torch.Generator().manual_seed(0)
    return {
        'img': torch.randint(0, 256, (num_samples, 3, *size), generator=generator).to(torch.uint8),
        'label': torch.randint(0, 3, (num_samples, *size), generator=generator),
        'name': [str(i) for i in range(num_samples)],
    }


class FittingSet(Dataset):
    """Images and class indices of the shapes that a model of any task takes and returns."""

    def __init__(self, args, list_path, is_train):
        self.args = args

    def __len__(self):
        return 8

    def __getitem__(self, i):
        generator = torch.Generator().manual_seed(i)
        img = torch.randint(256, (3, *self.args.img_size), generator=generator).to(torch.uint8)
        label = torch.randint(self.args.num_classes, self.args.label_size, generator=generator)
        return {'img': img, 'label': label, 'name': f'{i}.png'}


def make_fitting_args(make_args, name):
    """Args for an entry of any task, with the input's and the label's size and the channels that
    it has.
    """
    for side in (64, 224):  # the second one for a network of one fixed size
        options = ['--data_type', 'fitting', '--loss', 'ce', '--metrics', 'acc', '--epochs', 1]
        args = make_args('--model_type', name, *options, '--img_size', side, side)
        try:
            with torch.no_grad():
                pred = resolve_name(MODELS[name])(args).eval()(torch.zeros(1, 3, side, side))
            args.num_classes, args.label_size = pred.shape[1], tuple(pred.shape[2:])
            return args
        except (AssertionError, RuntimeError, ValueError) as failure:
            error = failure
    raise error


@pytest.mark.parametrize('name', ENTRIES)
def test_an_entry_learns_and_comes_back_from_its_checkpoint(make_args, monkeypatch, name):
    monkeypatch.setitem(DATASETS, 'fitting', 'test_models:FittingSet')
    args = make_fitting_args(make_args, name)
    trainer = train(args)
    assert trainer.state.step == 2
    weights = trainer.model.named_parameters()
    assert [n for n, p in weights if p.requires_grad and p.grad is None] == []
    args.load_model_path = str(trainer.model_dir / 'last.pth')
    checkpoint = load_checkpoint(args.load_model_path)
    evaluator = Evaluator(args, select_model(args, checkpoint))
    score = evaluator.eval()['acc']
    assert 0 <= score <= 1
    assert checkpoint['metrics']['val/acc'] == pytest.approx(score, abs=1e-6)
    stored, current = checkpoint['probe']['answer'], probe(evaluator.model, args)
    if isinstance(unwrap(evaluator.model), UNet | TorchvisionSegmenter):
        assert stored.shape == (1, 3, 22, 26)
    assert stored == current if isinstance(stored, str) else torch.equal(stored, current)


def probe(model, args):
    """The output for the probe, or the error in a line."""
    model.eval()
    step = lambda batch: forward_batch(model, batch, args)  # noqa: E731
    return probe_model(step, torch.device('cpu'), args)['answer']


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
    before = probe(model, make_args())
    change(model)
    assert (probe(model, make_args()) - before).abs().max() > 1e-4


def test_a_probe_sees_another_normalization_and_another_way_to_resize(make_args, monkeypatch):
    model = select_model(make_args())
    outputs = [probe(model, make_args())]
    with monkeypatch.context() as patch:
        patch.setattr('utils.torch_utils.MEAN', (0.5, 0.5, 0.5))
        outputs.append(probe(model, make_args()))
    upsample = torch.nn.functional.interpolate
    nearest = lambda pred, size, **_: upsample(pred, size, mode='nearest')  # noqa: E731
    monkeypatch.setattr('model.model_entry.F.interpolate', nearest)
    outputs.append(probe(model, make_args()))
    assert all((output - outputs[0]).abs().max() > 1e-3 for output in outputs[1:])


def test_a_stochastic_model_has_the_same_output_for_each_probe(make_args):
    model = select_model(make_args())
    model.register_forward_hook(lambda m, i, pred: pred + torch.randn_like(pred))
    assert torch.equal(probe(model, make_args()), probe(model, make_args()))


def test_a_model_that_fails_on_the_probe_is_warned_of_and_keeps_the_error(make_args, capsys):
    model = select_model(make_args())
    model.register_forward_pre_hook(lambda m, inputs: 1 / 0)
    output, _ = probe(model, make_args()), probe(model, make_args())
    assert capsys.readouterr().err.count('warning: probe failed') == 1
    assert 'ZeroDivisionError' in output
    assert 'gen_probe_batch' in output


def test_the_probe_batch_never_changes_and_its_label_has_another_size():
    one, two = gen_probe_batch(), gen_probe_batch()
    assert torch.equal(one['img'], two['img'])
    assert len({*one['img'].shape[2:], *one['label'].shape[1:]}) == 4


@pytest.mark.parametrize('size', [(1, 1), (17, 31), (40, 56), (33, 16)])
def test_base_model_takes_any_size(make_args, size):
    with torch.no_grad():
        assert UNet(make_args()).eval()(torch.zeros(1, 3, *size)).shape == (1, 3, *size)


def test_the_output_has_the_labels_size(make_args):
    args, batch = make_args(), make_batch()
    batch['size'] = (100, 90)
    assert forward_batch(select_model(args), batch, args).shape == (2, 3, 100, 90)


@pytest.mark.parametrize('options', [['--amp', 'bf16'], ['--channels_last']])
def test_precision_and_memory_order_change_the_output_little(make_args, options):
    batch, preds = make_batch(), []
    for more in ([], options):
        args = make_args(*more)
        torch.manual_seed(0)
        with torch.no_grad():
            preds.append(forward_batch(select_model(args).eval(), batch, args))
    assert preds[1].dtype == torch.float32
    assert (preds[0] - preds[1]).abs().max() < 0.05


def evaluate(path, *options):
    """{name: score} of a checkpoint file, as eval.py computes them."""
    args, checkpoint = get_test_args(['--load_model_path', str(path), *options])
    return Evaluator(args, select_model(args, checkpoint)).eval()


def get_val_scores(path):
    """{name: score} of the validation that a checkpoint file keeps, those of classes left out."""
    metrics = load_checkpoint(path)['metrics']
    return {k.removeprefix('val/'): metrics[k] for k in metrics if k[:4] == 'val/' and k[4:] in k}


@pytest.mark.slow
@pytest.mark.parametrize('amp', ['bf16', 'fp16'])
def test_half_precision_trains_on_the_cpu_and_evaluates_to_the_same_score(make_args, amp):
    full = train(make_args(run='full'))
    half = train(make_args('--amp', amp, run='half'))
    state = load_checkpoint(half.model_dir / 'last.pth')
    assert {w.dtype for w in state['model'].values() if w.is_floating_point()} == {torch.float32}
    losses = [get_val_scores(t.model_dir / 'last.pth')['loss'] for t in (full, half)]
    assert losses[1] == pytest.approx(losses[0], abs=0.05)
    assert losses[1] != losses[0]
    path = half.model_dir / 'last.pth'
    assert evaluate(path)['loss'] == pytest.approx(losses[1], abs=1e-6)


@pytest.fixture
def restored_kernels():
    """Puts back how torch chooses kernels."""
    yield
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.benchmark = False


@pytest.mark.slow
def test_two_deterministic_trainings_are_bit_identical(make_args, restored_kernels):
    weights = []
    for run in ('first', 'second'):
        trainer = train(make_args('--deterministic', run=run))
        assert torch.are_deterministic_algorithms_enabled()
        weights.append(trainer.model.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    Trainer(make_args(run='third'))
    assert not torch.are_deterministic_algorithms_enabled()


class WithoutDropout(ToyNet):
    def __init__(self, args):
        super().__init__(args)
        self.dropout = nn.Identity()


@pytest.mark.slow
@pytest.mark.skipif(
    not any(map(shutil.which, (os.environ.get('CXX', 'g++'), 'clang++'))),
    reason='torch.compile needs a C++ compiler',
)
def test_a_compiled_model_trains_and_scores_like_one_that_is_not(make_args, monkeypatch, tmp_path):
    monkeypatch.setenv('TORCHINDUCTOR_CACHE_DIR', str(tmp_path / 'cache'))
    monkeypatch.setitem(MODELS, 'plain', 'test_models:WithoutDropout')  # it draws other numbers
    trained, evaluated = [], []
    for options in ([], ['--compile']):
        run = ''.join(options) or 'eager'
        trainer = train(make_args('--model_type', 'plain', *options, run=run))
        trained.append(get_val_scores(trainer.model_dir / 'best.pth'))
        evaluated.append(evaluate(trainer.model_dir / 'best.pth'))
    assert trainer.model.state_dict().keys() == WithoutDropout(trainer.args).state_dict().keys()
    assert list((tmp_path / 'cache').iterdir())  # it did compile
    torch.compiler.reset()
    assert trained[1] == pytest.approx(trained[0], abs=1e-3, nan_ok=True)
    for scores, expected in zip(evaluated, trained, strict=True):
        assert scores == pytest.approx(expected, abs=1e-5, nan_ok=True)


def test_several_gpus_get_a_model_around_the_network_which_unwrap_returns(make_args, monkeypatch):
    args = make_args()
    monkeypatch.setattr('model.model_entry.select_device', lambda args: torch.device('cpu'))
    monkeypatch.setattr('torch.nn.DataParallel.__init__', fake_parallel)
    args.gpus = [0, 1]
    model = ToyNet(args)
    parallel = equip_multi_gpu(model, args)
    assert isinstance(parallel, nn.DataParallel)
    assert unwrap(parallel) is model
    assert unwrap(model) is model


def fake_parallel(self, module, device_ids):
    """DataParallel without GPUs."""
    nn.Module.__init__(self)
    self.module, self.device_ids = module, device_ids


def test_float_images_are_taken_as_normalized_already():
    img = torch.randn(2, 3, 4, 4)
    assert normalize(img) is img


def test_normalizing_gives_0_mean_images_and_can_be_undone():
    img = make_batch()['img']
    assert abs(normalize(img).mean()) < 0.3
    assert torch.equal(denormalize(normalize(img)[0]), img[0])


def test_images_of_other_channels_are_floats_and_shown_by_their_first_bands():
    bands = torch.stack([torch.full((2, 2), float(i)) for i in range(5)])
    assert torch.equal(normalize(bands[None])[0], bands)
    assert denormalize(bands)[:, 0, 0].tolist() == [0, 127, 255]
    assert denormalize(bands[:1]).shape == (3, 2, 2)
    with pytest.raises(UserError, match='3 channels, got 5.*read_image'):
        normalize(bands[None].to(torch.uint8))


class LazyNet(nn.Module):
    """A layer that finds out in its first call how many channels it gets."""

    def __init__(self, args):
        super().__init__()
        self.net = nn.LazyConv2d(args.num_classes, 1)

    def forward(self, img):
        return self.net(img)


class ReadyNet(LazyNet):
    def __init__(self, args):
        super().__init__(args)
        self(torch.zeros(1, 3, 8, 8))


def test_lazy_layers_are_one_line_unless_the_model_was_called(make_args, monkeypatch):
    monkeypatch.setitem(MODELS, 'lazy', 'test_models:LazyNet')
    monkeypatch.setitem(MODELS, 'ready', 'test_models:ReadyNet')
    with pytest.raises(UserError, match='lazy has layers of unknown size.*__init__'):
        select_model(make_args('--model_type', 'lazy'))
    train(make_args('--model_type', 'ready', '--epochs', 1))


def test_a_broken_entry_that_was_not_chosen_does_not_matter(make_args, monkeypatch):
    monkeypatch.setitem(MODELS, 'broken', 'model.no_such_file:Nothing')
    assert isinstance(select_model(make_args()), resolve_name(MODELS['toy']))


def make_head(num_classes):
    torch.manual_seed(num_classes)
    return nn.Sequential(nn.Linear(2, 3), nn.Linear(3, num_classes))


def test_what_fits_by_name_and_shape_is_loaded_and_the_rest_is_reported():
    model, source = make_head(5), make_head(4).state_dict() | {'extra': torch.zeros(1)}
    del source['0.bias']
    report = load_match_dict(model, source)
    assert torch.equal(model[0].weight, source['0.weight'])
    parts = report.split(', ')
    assert parts[0] == 'loaded 1 tensors'
    for part in ('1.weight (4, 3) -> (5, 3)', '1.bias (4,) -> (5,)', '1 (0.bias) missing'):
        assert part in report
    assert parts[-1] == '1 (extra) unexpected'


def test_weights_are_loaded_from_a_path_too(tmp_path):
    torch.save(make_head(4).state_dict(), tmp_path / 'plain.pth')
    model = make_head(4)
    nn.init.zeros_(model[0].weight)
    assert load_match_dict(model, tmp_path / 'plain.pth').startswith('loaded 4 tensors')
    assert torch.equal(model[0].weight, make_head(4)[0].weight)


@pytest.mark.parametrize('prefix', ['module.', '_orig_mod.', 'module._orig_mod.'])
def test_prefixes_of_wrappers_are_taken_off(prefix):
    source = make_head(4).state_dict()
    model = make_head(4)
    wrapped = {prefix + name: value for name, value in source.items()}
    assert load_match_dict(model, wrapped).startswith('loaded 4 tensors')
    load_strict(model, wrapped)
    assert all(torch.equal(value, source[name]) for name, value in model.state_dict().items())


def test_nothing_that_matches_is_an_error_and_so_is_a_part_when_strict():
    with pytest.raises(ValueError, match='none of its 1 tensors'):
        load_match_dict(make_head(4), {'a': torch.zeros(1)})
    with pytest.raises(ValueError, match=r'1.weight \(4, 3\) -> \(5, 3\).*--load_not_strict'):
        load_strict(make_head(5), make_head(4).state_dict())


@pytest.mark.parametrize('change', [{'extra': torch.zeros(1)}, {'0.bias': None}])
def test_strictly_a_tensor_too_many_or_too_few_is_an_error(change):
    state = make_head(4).state_dict() | change
    state = {name: value for name, value in state.items() if value is not None}
    with pytest.raises(ValueError, match=next(iter(change))):
        load_strict(make_head(4), state)


def test_a_failed_strict_load_changes_no_weight():
    model = make_head(5)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match='another model'):
        load_strict(model, make_head(4).state_dict())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize('dtype', [torch.float64, torch.uint16, torch.int64])
def test_images_of_other_types_than_uint8_and_float32_are_one_line(dtype):
    with pytest.raises(UserError, match=str(dtype).removeprefix('torch.')):
        normalize(torch.zeros(1, 3, 2, 2, dtype=dtype))


@pytest.mark.parametrize('prefix', ['', 'encoder_q.', 'module.encoder_q.'])
def test_a_backbone_of_others_finds_its_place_two_levels_deep(prefix):
    backbone = make_head(4)
    model = nn.ModuleDict({'net': nn.ModuleDict({'backbone': backbone, 'head': nn.Linear(4, 1)})})
    weights = {f'{prefix}{name}': value + 1 for name, value in backbone.state_dict().items()}
    assert "'net.backbone.' added" in load_match_dict(model, weights)
    assert torch.equal(next(backbone.parameters()), next(iter(weights.values())))


def test_the_names_of_a_wide_model_are_aligned_at_once():
    model = nn.ModuleDict({f'layer{i}': nn.Linear(1, 1) for i in range(300)})
    wrapped = {f'module.{name}': value for name, value in model.state_dict().items()}
    assert "'module.' removed" in load_match_dict(model, wrapped)
