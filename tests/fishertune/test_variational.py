"""Equation 14, and the two estimators that reach it, on problems with a known answer."""

import math

import pytest
import torch

from mmseg_dafm.fishertune.variational import (
    LogPrecision,
    WeightNoise,
    expected_loss,
    fisher_of,
    free_energy,
    free_energy_gradient,
    gamma_of,
    kl_divergence,
    posterior_width,
    precision_of,
    prior_widths,
    von_update,
)

H, GAMMA, TAU = 3.0, 0.5, 0.7


def slow_free_energy(precision, fisher=H, gamma=GAMMA, tau=TAU):
    """E_q[L] + gamma KL for the quadratic loss 1/2 fisher theta^2 and q = N(0, 1 / precision)."""
    return 0.5 * fisher / precision + gamma * 0.5 * (tau**-2 / precision - 1 + math.log(tau**2) + math.log(precision))


def test_equations_11_to_13_against_torch_distributions():
    generator = torch.Generator().manual_seed(0)
    precision, fisher = (torch.rand(6, generator=generator, dtype=torch.float64) + 0.1 for _ in range(2))
    mean = torch.randn(6, generator=generator, dtype=torch.float64)
    normal = torch.distributions.Normal
    q, prior = normal(mean, precision**-0.5), normal(torch.zeros(6, dtype=torch.float64), TAU)
    kl = torch.distributions.kl_divergence(q, prior).sum()
    torch.testing.assert_close(kl_divergence(precision, TAU, float(mean.norm())), kl)
    # E[1/2 F (theta - mean)^2] under q is exact for a quadratic loss
    expected = sum(0.5 * float(f) / float(p) for f, p in zip(fisher, precision, strict=True)) + 2.0
    assert float(expected_loss(2.0, fisher, precision)) == pytest.approx(expected)
    centred = torch.distributions.kl_divergence(normal(torch.zeros_like(mean), precision**-0.5), prior).sum()
    torch.testing.assert_close(free_energy(2.0, fisher, precision, GAMMA, TAU), expected + GAMMA * centred)
    one = torch.tensor([1.7], dtype=torch.float64)
    assert float(free_energy(0.0, torch.full_like(one, H), one, GAMMA, TAU)) == pytest.approx(slow_free_energy(1.7))


def test_equation_14_is_the_minimum_of_the_free_energy():
    best = precision_of(torch.tensor([H], dtype=torch.float64), GAMMA, TAU)
    energy = lambda precision: float(free_energy(0.0, torch.tensor([H], dtype=torch.float64), precision, GAMMA, TAU))  # noqa: E731
    assert all(energy(best) < energy(best * factor) for factor in (0.5, 0.99, 1.01, 2.0))
    assert float(fisher_of(best, GAMMA, TAU)) == pytest.approx(H)
    assert float(fisher_of(torch.tensor(0.1), GAMMA, TAU)) == 0
    assert gamma_of(GAMMA * TAU**-2, TAU) == pytest.approx(GAMMA)


def test_the_gradient_is_that_of_the_free_energy():
    """The mean over draws of a quadratic loss, against autograd of equation 11."""
    log = torch.tensor([0.3], dtype=torch.float64, requires_grad=True)
    free_energy(0.0, torch.tensor([H], dtype=torch.float64), log.exp(), GAMMA, TAU).backward()
    noise = torch.randn(10**6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    width = torch.exp(-0.5 * log.detach())
    found = free_energy_gradient(H * width * noise, noise, width, GAMMA, TAU).mean()
    assert float(found) == pytest.approx(float(log.grad), rel=0.01)


def test_von_with_rate_1_over_k_is_equation_14_of_the_mean():
    squares = torch.rand(5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    precision = torch.full((4,), TAU**-2, dtype=torch.float64)
    for k, square in enumerate(squares, 1):
        precision = von_update(precision, square, GAMMA, TAU, 1 / k)
        torch.testing.assert_close(precision, precision_of(squares[:k].mean(0), GAMMA, TAU))
        torch.testing.assert_close(precision**-0.5, posterior_width(squares[:k].mean(0), TAU, GAMMA * TAU**-2))


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
