"""FisherTuneOptimWrapper in mixed precision, in two processes and in whole runs; what it refuses."""

import copy
from collections import OrderedDict

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.optim import AmpOptimWrapper, OptimWrapper, build_optim_wrapper
from mmengine.runner import Runner

from mmseg_dafm.optim import FisherTuneAmpOptimWrapper, FisherTuneOptimWrapper, fisher_wrapper
from tests.optim.selected_weights import (
    BATCHES,
    SIZES,
    STEPS,
    Net,
    assert_same_bits,
    bits,
    build,
    some_ranking,
    train,
    wrapper_cfg,
)
from tests.processes import ROOT, run_ranks
from tests.runs.common import tiny_config


@pytest.fixture
def model():
    return Net()


def changed_state(change):
    wrapper = build(Net())
    wrapper.select(some_ranking(wrapper, 5))
    wrapper.grow(5)
    state = copy.deepcopy(wrapper.state_dict())
    change(state)
    return state


def rename(state):
    own = state[fisher_wrapper.STATE]
    own['tensors'] = {name.replace('qkv', 'to_qkv'): shape for name, shape in own['tensors'].items()}


def reorder(state):
    own = state[fisher_wrapper.STATE]
    own['tensors'] = OrderedDict(reversed(own['tensors'].items()))


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (
            lambda state: state.pop(fisher_wrapper.STATE),
            'was not written by FisherTuneOptimWrapper: load its weights with load_from',
        ),
        (rename, r'another model: blocks.0.attn.to_qkv.weight is \[24, 8\] there and None here'),
        (lambda state: state[fisher_wrapper.STATE]['tensors'].update({'blocks.1.mlp.fc2.weight': [8, 17]}), r'\[8, 17\] there'),
        (reorder, 'their order'),
        (
            lambda state: state[fisher_wrapper.STATE]['groups'].append([]),
            'has 2 groups of selected weights, which differ from the 1',
        ),
    ],
)
def test_states_of_others_are_refused_and_change_nothing(model, change, message):
    wrapper = build(model)
    wrapper.select(some_ranking(wrapper, 5))
    wrapper.grow(3)
    with pytest.raises(ValueError, match=message) as info:
        wrapper.load_state_dict(changed_state(change))
    assert len(str(info.value).splitlines()) == 1
    assert wrapper.cohorts == [3]


def test_what_cannot_work_is_refused(model, monkeypatch):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match='is built by optim_wrapper.constructor="FisherTuneOptimWrapperConstructor"'):
        FisherTuneOptimWrapper(optimizer)
    wrapper = build(model)
    with pytest.raises(ValueError, match='takes no closure'):
        wrapper.step(closure=lambda: None)
    with pytest.raises(ValueError, match='strategy hands the weights to Net, .* use DDP'):
        wrapper.model = model
    with pytest.raises(ValueError, match='use_fsdp=True shards the weights'):
        build(model, use_fsdp=True)
    monkeypatch.setattr(fisher_wrapper, 'world_size', lambda: 2)
    with pytest.raises(ValueError, match='free_gradients=True, but 2 processes must exchange whole gradients'):
        build(model, free_gradients=True)


class FakeScaler:
    """Records what the AMP wrapper asks for; scales the loss by 8; finds an overflow on demand."""

    def __init__(self):
        self.calls, self.overflow = [], False

    def scale(self, loss):
        return loss * 8

    def unscale_(self, optimizer):
        self.calls.append('unscale')
        for group in optimizer.param_groups:
            for p in group['params']:
                p.grad.div_(8)

    def step(self, optimizer, **kwargs):
        self.calls.append('step')
        if not self.overflow:
            optimizer.step(**kwargs)

    def update(self, scale):
        self.calls.append('update')

    def state_dict(self):
        return dict(scale=8)

    def load_state_dict(self, state):
        self.calls.append(('load', state))


@pytest.fixture
def amp_wrapper(monkeypatch):
    """Builds the AMP twin where mmengine would refuse it for lack of a GPU."""

    def init(self, dtype=None, loss_scale='dynamic', **kwargs):
        OptimWrapper.__init__(self, **kwargs)
        self.loss_scaler, self._scale_update_param, self.cast_dtype = FakeScaler(), None, None

    monkeypatch.setattr(AmpOptimWrapper, '__init__', init)
    return lambda model, **changes: build(model, type='FisherTuneAmpOptimWrapper', clip_grad=dict(max_norm=0.3), **changes)


def test_the_amp_twin_unscales_and_clips_compact_gradients(model, amp_wrapper):
    other = copy.deepcopy(model)
    plain = build(other, clip_grad=dict(max_norm=0.3))
    wrapper = amp_wrapper(model)
    assert isinstance(wrapper, FisherTuneAmpOptimWrapper)
    assert isinstance(wrapper, AmpOptimWrapper)
    for one in (plain, wrapper):
        one.select(some_ranking(one, 150))
    train(other, plain, range(STEPS), SIZES)
    train(model, wrapper, range(STEPS), SIZES)
    assert wrapper.loss_scaler.calls == ['unscale', 'step', 'update'] * STEPS
    # a power of two scales without rounding
    assert_same_bits(bits(model), bits(other))
    wrapper.loss_scaler.overflow = True
    train(model, wrapper, range(STEPS, STEPS + 1), {})
    assert_same_bits(bits(model), bits(other))
    state = wrapper.state_dict()
    assert state['loss_scaler'] == dict(scale=8)
    again = amp_wrapper(Net())
    again.load_state_dict(state)
    assert again.loss_scaler.calls == [('load', dict(scale=8))]
    assert again.cohorts == wrapper.cohorts


@pytest.mark.skipif(not torch.cuda.is_available(), reason='mixed precision needs a GPU')
@pytest.mark.parametrize('dtype', ['float16', 'bfloat16'])
def test_mixed_precision_on_a_gpu(dtype):
    model = Net().cuda()
    wrapper = build(model, type='FisherTuneAmpOptimWrapper', dtype=dtype, loss_scale='dynamic', clip_grad=dict(max_norm=0.3))
    wrapper.select(some_ranking(wrapper, 150))
    start, first = bits(model), None
    for step in range(STEPS):
        if step in SIZES:
            wrapper.grow(SIZES[step])
        with wrapper.optim_context(model):
            loss = model(BATCHES[step].cuda())
        first = float(loss) if first is None else first
        wrapper.update_params(loss)
    flat = lambda state: torch.cat([state[f'backbone.{name}'].flatten() for name in wrapper.tensors])  # noqa: E731
    moved = (flat(bits(model)) != flat(start)).nonzero().flatten().cpu()
    assert set(moved.tolist()) <= set(wrapper.ranking.tolist())
    assert len(moved) > 140
    assert float(model(BATCHES[0].cuda())) < first


@pytest.mark.slow
def test_two_processes_train_as_one(model, tmp_path):
    run_ranks(ROOT / 'tests' / 'optim' / 'fisher_worker.py', tmp_path, [tmp_path / 'rank{rank}.pth'])
    ranks = [torch.load(tmp_path / f'rank{rank}.pth', weights_only=True) for rank in range(2)]
    assert_same_bits(*ranks)
    wrapper = build(model, accumulative_counts=2)
    wrapper.select(some_ranking(wrapper, 60))
    # both ranks' batches, one after the other, are one accumulated step
    train(model, wrapper, range(6), {0: 20, 3: 60})
    for name, value in bits(model).items():
        assert torch.allclose(value, ranks[0][name], atol=1e-6), name


class GrowingSet(Hook):
    """Selects 300 random elements at the start and trains 100, then 200, then all of them."""

    def before_train(self, runner) -> None:
        if runner.optim_wrapper.ranking is None:
            runner.optim_wrapper.select(some_ranking(runner.optim_wrapper, 300))
        runner.optim_wrapper.freeze_unused()

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        runner.optim_wrapper.grow(min(300, 100 * (1 + runner.iter)))


def finish_run(folder, name: str, **changes) -> Runner:
    cfg = tiny_config(folder, 4)
    cfg.update(experiment_name=name, custom_hooks=[dict(type='EMAHook', momentum=0.1)], **changes)
    cfg.optim_wrapper = wrapper_cfg(paramwise=dict(candidates=dict(module='backbone.unet')))
    runner = Runner.from_cfg(cfg)
    runner.register_hook(GrowingSet())
    runner.train()
    return runner


@pytest.mark.slow
def test_a_run_with_ema_resumes_to_the_bit(tmp_path):
    runner = finish_run(tmp_path, 'fisher_whole')
    again = finish_run(tmp_path / 'again', 'fisher_resumed', load_from=str(tmp_path / 'iter_2.pth'), resume=True)
    assert runner.optim_wrapper.cohorts == again.optim_wrapper.cohorts == [100, 100, 100]
    assert_same_bits(bits(runner.model), bits(again.model))
    one, other = (torch.load(f / 'iter_4.pth', weights_only=False)['state_dict'] for f in (tmp_path, tmp_path / 'again'))
    assert_same_bits(one, other)
    assert not all(torch.equal(value, one[name]) for name, value in runner.model.state_dict().items())


def test_wrappers_are_built_from_the_registry_by_name(model):
    assert type(build_optim_wrapper(model, wrapper_cfg())) is FisherTuneOptimWrapper
