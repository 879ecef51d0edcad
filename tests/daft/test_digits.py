"""What conversion does to fine-tuning, on a network and a domain shift that a CPU can train in seconds.

Measured with these seeds: cosine of features before and after .38 (FT) against .92 (FT after conversion), .36 against .88 for
integrated LP-FT and DAFT, at one to two points less in-domain accuracy.

There is no threshold on accuracy out of domain, because conversion does not reliably raise it on images this simple. Over seven
further changes (gradient turned or mirrored, noise, brightness, contrast, shift, blur) its mean was 57 (FT) against 61 %, and 57
(integrated) against 58 % (DAFT): far ahead on brighter images, level or up to 15 points behind elsewhere.
"""

import copy

import pytest
import torch
from torch.nn import functional as F

from mmseg_dafm.daft import convert_bn
from tests.daft.digits import BATCH, digits, mean_of, new_light, outputs, pretrained, run

pytestmark = pytest.mark.slow
SEEDS = range(3)


@pytest.fixture(scope='module')
def source():
    return pretrained()


def in_train_mode(features, images):
    """Features under batch statistics, of one epoch of batches."""
    features = copy.deepcopy(features).train()
    with torch.no_grad():
        return torch.cat([features(batch) for batch in images.split(BATCH)])


def test_converted_features_start_where_the_pretrained_ones_are(source):
    images = new_light(digits()[0][900:1220])
    converted = copy.deepcopy(source)
    convert_bn(converted, images.split(BATCH))
    wanted = outputs(source, images)
    plain, new = in_train_mode(source, images), in_train_mode(converted, images)
    norm = lambda features: features.norm(dim=1).mean().item()  # noqa: E731
    assert norm(new) == pytest.approx(norm(wanted), rel=0.05)
    assert norm(plain) < 0.6 * norm(wanted)
    assert F.cosine_similarity(new, wanted).mean() > 0.99
    assert F.cosine_similarity(plain, wanted).mean() < 0.7


@pytest.fixture(scope='module')
def results(source):
    """Rates as the notes chose them by validation: FT 0.1, FT + conversion 0.03, two rates 0.1 and 0.03."""
    methods = {
        'FT': (False, False, (0.1, 0.1)),
        'FT + conversion': (True, False, (0.03, 0.03)),
        'integrated': (False, True, (0.1, 0.03)),
        'DAFT': (True, True, (0.1, 0.03)),
        'DAFT, large head rate': (True, True, (0.03, 0.3)),
    }
    return {name: mean_of(lambda seed, options=options: run(source, seed, *options), SEEDS) for name, options in methods.items()}


@pytest.mark.parametrize(('with_conversion', 'without'), [('FT + conversion', 'FT'), ('DAFT', 'integrated')])
def test_conversion_keeps_the_features(results, with_conversion, without):
    assert results[with_conversion]['cosine'] > results[without]['cosine'] + 0.2
    assert results[with_conversion]['cosine'] > 0.8


def test_every_method_learns_the_target(results):
    assert all(results[name]['accuracy'] > 90 for name in ('FT', 'FT + conversion', 'integrated', 'DAFT'))


def test_a_large_head_rate_wrecks_converted_features(results):
    # their norm is three times the unconverted one's, so the head's effective step is larger than it looks
    assert results['DAFT, large head rate']['cosine'] < results['DAFT']['cosine'] - 0.2
