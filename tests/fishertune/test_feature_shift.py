"""The perturbation against equation 6 written out, its statistics, its pairing."""

import pytest
import torch

from mmseg_dafm.fishertune.feature_shift import FeatureShift, StatisticsBank, channel_statistics, default_positions, perturb
from tests.fishertune.vit import Segmenter, samples

PATHS = ['blocks.0', 'blocks.1', 'blocks.2']


def test_equation_6_element_by_element():
    torch.manual_seed(0)
    x = torch.randn(2, 7, 3) * 2 + 1
    eps_mu, eps_sigma, spread_mu, spread_sigma = torch.randn(2, 3), torch.randn(2, 3), torch.rand(3), torch.rand(3)
    found = perturb(x, eps_mu, eps_sigma, spread_mu, spread_sigma)
    for b in range(2):
        for c in range(3):
            values = x[b, :, c].double()
            mu, sigma = values.mean(), (values.var() + 1e-6).sqrt()
            alpha, beta = mu + eps_mu[b, c] * spread_mu[c], sigma + eps_sigma[b, c] * spread_sigma[c]
            torch.testing.assert_close(found[b, :, c].double(), beta * (values - mu) / sigma + alpha, rtol=1e-5, atol=1e-6)


def test_channel_last_maps_are_like_tokens():
    torch.manual_seed(0)
    x = torch.randn(2, 4, 5, 3)
    args = torch.randn(2, 3), torch.randn(2, 3), torch.rand(3), torch.rand(3)
    torch.testing.assert_close(perturb(x, *args).reshape(2, 20, 3), perturb(x.reshape(2, 20, 3), *args))


def test_new_statistics_are_alpha_and_beta():
    torch.manual_seed(0)
    x, eps, spread = torch.randn(3, 50, 4), torch.randn(3, 4), torch.rand(4)
    mu, sigma = channel_statistics(x)
    new_mu, new_sigma = channel_statistics(perturb(x, eps, eps, spread, spread * 0.1))
    torch.testing.assert_close(new_mu, mu + eps * spread, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(new_sigma, sigma + eps * spread * 0.1, rtol=1e-3, atol=1e-3)


def test_spread_is_over_images_however_they_are_batched():
    torch.manual_seed(0)
    x = torch.randn(9, 6, 3) + torch.randn(9, 1, 3)
    whole, split = StatisticsBank(), StatisticsBank()
    whole.add(x)
    for part in x.split(2):
        split.add(part)
    mu, sigma = channel_statistics(x)
    expected = (mu.double().var(0) + 1e-6).sqrt().float(), (sigma.double().var(0) + 1e-6).sqrt().float()
    for bank in (whole, split):
        for found, wanted in zip(bank.spread(), expected, strict=True):
            torch.testing.assert_close(found, wanted)
    with pytest.raises(ValueError, match='at least two images'):
        StatisticsBank().spread()


def shift_of(model, **options):
    shift = FeatureShift(model.backbone, PATHS, prefix_tokens=1, **options)
    images = torch.stack([image for image, _ in samples(4)])
    with torch.no_grad(), shift.measuring(4):
        model(images)
    shift.set_spreads()
    return shift, images


def run(model, shift, images, seeds):
    with torch.no_grad(), shift.shifting(seeds) as drawn:
        out = model(images)
    return out, drawn


def test_a_sample_is_shifted_the_same_in_every_batch():
    model = Segmenter().eval()
    shift, images = shift_of(model)
    together, _ = run(model, shift, images, [3, 4, 5, 6])
    alone = torch.cat([run(model, shift, images[i : i + 1], [3 + i])[0] for i in range(4)])
    torch.testing.assert_close(together, alone)
    assert not torch.allclose(together, run(model, shift, images, [7, 8, 9, 10])[0])


def test_class_token_stays():
    model = Segmenter().eval()
    shift, images = shift_of(model, positions=('embedding',))
    seen = {}
    handle = model.backbone.blocks[0].register_forward_hook(lambda module, args, out: seen.update(x=args[0].clone()))
    with torch.no_grad():
        model(images)
        clean = seen['x']
        run(model, shift, images, [0, 1, 2, 3])
    handle.remove()
    assert torch.equal(seen['x'][:, 0], clean[:, 0])
    assert not torch.allclose(seen['x'][:, 1:], clean[:, 1:])


def test_blocks_are_perturbed_with_their_probability():
    model = Segmenter()
    shift, _ = shift_of(model, positions=('embedding', 1), probability=0.3)
    active = shift.draw(1, range(2000), 4)[2].double().mean()
    assert 0.26 < active < 0.34
    assert shift.draw('embedding', range(20), 4)[2].all()


@pytest.mark.parametrize(('noise', 'distinct'), [('channel', 5 * 12), ('sample', 5)])
def test_noise_granularity(noise, distinct):
    shift, _ = shift_of(Segmenter(), noise=noise)
    mu, _, _ = shift.draw('embedding', range(5), 12)
    assert mu.unique().numel() == distinct


def test_strengths_are_means_of_the_noise():
    model = Segmenter().eval()
    shift, images = shift_of(model, positions=('embedding',))
    _, drawn = run(model, shift, images, [3, 4, 5, 6])
    mu, sigma, _ = shift.draw('embedding', [3, 4, 5, 6], 12)
    torch.testing.assert_close(drawn[0][:, 0], (mu + sigma).mean(1))
    torch.testing.assert_close(drawn[0][:, 1], (mu.abs() + sigma.abs()).mean(1))


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(positions=(3,)), 'block numbers 0 to 2'),
        (dict(positions=()), 'block numbers'),
        (dict(noise='pixel'), "noise='pixel' is unknown"),
        (dict(probability=1.5), 'must lie in'),
        (dict(factor=-1.0), 'must not be negative'),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        FeatureShift(Segmenter().backbone, PATHS, **options)


def test_positions_that_no_features_reach():
    shift = FeatureShift(Segmenter().backbone, PATHS)
    with pytest.raises(ValueError, match='no features were seen'):
        shift.set_spreads()


def test_default_positions_of_small_models():
    assert default_positions(3) == ('embedding', 0, 1)
    assert default_positions(12) == ('embedding', 3, 5, 7)
