"""Equation 14, and the two estimators that reach it, on problems with a known answer."""

import math

import pytest
import torch

from mmseg_dafm.fishertune.variational import LogPrecision, WeightNoise, fisher_of, posterior_width, precision_of, prior_widths

H, GAMMA, TAU = 3.0, 0.5, 0.7


def free_energy(precision, fisher=H, gamma=GAMMA, tau=TAU):
    """E_q[L] + gamma KL for the quadratic loss 1/2 fisher theta^2 and q = N(0, 1 / precision)."""
    return 0.5 * fisher / precision + gamma * 0.5 * (tau**-2 / precision - 1 + math.log(tau**2) + math.log(precision))


def test_equation_14_is_the_minimum_of_the_free_energy():
    best = float(precision_of(torch.tensor(H, dtype=torch.float64), GAMMA, TAU))
    assert all(free_energy(best) < free_energy(best * factor) for factor in (0.5, 0.99, 1.01, 2.0))
    assert float(fisher_of(torch.tensor(best, dtype=torch.float64), GAMMA, TAU)) == pytest.approx(H)
    assert float(fisher_of(torch.tensor(0.1), GAMMA, TAU)) == 0


def test_width_is_the_inverse_root_of_the_precision():
    F = torch.tensor([0.0, 1.0, 30.0], dtype=torch.float64)
    torch.testing.assert_close(posterior_width(F, TAU, GAMMA * TAU**-2), precision_of(F, GAMMA, TAU) ** -0.5)


def test_sgvb_reaches_equation_14_on_a_quadratic():
    """Weights reparameterised: g = h (theta - theta_pt) at each draw, 4,000 entries of one curvature."""
    tensors = {'w': torch.zeros(4000, dtype=torch.float64)}
    posterior = LogPrecision(tensors, {'w': GAMMA}, {'w': TAU}, lr=0.02)
    generator = torch.Generator().manual_seed(0)
    torch.testing.assert_close(posterior.widths()['w'], torch.full((4000,), TAU, dtype=torch.float64))
    trace = []
    for step in range(900):
        noise = torch.randn(4000, generator=generator, dtype=torch.float64)
        posterior.step({'w': H * posterior.widths()['w'] * noise}, {'w': noise})
        if step >= 500:
            trace.append(posterior.logs['w'].mean())
    expected = math.log(H / GAMMA + TAU**-2)
    assert float(torch.stack(trace).mean()) == pytest.approx(expected, abs=0.06)


def test_adam_leaves_the_start_slowly():
    """After a hundred steps of 1e-2 the precision is still near the prior's."""
    tensors = {'w': torch.zeros(1000, dtype=torch.float64)}
    posterior, generator = LogPrecision(tensors, {'w': GAMMA}, {'w': TAU}), torch.Generator().manual_seed(0)
    for _ in range(100):
        noise = torch.randn(1000, generator=generator, dtype=torch.float64)
        posterior.step({'w': H * posterior.widths()['w'] * noise}, {'w': noise})
    assert float(posterior.logs['w'].exp().mean()) < 0.7 * (H / GAMMA + TAU**-2)


def test_von_reaches_its_fixed_point():
    """Losses h/2 (theta - y)^2, y ~ N(0, 1/h): E_q[g^2] = h + h^2 / Lambda, which gamma Lambda - gamma tau^-2 equals."""
    generator = torch.Generator().manual_seed(0)
    size, rounds = 20_000, 400
    total, m = torch.zeros(size, dtype=torch.float64), GAMMA * TAU**-2
    for k in range(rounds):
        width = posterior_width(total / k, TAU, m) if k else torch.full((size,), TAU, dtype=torch.float64)
        theta = width * torch.randn(size, generator=generator, dtype=torch.float64)
        y = H**-0.5 * torch.randn(size, generator=generator, dtype=torch.float64)
        total += (H * (theta - y)) ** 2
    # the root of gamma L - gamma tau^-2 = h + h^2 / L
    b = H + m
    root = (b + math.sqrt(b * b + 4 * GAMMA * H * H)) / (2 * GAMMA)
    F = H + H * H / root
    assert float((total / rounds).mean()) == pytest.approx(F, rel=0.03)
    # where the posterior is narrow this is plain F
    assert H < F < 1.5 * H


def test_noise_is_paired_and_weights_come_back():
    tensors = {n: torch.nn.Parameter(torch.randn(5, 4)) for n in 'ab'}
    noise, before = WeightNoise(tensors), {n: t.detach().clone() for n, t in tensors.items()}
    with noise.drawn(3, {'a': 0.1, 'b': 0.2}):
        drawn = {n: t.detach().clone() for n, t in tensors.items()}
    assert all(torch.equal(before[n], t) for n, t in tensors.items())
    same = dict(noise.epsilon(3))
    torch.testing.assert_close(drawn['b'], before['b'] + 0.2 * same['b'])
    assert not torch.equal(same['a'], same['b'])
    assert not torch.equal(same['a'], dict(noise.epsilon(4))['a'])


def test_prior_width_follows_the_weights():
    found = prior_widths({'w': torch.tensor([3.0, 4.0])}, 0.1)
    assert found['w'] == pytest.approx(0.1 * math.sqrt(12.5))
    with pytest.raises(ValueError, match='w is all zero'):
        prior_widths({'w': torch.zeros(3)})
