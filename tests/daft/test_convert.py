"""convert_bn: what it computes, what it keeps, what it refuses."""

import copy
import random

import numpy as np
import pytest
import torch
from torch import nn

from mmseg_dafm.daft import convert_bn, convert_parameters, estimate_statistics, mix_statistics, select_layers
from tests.daft.networks import Net, converted_by_hand, images, norms, randomise

FIELDS = ('running_mean', 'running_var', 'weight', 'bias')


def relative(new: torch.Tensor, old: torch.Tensor) -> float:
    return ((new - old).norm() / old.norm()).item()


def outputs(model, batches, train=False):
    model = copy.deepcopy(model).train(train)
    with torch.no_grad():
        return torch.cat([model(batch) for batch in batches])


@pytest.mark.parametrize('estimator', ['batch', 'pooled'])
@pytest.mark.parametrize('seed', range(3))
def test_it_equals_a_straightforward_float64_implementation(seed, estimator):
    torch.manual_seed(seed)
    model = randomise(Net(), seed).double()
    batches = [*images(3, 6, seed=seed), *images(1, 2, seed=seed + 50)]  # the last one is smaller
    expected = converted_by_hand(copy.deepcopy(model), batches, pooled=estimator == 'pooled')
    convert_bn(model, [batch.double() for batch in batches], estimator=estimator)
    layers = dict(model.named_modules())
    assert len(expected) == 6
    for name, values in expected.items():
        for field, value in zip(FIELDS, values, strict=True):
            torch.testing.assert_close(getattr(layers[name], field).detach(), value, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(('dtype', 'limit'), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize('hostile', [False, True])
def test_the_eval_mode_function_is_kept(dtype, limit, hostile):
    torch.manual_seed(0)
    model = randomise(Net(), hostile=hostile).to(dtype)
    batches = [batch.to(dtype) for batch in images(4, 8)]
    other = [batch.to(dtype) * 3 - 1 for batch in images(2, 8, seed=9)]
    before = outputs(model, batches), outputs(model, other)
    assert before[0].isfinite().all()
    report = convert_bn(model, batches)
    assert relative(outputs(model, batches), before[0]) < limit
    assert relative(outputs(model, other), before[1]) < limit, 'on data that was not estimated from, too'
    assert report.verify_error < limit


def test_any_statistics_keep_the_function_so_that_it_is_no_proof_of_right_ones():
    gamma, beta, mean, var, new_mean = torch.randn(5, 7, dtype=torch.float64).unbind()
    new_var = torch.rand(7, dtype=torch.float64) * 100
    new_gamma, new_beta = convert_parameters(gamma, beta, mean, var.abs(), new_mean, new_var, 1e-5)
    z = torch.randn(50, 7, dtype=torch.float64)
    old = nn.functional.batch_norm(z, mean, var.abs(), gamma, beta, eps=1e-5)
    new = nn.functional.batch_norm(z, new_mean, new_var, new_gamma, new_beta, eps=1e-5)
    torch.testing.assert_close(new, old, rtol=1e-10, atol=1e-10)


def by_train_mode(model, batches):
    """Statistics as precise-BN tools estimate them: in train mode, then equation 5."""
    model = copy.deepcopy(model)
    twin = copy.deepcopy(model).train()
    for layer in norms(twin):
        layer.reset_running_stats()
        layer.momentum = None
    with torch.no_grad():
        for batch in batches:
            twin(batch)
        for layer, other in zip(norms(model), norms(twin), strict=True):
            weight, bias = convert_parameters(
                layer.weight, layer.bias, layer.running_mean, layer.running_var, other.running_mean, other.running_var, layer.eps
            )
            for field, value in zip(FIELDS, (other.running_mean, other.running_var, weight, bias), strict=True):
                getattr(layer, field).copy_(value)
    return model


def test_train_mode_comes_close_to_the_pretrained_function_and_train_mode_estimates_do_not():
    torch.manual_seed(0)
    model = randomise(Net(16))
    model.head = nn.Identity()
    batches = images(6, 16, size=16)
    wanted = outputs(model, batches)
    distance = lambda net: relative(outputs(net, batches, train=True), wanted)  # noqa: E731
    converted = copy.deepcopy(model)
    convert_bn(converted, batches)
    assert distance(converted) < 0.15
    assert distance(converted) < 0.3 * distance(model)
    assert distance(converted) < 0.5 * distance(by_train_mode(model, batches))


def test_converting_twice_on_the_same_data_changes_nothing():
    model = randomise(Net())
    batches = images(3, 8)
    convert_bn(model, batches)
    once = [getattr(layer, field).clone() for layer in norms(model) for field in FIELDS]
    report = convert_bn(model, batches)
    again = [getattr(layer, field) for layer in norms(model) for field in FIELDS]
    for old, new in zip(once, again, strict=True):
        torch.testing.assert_close(new, old, rtol=1e-5, atol=1e-6)
    assert abs(report.summary['ratio_max'] - 1) < 1e-5
    assert report.summary['shift_max'] < 1e-4


def test_everything_else_is_left_as_it_was():
    model = randomise(Net(), seed=3)
    model.train()
    model.backbone[1].eval()
    model.backbone[0].conv.weight.requires_grad_(False)
    model.backbone[0].bn.weight.grad = torch.ones(8)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    objects = [id(value) for value in (*model.parameters(), *model.buffers())]
    modes = [module.training for module in model.modules()]
    others = {key: value.clone() for key, value in model.state_dict().items() if 'conv' in key or 'tracked' in key}
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()

    def greedy(batch):  # draws from all generators
        random.random(), np.random.rand(), torch.rand(1)
        return model(batch)

    convert_bn(model, images(2, 4), forward=greedy)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == states[:2]
    assert torch.equal(torch.get_rng_state(), states[2])
    assert [id(value) for value in (*model.parameters(), *model.buffers())] == objects
    assert optimizer.param_groups[0]['params'][1] is model.backbone[0].bn.weight
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(model.state_dict()[key], value) for key, value in others.items())
    assert torch.equal(model.backbone[0].bn.weight.grad, torch.ones(8))
    assert not any(module._forward_pre_hooks for module in model.modules())
    assert not model.backbone[0].conv.weight.requires_grad
    assert model.backbone[0].bn.weight.requires_grad


@pytest.mark.parametrize('how', ['nan image', 'error in forward', 'no data', 'wrong conversion'])
def test_after_an_error_the_model_is_as_before(how):
    model = randomise(Net())
    before = copy.deepcopy(model.state_dict())
    batches, forward, error, text = images(3, 4), model, ValueError, 'not finite in'
    if how == 'nan image':
        batches[1][0, 0, 0, 0] = float('nan')
    elif how == 'no data':
        batches, text = [], 'no target batches'
    elif how == 'error in forward':
        forward, error, text = (lambda batch: (model(batch), 1 / 0)), ZeroDivisionError, 'division'
    else:  # a network that is random in test mode cannot be verified
        forward, error, text = (lambda batch: model(batch) + torch.rand(1)), RuntimeError, 'it was restored'
    with pytest.raises(error, match=text):
        convert_bn(model, batches, forward=forward)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not any(module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize('error', [MemoryError, KeyboardInterrupt])
@pytest.mark.parametrize('mode', ['convert', 'stats'])
def test_an_error_in_the_verifying_pass_restores_the_model(error, mode):
    model = randomise(Net())
    before = copy.deepcopy(model.state_dict())
    calls = []

    def forward(batch):
        calls.append(not torch.equal(model.backbone[0].bn.running_mean, before['backbone.0.bn.running_mean']))
        if len(calls) > 3:
            raise error('in the fourth pass')
        return model(batch)

    with pytest.raises(error, match='in the fourth pass'):
        convert_bn(model, images(3, 4), mode=mode, forward=forward)
    assert calls == [False] * 3 + [True], 'the fourth pass saw the converted network'
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize('mode', ['convert', 'stats'])
def test_statistics_beyond_half_precision_are_refused_and_nothing_is_changed(mode):
    model = randomise(Net()).backbone.half()
    before = copy.deepcopy(model.state_dict())
    batches = [400 * batch.half() for batch in images(2, 4)]
    with pytest.raises(ValueError, match=r'the new running_var of batch norm layer 0.bn is beyond the range of float16: .*float'):
        convert_bn(model, batches, mode=mode)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert convert_bn(model, [batch.half() for batch in images(2, 4)], mode=mode).summary['layers'] == 5


def test_statistics_mode_and_the_mixture():
    model = randomise(Net())
    batches = images(3, 8)
    estimate = estimate_statistics(model, batches, select_layers(model).layers).statistics
    source = {
        name: (layer.running_mean.clone(), layer.running_var.clone()) for name, layer in select_layers(model).layers.items()
    }
    mixed = copy.deepcopy(model)
    report = convert_bn(mixed, batches, mode='stats', source_weight=0.25)
    for name, layer in select_layers(mixed).layers.items():
        for field, old, new in zip(FIELDS[:2], source[name], estimate[name], strict=True):
            torch.testing.assert_close(getattr(layer, field), (0.25 * old.double() + 0.75 * new).float())
        twin = dict(model.named_modules())[name]
        assert torch.equal(layer.weight, twin.weight)
        assert torch.equal(layer.bias, twin.bias)
    assert report.verify_error > 1e-2, 'statistics alone change the function'
    convert_bn(model, batches, source_weight=1.0)
    for name, layer in select_layers(model).layers.items():
        torch.testing.assert_close(layer.running_mean, source[name][0])
    assert torch.equal(
        mix_statistics(source['backbone.0.bn'], source['backbone.1.bn'], 0.0)[1].float(), source['backbone.1.bn'][1]
    )


def test_channels_beyond_max_ratio_keep_their_statistics_and_the_function_is_kept():
    model = randomise(Net())
    with torch.no_grad():
        model.backbone[0].bn.running_var[2] = 1e-9
    before = model.backbone[0].bn.running_mean[2].item(), model.backbone[0].bn.weight[2].item()
    batches = images(2, 8)
    expected = outputs(model, batches)
    report = convert_bn(model, batches, max_ratio=50)
    assert report.layers['backbone.0.bn'].kept == 1
    assert (model.backbone[0].bn.running_mean[2].item(), model.backbone[0].bn.weight[2].item()) == pytest.approx(before)
    assert relative(outputs(model, batches), expected) < 1e-5
    assert report.summary['ratio_max'] <= 50
    assert 'kept their source statistics' in str(report)


def test_only_the_named_parts_are_converted():
    model = randomise(Net())
    head = copy.deepcopy(model.head.state_dict())
    report = convert_bn(model, images(2, 4), ['backbone'])
    assert set(report.layers) == {f'backbone.{i}.bn' for i in range(5)}
    assert all(torch.equal(value, head[key]) for key, value in model.head.state_dict().items())
    assert set(report.to_dict()['layers']) == set(report.layers)
    assert '5 layers, 64 channels: convert, estimator batch, 2 batches' in str(report)


def test_num_batches_and_tuples():
    model, twin = randomise(Net()), randomise(Net())
    twin.load_state_dict(model.state_dict())
    batches = images(5, 4)
    report = convert_bn(model, [(batch, 'label') for batch in batches], num_batches=2)
    convert_bn(twin, batches[:2])
    assert report.num_batches == 2
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), twin.state_dict().values(), strict=True))


def test_a_cumulative_average_goes_on_from_the_batches_that_were_used():
    model = randomise(Net(momentum=None))
    convert_bn(model, images(7, 4))
    assert [layer.num_batches_tracked.item() for layer in norms(model)] == [7] * 5 + [0]  # the head's has a momentum


def test_autocast_is_off_unless_asked_for():
    model, twin = randomise(Net()), randomise(Net())
    twin.load_state_dict(model.state_dict())
    batches = images(2, 4)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        convert_bn(model, batches)
    convert_bn(twin, batches)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), twin.state_dict().values(), strict=True))
    half = randomise(Net())
    half.load_state_dict(model.state_dict())
    with torch.autocast('cpu', dtype=torch.bfloat16):
        convert_bn(half, batches, amp=True)
    first, second = half.backbone[2].bn, model.backbone[2].bn
    sigma = second.running_var.sqrt()
    assert 0 < ((first.running_mean - second.running_mean).abs() / sigma).max() < 0.05


@pytest.mark.parametrize(
    ('options', 'text'),
    [
        (dict(mode='both'), "mode='both' is unknown"),
        (dict(estimator='ema'), "estimator='ema' is unknown"),
        (dict(source_weight=1.5), r'source_weight must lie in \[0, 1\], got 1.5'),
        (dict(num_batches=0), 'num_batches must be at least 1'),
        (dict(max_ratio=0.5), 'max_ratio must be above 1'),
        (dict(modules=['neck']), "Net has no part 'neck'; it has backbone, head"),
    ],
)
def test_bad_arguments_are_named(options, text):
    with pytest.raises(ValueError, match=text):
        convert_bn(randomise(Net()), images(1, 4), **options)


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs CUDA')
@pytest.mark.parametrize('amp', [False, True])
def test_a_gpu_converts_as_the_cpu_does(amp):
    model, twin = randomise(Net()), randomise(Net())
    twin.load_state_dict(model.state_dict())
    batches = images(3, 8)
    convert_bn(model, batches)
    twin.cuda()
    with torch.autocast('cuda', dtype=torch.bfloat16, enabled=amp):
        report = convert_bn(twin, batches, amp=amp)
    assert report.verify_error < (5e-2 if amp else 2e-3)
    for one, other in zip(norms(model), norms(twin), strict=True):
        shift = (one.running_mean - other.running_mean.cpu()).abs() / one.running_var.sqrt()
        assert shift.max() < (0.05 if amp else 1e-3)
