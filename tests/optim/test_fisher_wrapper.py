"""FisherTuneOptimWrapper against a dense reference; resume, memory, accumulation."""

import copy
import inspect

import pytest
import torch
from mmengine.optim import PolyLR
from mmengine.utils import digit_version
from mmseg.registry import OPTIMIZERS
from torch import nn

from tests.optim.selected_weights import (
    BATCHES,
    SIZES,
    STEPS,
    DenseReference,
    Net,
    assert_same_bits,
    bits,
    build,
    some_ranking,
    train,
)

ADAMW = dict(type='AdamW', lr=0.02, weight_decay=0.1, eps=1e-3)
SGD = dict(type='SGD', lr=0.05, weight_decay=0.1, momentum=0.9)
needs_fused = pytest.mark.skipif(digit_version(torch.__version__) < digit_version('2.4.0'), reason='no fused kernels on CPUs')


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


def variants():
    """Every optimizer of torch.optim with each of its kernels and each option that adds state."""
    found = []
    for name, kind in vars(torch.optim).items():
        if not (inspect.isclass(kind) and issubclass(kind, torch.optim.Optimizer)) or kind is torch.optim.Optimizer:
            continue
        # transformers registers an Adafactor of its own
        if OPTIMIZERS.get(name) is not kind:
            continue
        options = [{}, *({flag: True} for flag in ('foreach', 'fused', 'amsgrad', 'centered', 'maximize', 'capturable'))]
        options += [dict(momentum=0.9, **flag) for flag in ({}, dict(foreach=True), dict(fused=True), dict(nesterov=True))]
        known = inspect.signature(kind).parameters
        found += [dict(type=name, lr=0.02, **one) for one in options if set(one) <= set(known)]
    return found


REFUSED = {'LBFGS', 'SparseAdam', 'Muon'}


def refusal(optimizer):
    """Whether an optimizer cannot train a growing set on a CPU."""
    momentum = optimizer['type'] == 'SGD' and optimizer.get('momentum') and optimizer.get('fused')
    return optimizer['type'] in REFUSED or optimizer.get('capturable') or momentum


@needs_fused
@pytest.mark.parametrize('optimizer', variants(), ids=lambda o: '-'.join(str(v) for v in (o['type'], *list(o)[2:])))
def test_every_optimizer_grows_and_resumes_or_is_refused(model, optimizer):
    """Each cohort trains as the only parameter of an optimizer of its own would; a resumed run continues to the bit."""
    cfg = dict(optimizer=optimizer, paramwise={})
    if refusal(optimizer):
        with pytest.raises(ValueError, match=f"'{optimizer['type']}'.* cannot train a set of weights that grows"):
            build(model, **cfg)
        return
    wrapper = build(model, **cfg)
    wrapper.select(some_ranking(wrapper, 120))
    flat = lambda parts: torch.cat([part.detach().flatten() for part in parts])[wrapper.ranking]  # noqa: E731
    own, saved, starts = [], None, {0: 40, 2: 80, 4: 120}
    options = {key: value for key, value in optimizer.items() if key != 'type'}
    for step in range(7):
        if step in starts:
            joined = nn.Parameter(flat(wrapper.tensors.values())[wrapper.count : starts[step]].clone())
            own.append(getattr(torch.optim, optimizer['type'])([joined], **options))
            wrapper.grow(starts[step])
        model(BATCHES[step]).backward()
        gradients = flat([tensor.grad for tensor in wrapper.tensors.values()])
        for reference, part in zip(own, gradients.split(wrapper.cohorts + [120 - wrapper.count]), strict=False):
            reference.param_groups[0]['params'][0].grad = part.clone()
            reference.step()
        wrapper.step()
        wrapper.zero_grad()
        values = torch.cat([reference.param_groups[0]['params'][0].detach() for reference in own])
        assert torch.allclose(flat(wrapper.tensors.values())[: len(values)], values, rtol=1e-5, atol=1e-7), step
        if step == 3:
            saved = copy.deepcopy((model.state_dict(), wrapper.state_dict()))
    resumed = Net(seed=5)
    again = build(resumed, **cfg)
    resumed.load_state_dict(saved[0])
    again.load_state_dict(saved[1])
    train(resumed, again, range(4, 7), starts)
    assert_same_bits(bits(model), bits(resumed))


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


def load(model, changed):
    model.load_state_dict(changed)


def write_data(model, changed):
    for name, p in model.named_parameters():
        p.data.copy_(changed[name])


@pytest.mark.parametrize('edit', [load, write_data])
@pytest.mark.parametrize('optimizer', [ADAMW, SGD])
def test_weights_that_change_between_steps_are_kept(model, edit, optimizer):
    """As with a dense optimizer: a hook may roll weights back, clip or load them. Two cohorts, edited between two steps."""
    wrapper = build(model, optimizer)
    wrapper.select(some_ranking(wrapper, 150))
    lr = optimizer['lr']
    reference = DenseReference(model, wrapper, lr, lr / 2, 0.1, sgd=optimizer['type'] == 'SGD')
    for step in range(6):
        if step == 4:
            changed = {name: value.clamp(-0.05, 0.05) for name, value in model.state_dict().items()}
            edit(model, changed)
            reference.model.load_state_dict(changed)
        train(model, wrapper, range(step, step + 1), {0: 60, 2: 150})
        if step in (0, 2):
            reference.grow({0: 60, 2: 150}[step])
        reference.step([BATCHES[step]])
    for name, p in model.named_parameters():
        assert torch.allclose(p.double(), reference.params[name], rtol=0, atol=2e-6), name


def test_a_step_without_selection_is_refused_unless_one_is_announced(model):
    """A child config that sets custom_hooks drops the hook."""
    wrapper = build(model)
    before = bits(model)
    with pytest.raises(ValueError, match=r"no hook selects weights: add dict\(type='FisherTuneHook', ...\) to custom_hooks"):
        wrapper.update_params(model(BATCHES[0]))
    assert_same_bits(bits(model), before)
    wrapper.expect_selection()
    wrapper.update_params(model(BATCHES[0]))


def test_state_before_any_ranking_resumes(model):
    wrapper = build(model)
    wrapper.expect_selection()
    train(model, wrapper, range(3), {})
    again = build(Net())
    again.load_state_dict(copy.deepcopy(wrapper.state_dict()))
    assert (again.ranking, again.cohorts, again.count) == (None, [], 0)


def test_without_a_set_the_backbone_keeps_its_bits_and_the_decoder_trains(model):
    wrapper = build(model)
    wrapper.expect_selection()
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
