"""ChildTuning-F: the masks and what they touch, resume and processes; ChildTuning-D: squared batch gradients and their set."""

import copy

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import AmpOptimWrapper, OptimWrapper, build_optim_wrapper
from torch import nn

from mmseg_dafm.core.run_config import enable_amp
from mmseg_dafm.fishertune.score_file import load_fisher
from mmseg_dafm.fishertune.squared_gradients import add_squares_by_loop, batch_squares, new_accumulators
from mmseg_dafm.hooks.fisher_estimation import Estimation
from mmseg_dafm.optim import ChildTuneAmpOptimWrapper, ChildTuneOptimWrapper
from mmseg_dafm.optim.childtune import mask_gradients
from tests.hooks.fisher_run import config, train
from tests.optim.selected_weights import BATCHES, Net
from tests.processes import ROOT, run_ranks

WRAPPER = dict(type='ChildTuneOptimWrapper', constructor='ChildTuneOptimWrapperConstructor')


def build(model: nn.Module, **changes):
    return build_optim_wrapper(model, {**WRAPPER, **dict(optimizer=dict(type='SGD', lr=0.1), seed=4, keep=0.4), **changes})


def bits(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_masks_keep_the_share_and_the_mean_and_follow_from_seed_and_step():
    ones = lambda: [torch.ones(300, 400), torch.ones(50)]  # noqa: E731

    def masked(seed, step):
        found = ones()
        mask_gradients(found, 0.3, seed, step)
        return found

    first = masked(1, 1)
    assert torch.equal(first[0].unique(), torch.tensor([0.0, 1 / 0.3]))
    assert float((first[0] > 0).float().mean()) == pytest.approx(0.3, abs=0.005)
    assert float(first[0].mean()) == pytest.approx(1, abs=0.02)
    assert all(torch.equal(one, other) for one, other in zip(first, masked(1, 1), strict=True))
    for other in (masked(1, 2), masked(2, 1), masked(0, 3)):
        agreement = ((other[0] > 0) == (first[0] > 0)).float().mean()
        # independent masks agree on 0.3^2 + 0.7^2
        assert float(agreement) == pytest.approx(0.58, abs=0.01)
    whole = ones()
    mask_gradients(whole, 1, 1, 1)
    assert torch.equal(whole[0], torch.ones(300, 400))


def test_masked_infinities_become_zeros():
    gradient = [torch.full((1000,), torch.inf)]
    mask_gradients(gradient, 0.5, 0, 0)
    assert not gradient[0].isnan().any()
    assert (gradient[0] == 0).any()


@pytest.mark.parametrize('clip', [None, dict(max_norm=0.05)])
@pytest.mark.parametrize('accumulate', [1, 2])
def test_a_step_is_a_plain_step_whose_clipped_backbone_gradients_are_masked(clip, accumulate):
    model = Net()
    reference = copy.deepcopy(model)
    wrapper = build(model, clip_grad=clip, accumulative_counts=accumulate)
    for step in range(3):
        own = range(step * accumulate, (step + 1) * accumulate)
        for i in own:
            wrapper.update_params(model(BATCHES[i]))
        parameters = dict(reference.named_parameters())
        loss = sum(reference(BATCHES[i]) for i in own) / accumulate
        gradients = dict(zip(parameters, torch.autograd.grad(loss, list(parameters.values())), strict=True))
        norm = torch.stack([gradient.norm() for gradient in gradients.values()]).norm()
        factor = min(1.0, clip['max_norm'] / (float(norm) + 1e-6)) if clip else 1.0
        gradients = {name: gradient * factor for name, gradient in gradients.items()}
        mask_gradients([g for name, g in gradients.items() if name.startswith('backbone.')], 0.4, 4, (step + 1) * accumulate)
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter -= 0.1 * gradients[name]
    for name, value in bits(model).items():
        torch.testing.assert_close(value, bits(reference)[name], msg=name)


def test_only_the_backbone_is_masked():
    model = Net()
    before = bits(model)
    build(model).update_params(model(BATCHES[0]))
    still = {name: float((value == before[name]).float().mean()) for name, value in bits(model).items()}
    assert max(share for name, share in still.items() if name.startswith('decode_head')) == 0
    assert 0.5 < still['backbone.blocks.0.attn.qkv.weight'] < 0.7


def run(folder, name, iterations=4, **changes):
    cfg = config(folder / name, iterations=iterations, optim_wrapper=dict(WRAPPER, keep=0.3), **changes)
    cfg.custom_hooks = []
    return train(cfg)


@pytest.mark.slow
def test_a_run_resumes_to_the_bit_and_the_seed_travels_in_the_checkpoint(tmp_path):
    whole = run(tmp_path, 'whole')
    checkpoint = str(tmp_path / 'whole/iter_2.pth')
    again = run(tmp_path, 'again', load_from=checkpoint, resume=True)
    assert again.optim_wrapper.seed == whole.optim_wrapper.seed == 0
    one, other = bits(whole.model), bits(again.model)
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    wrapper = build(Net(), seed=9)
    state = wrapper.state_dict()
    other = build(Net(), seed=5)
    other.load_state_dict(state)
    assert other.seed == 9
    del state['child_tune']
    with pytest.raises(ValueError, match='was not written by ChildTuneOptimWrapper: load its weights with load_from'):
        other.load_state_dict(state)


@pytest.mark.slow
def test_processes_with_seeds_of_their_own_mask_alike(tmp_path):
    run_ranks(ROOT / 'tests/optim/childtune_worker.py', tmp_path, [tmp_path / 'rank{rank}.pth'])
    one, other = (torch.load(tmp_path / f'rank{rank}.pth', weights_only=True) for rank in range(2))
    assert one['seed'] == other['seed'] == 100
    assert all(torch.equal(value, other['weights'][name]) for name, value in one['weights'].items())


def test_wrong_settings_are_refused():
    model = Net()
    for keep in (0, 1.5):
        with pytest.raises(ValueError, match=rf'optim_wrapper.keep={keep} must be a share'):
            ChildTuneOptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1), keep=keep)
    alone = ChildTuneOptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
    with pytest.raises(ValueError, match='add optim_wrapper.constructor="ChildTuneOptimWrapperConstructor"'):
        alone.update_params(model(BATCHES[0]))
    with pytest.raises(ValueError, match=r"module='encoder' is no module of Net: choose from \['backbone', 'decode_head'\]"):
        build(model, module='encoder')
    with pytest.raises(ValueError, match='optim_wrapper.type=OptimWrapper masks no gradients: use ChildTuneOptimWrapper'):
        build_optim_wrapper(model, dict(WRAPPER, type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1)))
    model.backbone.requires_grad_(False)
    with pytest.raises(ValueError, match="module='backbone' has no parameter that trains: remove frozen=True"):
        build(model)


class FakeScaler:
    """Scales the loss by 8, unscales at the step as torch's does, and skips it on demand."""

    overflow = False

    def scale(self, loss):
        return loss * 8

    def step(self, optimizer, **kwargs):
        for group in optimizer.param_groups:
            for p in group['params']:
                p.grad.div_(8)
        if not self.overflow:
            optimizer.step(**kwargs)

    def update(self, scale):
        pass


def test_the_amp_twin_masks_what_is_unscaled(monkeypatch):
    def init(self, dtype=None, loss_scale='dynamic', **kwargs):
        OptimWrapper.__init__(self, **kwargs)
        self.loss_scaler, self._scale_update_param, self.cast_dtype = FakeScaler(), None, None

    monkeypatch.setattr(AmpOptimWrapper, '__init__', init)
    model = Net()
    other = copy.deepcopy(model)
    wrapper, plain = build(model, type='ChildTuneAmpOptimWrapper'), build(other)
    assert isinstance(wrapper, ChildTuneAmpOptimWrapper)
    for batch in BATCHES[:3]:
        wrapper.update_params(model(batch))
        plain.update_params(other(batch))
    # a power of two scales without rounding
    assert all(torch.equal(value, bits(other)[name]) for name, value in bits(model).items())
    wrapper.loss_scaler.overflow = True
    wrapper.update_params(model(BATCHES[3]))
    assert all(torch.equal(value, bits(other)[name]) for name, value in bits(model).items())


def test_amp_on_the_command_line_takes_the_twin(monkeypatch):
    monkeypatch.setattr('mmseg_dafm.core.run_config.get_device', lambda: 'cuda')
    cfg = Config(dict(optim_wrapper=dict(WRAPPER)))
    enable_amp(cfg)
    assert cfg.optim_wrapper.type == 'ChildTuneAmpOptimWrapper'
    assert cfg.optim_wrapper.constructor == WRAPPER['constructor']


class Losses:
    """A loss per sample of a linear model."""

    def __init__(self, model):
        self.model = model

    def __call__(self, samples, seeds):
        return self.model(torch.stack(list(samples))).square().sum(-1)


@pytest.mark.parametrize('batch_size', [1, 3, 7])
def test_squares_are_those_of_the_means_of_batches(batch_size):
    model = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5)).double().train()
    data = torch.randn(7, 4, dtype=torch.float64)
    tensors = dict(model.named_parameters())
    source = lambda groups: ([data[i] for i in ids] for _, ids in groups)  # noqa: E731
    found = batch_squares(model, tensors, Losses(model), source, 7, batch_size)
    assert model.training
    model.eval()
    expected = new_accumulators(tensors)
    parts = data.split(batch_size)
    for part in parts:
        loss = model(part).square().sum() / len(part)
        for name, gradient in zip(tensors, torch.autograd.grad(loss, list(tensors.values())), strict=True):
            expected[name] += gradient**2 / len(parts)
    for name in tensors:
        torch.testing.assert_close(found[name], expected[name])
    fisher = new_accumulators(tensors)
    add_squares_by_loop(Losses(model), tensors, list(data), list(range(7)), fisher)
    same = torch.allclose(found['0.weight'], fisher['0.weight'] / 7)
    assert same == (batch_size == 1)


def test_a_tensor_without_a_gradient_is_named():
    model = nn.ModuleDict(dict(used=nn.Linear(4, 3), unused=nn.Linear(4, 3)))
    source = lambda groups: ([torch.ones(4)] for _ in groups)  # noqa: E731
    with pytest.raises(ValueError, match='the loss does not depend on unused.weight'):
        batch_squares(model, dict(model.named_parameters()), Losses(model['used']), source, 1, 1)


@pytest.mark.slow
def test_childtuning_d_trains_a_fixed_set_from_the_first_step(tmp_path):
    hook = dict(
        criterion='F', schedule='constant', warmup_iters=0, delta_min=0.05, delta_max=0.05,
        estimation=dict(estimator='batch_gradient', images=6, batch_size=4),
    )  # fmt: skip
    runner = train(config(tmp_path, hook, iterations=4))
    wrapper = runner.optim_wrapper
    assert wrapper.cohorts == [int(0.05 * wrapper.backbone_parameters)]
    scores = load_fisher(tmp_path / 'dr_fim.safetensors')
    assert scores.meta['estimator'] == 'batch_gradient'
    flat = torch.cat([part.flatten() for part in scores.clean.values()])
    threshold = flat[wrapper.ranking].min()
    assert (flat > threshold).sum() <= len(wrapper.ranking)
    assert all(torch.equal(part, scores.shifted[name]) for name, part in scores.clean.items())
    first, last = (torch.load(tmp_path / f'iter_{i}.pth', weights_only=False)['state_dict'] for i in (1, 4))
    moved = torch.cat([(first[f'backbone.{name}'] != last[f'backbone.{name}']).flatten() for name in wrapper.tensors])
    assert set(moved.nonzero().flatten().tolist()) <= set(wrapper.ranking.tolist())
    assert moved.sum() > 0.9 * len(wrapper.ranking)


def test_squared_batch_gradients_are_of_true_labels():
    with pytest.raises(
        ValueError, match="estimator='batch_gradient' squares gradients of true labels: label_source must be 'gt'"
    ):
        Estimation(estimator='batch_gradient', label_source='sample')
