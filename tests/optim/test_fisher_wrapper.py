"""FisherTuneOptimWrapper against a dense reference; resume, memory, accumulation, two processes and refusals."""

import copy
from collections import OrderedDict

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.optim import AmpOptimWrapper, OptimWrapper, PolyLR, build_optim_wrapper
from mmengine.runner import Runner
from mmengine.utils import digit_version
from torch import nn

from mmseg_dafm.optim import FisherTuneAmpOptimWrapper, FisherTuneOptimWrapper, fisher_wrapper
from tests.optim.selected_weights import BATCHES, DenseReference, Net, build, some_ranking, train, wrapper_cfg
from tests.processes import ROOT, run_ranks
from tests.runs.common import tiny_config

ADAMW = dict(type='AdamW', lr=0.02, weight_decay=0.1, eps=1e-3)
SGD = dict(type='SGD', lr=0.05, weight_decay=0.1, momentum=0.9)
needs_fused = pytest.mark.skipif(digit_version(torch.__version__) < digit_version('2.4.0'), reason='no fused kernels on CPUs')
SIZES = {0: 40, 3: 90, 7: 91, 8: 150}
STEPS = 12


def bits(model: nn.Module) -> dict:
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_same_bits(one: dict, other: dict) -> None:
    assert one.keys() == other.keys()
    assert all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.fixture
def model():
    return Net()


@pytest.mark.parametrize('accumulate', [1, 2])
@pytest.mark.parametrize('clip', [None, 0.3])
@pytest.mark.parametrize(
    'optimizer',
    [
        ADAMW,
        pytest.param(dict(ADAMW, fused=True), marks=needs_fused),
        dict(ADAMW, foreach=True),
        SGD,
        dict(SGD, nesterov=True, foreach=True),
    ],
)
def test_trajectory_is_that_of_the_dense_reference(model, optimizer, clip, accumulate):
    changes = dict(clip_grad=dict(max_norm=clip)) if clip else {}
    wrapper = build(model, optimizer, accumulative_counts=accumulate, **changes)
    wrapper.select(some_ranking(wrapper, 150))
    sgd = optimizer['type'] == 'SGD'
    lr = optimizer['lr']
    nesterov = optimizer.get('nesterov', False)
    reference = DenseReference(model, wrapper, lr, lr / 2, 0.1, sgd=sgd, nesterov=nesterov, clip=clip)
    factor = lambda step: 1 - step / 20  # noqa: E731
    start = bits(model)
    for step in range(STEPS):
        train(model, wrapper, range(step, step + 1), SIZES, factor)
        if step in SIZES:
            reference.grow(SIZES[step])
        reference.step(BATCHES[step * accumulate : (step + 1) * accumulate], factor(step))
        for name, p in model.named_parameters():
            assert torch.allclose(p.double(), reference.params[name], rtol=0, atol=2e-6), (step, name)
            mask = reference.mask[name].bool()
            assert torch.equal(p[~mask], start[name][~mask]), (step, name)
    assert wrapper.cohorts == [40, 50, 1, 59]
    assert wrapper.count == 150
    moved = sum(int((p != start[f'backbone.{name}']).sum()) for name, p in model.backbone.named_parameters())
    assert moved == 150


def test_a_late_cohort_moves_like_a_fresh_one(model):
    wrapper = build(model, dict(type='Adam', lr=0.01, eps=1e-12))
    wrapper.select(some_ranking(wrapper, 60))
    train(model, wrapper, range(20), {0: 30})
    before = bits(model.backbone)
    train(model, wrapper, range(20, 21), {20: 60})
    late = torch.cat([(p - before[name]).flatten() for name, p in wrapper.tensors.items()])[wrapper.ranking[30:]]
    # bias correction makes Adam's first step lr * sign(g)
    assert torch.allclose(late.abs(), torch.full_like(late, 0.005), rtol=1e-3)


@pytest.mark.parametrize('free', [False, True])
@pytest.mark.parametrize('optimizer', [ADAMW, pytest.param(dict(ADAMW, fused=True, amsgrad=True), marks=needs_fused), SGD])
@pytest.mark.parametrize('stop', [2, 3, 8])
def test_resume_continues_to_the_bit(model, tmp_path, optimizer, stop, free):
    changes = dict(clip_grad=dict(max_norm=0.3), free_gradients=free)
    wrapper = build(model, optimizer, **changes)
    wrapper.select(some_ranking(wrapper, 150))
    train(model, wrapper, range(stop), SIZES)
    torch.save(dict(state_dict=model.state_dict(), optimizer=wrapper.state_dict()), tmp_path / 'checkpoint.pth')
    train(model, wrapper, range(stop, STEPS), SIZES)

    checkpoint = torch.load(tmp_path / 'checkpoint.pth', weights_only=True)
    resumed = Net(seed=5)
    again = build(resumed, optimizer, **changes)
    # a set that the state replaces
    again.select(some_ranking(again, 20, seed=9))
    again.grow(20)
    resumed.load_state_dict(checkpoint['state_dict'])
    keys = list(checkpoint['optimizer'])
    again.load_state_dict(checkpoint['optimizer'])
    assert list(checkpoint['optimizer']) == keys
    assert again.cohorts == [size for step, size in {0: 40, 3: 50, 7: 1, 8: 59}.items() if step < stop]
    train(resumed, again, range(stop, STEPS), SIZES)
    assert_same_bits(bits(model), bits(resumed))
    assert str(again.state_dict()) == str(wrapper.state_dict())


def test_state_before_any_ranking_resumes(model):
    wrapper = build(model)
    train(model, wrapper, range(3), {})
    again = build(Net())
    again.load_state_dict(copy.deepcopy(wrapper.state_dict()))
    assert (again.ranking, again.cohorts, again.count) == (None, [], 0)


def test_without_a_set_the_backbone_keeps_its_bits_and_the_decoder_trains(model):
    wrapper = build(model)
    before = bits(model)
    train(model, wrapper, range(3), {})
    after = bits(model)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {'decode_head.weight', 'decode_head.bias'}


def test_freeze_unused_leaves_gradients_to_tensors_that_hold_an_entry(model):
    wrapper = build(model)
    assert wrapper.freeze_unused()
    assert not any(p.requires_grad for p in model.backbone.parameters())
    assert all(p.requires_grad for p in model.decode_head.parameters())
    assert not wrapper.freeze_unused()
    sizes = [tensor.numel() for tensor in wrapper.tensors.values()]
    names = list(wrapper.tensors)
    # one element of the second tensor, the last of the fourth
    wrapper.select(torch.tensor([sum(sizes[:4]) - 1, sizes[0]]))
    assert wrapper.freeze_unused()
    assert {name for name, p in model.backbone.named_parameters() if p.requires_grad} == {names[1], names[3]}
    assert not wrapper.freeze_unused()
    train(model, wrapper, range(2), {0: 1})


def test_optimizer_state_is_at_most_6_percent_of_the_dense_optimizers():
    backbone = nn.ModuleDict(dict(blocks=nn.ModuleList(
        [nn.ModuleDict(dict(mlp=nn.ModuleDict(dict(fc1=nn.Linear(200, 400), fc2=nn.Linear(400, 200)))))]
    )))  # fmt: skip
    model = nn.ModuleDict(dict(backbone=backbone))

    def state_bytes(optimizer) -> int:
        for p in model.parameters():
            p.grad = torch.ones_like(p)
        optimizer.step()
        optimizer = getattr(optimizer, 'optimizer', optimizer)
        return sum(v.numel() * v.element_size() for s in optimizer.state.values() for v in s.values())

    wrapper = build(model, paramwise=dict(candidates=dict(kinds=['ffn'])))
    assert wrapper.backbone_parameters == sum(p.numel() for p in backbone.parameters())
    wrapper.select(some_ranking(wrapper, wrapper.backbone_parameters // 20))
    for share in (0.2, 0.5, 1.0):
        wrapper.grow(int(share * len(wrapper.ranking)))
    assert state_bytes(wrapper) <= 0.06 * state_bytes(torch.optim.AdamW(model.parameters()))


@pytest.mark.parametrize('accumulate', [1, 3])
def test_freed_gradients_train_the_same(model, accumulate):
    other = copy.deepcopy(model)
    for net, free in ((model, False), (other, True)):
        wrapper = build(net, accumulative_counts=accumulate, free_gradients=free, clip_grad=dict(max_norm=0.3))
        wrapper.select(some_ranking(wrapper, 150))
        train(net, wrapper, range(STEPS), SIZES)
    assert_same_bits(bits(model), bits(other))
    other(BATCHES[0]).backward()
    assert all(p.grad is None for p in wrapper.tensors.values())


def test_zero_grad_reaches_every_gradient(model):
    for keep in (True, False):
        wrapper = build(model)
        wrapper.select(some_ranking(wrapper, 10))
        wrapper.grow(10)
        model(BATCHES[0]).backward()
        wrapper.step()
        wrapper.zero_grad(set_to_none=not keep)
        owned = [p for group in wrapper.optimizer.param_groups for p in group['params']]
        for p in (*model.parameters(), *owned):
            assert p.grad is None or (keep and not p.grad.any())


def test_schedulers_and_rates_reach_groups_that_were_empty(model):
    wrapper = build(model)
    scheduler = PolyLR(wrapper, eta_min=0.0, power=1.0, begin=0, end=11, by_epoch=False)
    assert wrapper.get_lr()['lr'] == [0.02, 0.01]
    wrapper.select(some_ranking(wrapper, 30))
    wrapper.grow(10)
    train(model, wrapper, range(1), {})
    for _ in range(5):
        scheduler.step()
    wrapper.grow(30)
    assert wrapper.get_lr()['lr'] == pytest.approx([0.01, 0.005])


def test_growing_is_checked(model):
    wrapper = build(model)
    with pytest.raises(ValueError, match=r'grow\(3\) has no ranking to take elements from: call select\(\) first'):
        wrapper.grow(3)
    wrapper.select(some_ranking(wrapper, 20))
    wrapper.select(some_ranking(wrapper, 30, seed=2))
    wrapper.grow(0)
    assert wrapper.cohorts == []
    wrapper.grow(7)
    wrapper.grow(7)
    assert wrapper.cohorts == [7]
    with pytest.raises(ValueError, match=r'grow\(31\) exceeds the ranking, which has 30 elements: raise delta_max'):
        wrapper.grow(31)
    with pytest.raises(ValueError, match=r'grow\(6\) would shrink the set of 7 elements'):
        wrapper.grow(6)
    with pytest.raises(TypeError, match='float'):
        wrapper.grow(8.0)
    with pytest.raises(ValueError, match='7 elements of a ranking are being trained already'):
        wrapper.select(some_ranking(wrapper, 30))
    with pytest.raises(ValueError, match='it was made for another model'):
        build(Net()).select(torch.tensor([10**6]))


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
    monkeypatch.setattr(fisher_wrapper, 'get_world_size', lambda: 2)
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
