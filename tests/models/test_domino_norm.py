"""DominoNorm equals the norm it replaces at the start, follows eq. 1 afterwards, and never uses a stale W."""

import pytest
import torch
from mmcv.cnn import ConvModule
from mmseg.registry import MODELS
from torch import nn

from mmseg_dafm.models.layers import DominoNorm, conditioned

REPLACED = {
    'BN': lambda c: nn.BatchNorm2d(c),
    'SyncBN': lambda c: nn.BatchNorm2d(c),
    'IN': lambda c: nn.InstanceNorm2d(c, affine=True),
    'GN': lambda c: nn.GroupNorm(4, c),
    'LN': lambda c: nn.GroupNorm(1, c),
}


def pair(stats: str):
    """A replaced norm with random affine parameters, and a DominoNorm that loaded them."""
    reference = REPLACED[stats](8).double()
    with torch.no_grad():
        reference.weight.normal_()
        reference.bias.normal_()
    norm = DominoNorm(8, domain_channels=5, hidden_channels=6, stats=stats, num_groups=4).double()
    missing, unexpected = norm.load_state_dict(reference.state_dict(), strict=False)
    assert unexpected == []
    assert all(key.split('.')[0] in ('hidden', 'gamma', 'mu') for key in missing)
    return reference, norm


def excite(norm):
    """Give the modulation layers weights, as training would."""
    for layer in (norm.gamma, norm.mu):
        nn.init.normal_(layer.weight)
        nn.init.normal_(layer.bias)


@pytest.mark.parametrize('stats', REPLACED)
def test_a_fresh_norm_equals_the_replaced_one_bit_for_bit(stats):
    reference, norm = pair(stats)
    for training in (True, True, False):  # the second pass tests the running statistics
        reference.train(training)
        norm.train(training)
        x = torch.randn(3, 8, 5, 7, dtype=torch.float64) * 3 + 1
        with conditioned(norm, torch.randn(3, 5, dtype=torch.float64)):
            assert torch.equal(norm(x), reference(x))
    if hasattr(norm, 'running_mean'):
        assert torch.equal(norm.running_mean, reference.running_mean)
        assert torch.equal(norm.running_var, reference.running_var)
        assert norm.num_batches_tracked == reference.num_batches_tracked


@pytest.mark.parametrize('stats', REPLACED)
@pytest.mark.parametrize('training', [True, False])
def test_equation_1_against_an_elementwise_oracle(stats, training):
    _, norm = pair(stats)
    excite(norm)
    norm.train(training)
    x, domain = torch.randn(2, 8, 3, 4, dtype=torch.float64), torch.randn(2, 5, dtype=torch.float64)
    with conditioned(norm, domain):
        result = norm(x)
    for b in range(2):
        hidden = torch.relu(norm.hidden.weight @ domain[b] + norm.hidden.bias)
        for c in range(8):
            if stats in ('BN', 'SyncBN'):
                pool = x[:, c] if training else None
            else:
                width = {'IN': 1, 'GN': 2, 'LN': 8}[stats]
                pool = x[b, c // width * width : (c // width + 1) * width]
            # in test mode a fresh norm has running mean 0 and variance 1
            mean, var = (pool.mean(), pool.var(unbiased=False)) if pool is not None else (torch.zeros(()), torch.ones(()))
            gamma = norm.weight[c] + norm.gamma.weight[c] @ hidden + norm.gamma.bias[c]
            mu = norm.bias[c] + norm.mu.weight[c] @ hidden + norm.mu.bias[c]
            expected = (x[b, c] - mean) / (var + norm.eps).sqrt() * gamma + mu
            if not training and stats in ('BN', 'SyncBN'):
                expected = (x[b, c] - norm.running_mean[c]) / (norm.running_var[c] + norm.eps).sqrt() * gamma + mu
            assert torch.allclose(result[b, c], expected, atol=1e-12)


@pytest.mark.parametrize('stats', REPLACED)
def test_gradients_match_finite_differences_and_reach_w(stats):
    _, norm = pair(stats)
    excite(norm)
    x = torch.randn(2, 8, 2, 3, dtype=torch.float64, requires_grad=True)
    domain = torch.randn(2, 5, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, 8, 2, 3, dtype=torch.float64)

    def run(x, domain):
        with conditioned(norm, domain):
            return (norm(x) * weight).sum()

    norm.momentum = 0.0  # the running statistics must not move under the check
    assert torch.autograd.gradcheck(run, (x, domain), atol=1e-6)
    run(x, domain).backward()
    assert domain.grad.abs().sum() > 0
    assert all(p.grad is not None for p in norm.parameters())


def test_every_parameter_has_a_gradient_at_the_first_step():
    _, norm = pair('BN')
    with conditioned(norm, torch.randn(2, 5, dtype=torch.float64)):
        norm(torch.randn(2, 8, 3, 3, dtype=torch.float64)).square().sum().backward()
    assert all(p.grad is not None for p in norm.parameters())
    assert norm.gamma.weight.grad.abs().sum() > 0


def test_w_is_forgotten_on_exit_even_after_an_error():
    _, norm = pair('BN')
    head = nn.Sequential(nn.Conv2d(8, 8, 1).double(), norm)
    x = torch.randn(2, 8, 3, 3, dtype=torch.float64)
    context = conditioned(head, torch.randn(2, 5, dtype=torch.float64))
    with pytest.raises(RuntimeError, match='size of tensor|channels'), context:
        head(x[:, :3])
    with pytest.raises(RuntimeError, match='no domain embedding: use the DomainAwareEncoderDecoder'):
        head(x)


@pytest.mark.parametrize('shape', [(3, 5), (2, 4)])
def test_a_w_of_the_wrong_shape_is_refused(shape):
    _, norm = pair('IN')
    with pytest.raises(ValueError, match=r'expects a domain embedding of shape \(2, 5\)'), conditioned(norm, torch.zeros(shape)):
        norm(torch.zeros(2, 8, 3, 3, dtype=torch.float64))


def test_options_are_checked():
    with pytest.raises(ValueError, match="stats='XN' is unknown"):
        DominoNorm(8, 5, stats='XN')
    with pytest.raises(ValueError, match='num_groups=3 does not divide num_features=8'):
        DominoNorm(8, 5, stats='GN', num_groups=3)


def test_any_head_takes_it_through_norm_cfg_and_init_leaves_it_neutral():
    head = MODELS.build(
        dict(
            type='FCNHead', in_channels=8, channels=8, num_convs=1, num_classes=3,
            norm_cfg=dict(type='DominoNorm', domain_channels=5),
            init_cfg=[dict(type='Normal', std=0.5, layer='Linear'), dict(type='Normal', std=0.01, layer='Conv2d')],
        )
    )  # fmt: skip
    head.init_weights()
    assert not head.convs[0].bn.gamma.weight.any()
    with conditioned(head, torch.randn(2, 5)):
        assert head([torch.randn(2, 8, 6, 6)]).shape == (2, 3, 6, 6)


def test_a_frozen_norm_cfg_freezes_it():
    module = ConvModule(4, 8, 1, norm_cfg=dict(type='DominoNorm', domain_channels=5, requires_grad=False))
    assert not any(p.requires_grad for p in module.bn.parameters())
    assert [name for name, _ in module.named_children()][:2] == ['conv', 'bn']


def test_layer_norm_on_w_makes_it_blind_to_scale():
    norm = DominoNorm(8, 5, 6, norm_domain=True).eval()
    excite(norm)
    x, domain = torch.randn(2, 8, 3, 3), torch.randn(2, 5)
    outs = []
    for scale in (1.0, 30.0):
        with conditioned(norm, domain * scale):
            outs.append(norm(x))
    assert torch.allclose(*outs, atol=1e-3)
