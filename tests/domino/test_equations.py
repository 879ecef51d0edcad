"""Domino's equations against slow float64 oracles."""

import math

import pytest
import torch

from mmseg_dafm.domino import FUSE_MODES, domain_alpha, domain_embedding, entropy, fuse_domain, modulate


def test_alpha_and_w_against_a_loop():
    image, text = torch.randn(3, 6, dtype=torch.float64), torch.randn(4, 6, dtype=torch.float64) * 9
    for temperature in (1.0, 0.01, 0.3):
        alpha = domain_alpha(image, text, temperature)
        total = domain_embedding(alpha, text)
        for b in range(3):
            cosines = [float(image[b] @ d / (image[b].norm() * d.norm())) for d in text]
            weights = [math.exp(c / temperature - max(cosines) / temperature) for c in cosines]
            expected = [w / sum(weights) for w in weights]
            assert torch.allclose(alpha[b], torch.tensor(expected, dtype=torch.float64), atol=1e-12)
            w = sum(a * d for a, d in zip(expected, text, strict=True))  # un-normalised descriptions
            assert torch.allclose(total[b], w, atol=1e-10)


def test_temperature_goes_from_uniform_to_one_hot():
    cosines = torch.tensor([0.18, 0.20, 0.22, 0.24, 0.26])
    text = torch.stack([cosines, (1 - cosines**2).sqrt()], 1)
    image = torch.tensor([[1.0, 0.0]])
    literal, sharp, limit = (domain_alpha(image, text, t) for t in (1.0, 0.01, 1e-5))
    assert literal.max() - literal.min() < 0.02
    assert abs(entropy(literal).item() - math.log(5)) < 1e-3
    assert sharp[0, -1].item() == pytest.approx(0.865, abs=1e-3)
    assert torch.allclose(limit, torch.tensor([[0.0, 0, 0, 0, 1]]))
    assert entropy(limit) < 1e-6


def test_half_precision_autocast_does_not_touch_alpha_and_w():
    image, text = torch.randn(2, 6), torch.randn(4, 6)
    expected = domain_embedding(domain_alpha(image, text), text)
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(domain_embedding(domain_alpha(image, text), text), expected)


def test_the_scale_of_w():
    alpha, descriptions = torch.rand(2, 3).softmax(-1), torch.randn(3, 5)
    assert torch.equal(domain_embedding(alpha, descriptions, 0.5), 0.5 * domain_embedding(alpha, descriptions))


@pytest.mark.parametrize('batched', [False, True])
def test_fusion_against_a_loop(batched):
    tokens, domain = torch.randn(2, 4, 3, dtype=torch.float64), torch.randn(2, 3, dtype=torch.float64)
    given = tokens if batched else tokens[0]
    for b in range(2):
        own = tokens[b if batched else 0]
        for k in range(4):
            assert torch.equal(fuse_domain(given, domain, 'add')[b, k], own[k] + domain[b])
            assert torch.equal(fuse_domain(given, domain, 'sub')[b, k], own[k] - domain[b])
            assert torch.equal(fuse_domain(given, domain, 'token')[b, k], own[k])
        assert torch.equal(fuse_domain(given, domain, 'token')[b, 4], domain[b])
    assert torch.equal(fuse_domain(given, None, 'none'), tokens if batched else tokens[:1])


@pytest.mark.parametrize(
    ('domain', 'mode', 'message'),
    [
        (torch.zeros(2, 3), 'multiply', 'is unknown'),
        (None, 'add', 'needs the domain embedding W'),
        (torch.zeros(2, 4), 'sub', 'the domain embedding has 4 channels and the class tokens have 3'),
    ],
)
def test_fusion_refuses(domain, mode, message):
    with pytest.raises(ValueError, match=message):
        fuse_domain(torch.zeros(5, 3), domain, mode)
    assert 'multiply' not in FUSE_MODES


def test_equation_1_against_an_elementwise_oracle():
    f = torch.randn(2, 3, 4, 5, dtype=torch.float64) * 3 + 1
    w, b = torch.randn(3, dtype=torch.float64), torch.randn(3, dtype=torch.float64)
    g, m = torch.randn(2, 3, dtype=torch.float64), torch.randn(2, 3, dtype=torch.float64)
    mean, deviation = f.mean((0, 2, 3)), f.var((0, 2, 3), unbiased=False).sqrt()
    unit = (f - mean[:, None, None]) / deviation[:, None, None]
    found = modulate(w[:, None, None] * unit + b[:, None, None], unit, g, m)
    for i in range(2):
        for c in range(3):
            for y in range(4):
                for x in range(5):
                    expected = (f[i, c, y, x] - mean[c]) / deviation[c] * (w[c] + g[i, c]) + b[c] + m[i, c]
                    assert math.isclose(found[i, c, y, x], expected, rel_tol=1e-12, abs_tol=1e-12)


def test_no_modulation_leaves_the_norm_to_the_bit():
    affine, unit = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5)
    zero = torch.zeros(2, 3)
    assert torch.equal(modulate(affine, unit, zero, zero), affine)
