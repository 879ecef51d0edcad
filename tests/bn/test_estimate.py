"""What the one pass in test mode notices: inputs given by name, batches of a single image, the scale of the features."""

import warnings

import pytest
import torch
from torch import nn

from mmseg_dafm.bn import convert_bn
from mmseg_dafm.bn.convert import SINGLE_IMAGES
from tests.bn.networks import Block, Net, images, norms, randomise


class NamedInput(Block):
    """Hands batch norm its input by name."""

    def forward(self, x):
        return torch.relu(self.bn(input=self.conv(x)))


def test_an_input_that_is_given_by_name_counts():
    model, twin = (nn.Sequential(kind(3, 4, 1, 1, 1)) for kind in (NamedInput, Block))
    twin.load_state_dict(randomise(model).state_dict())
    assert not twin[0].residual
    reports = [convert_bn(each, images(3, 4)) for each in (model, twin)]
    assert reports[0] == reports[1]
    assert all(torch.equal(new, twin.state_dict()[key]) for key, new in model.state_dict().items())


def backbone():
    return randomise(Net()).backbone


def test_single_images_are_warned_of_with_the_remedy_and_are_convertible():
    with pytest.warns(UserWarning, match="each batch holds one image: .* use estimator='pooled'"):
        report = convert_bn(backbone(), images(4, 1))
    assert report.warnings == [SINGLE_IMAGES]
    assert f'warning: {SINGLE_IMAGES}' in str(report)
    # what the sentence says, on images that differ in brightness
    batches = [batch + 2 * step for step, batch in enumerate(images(4, 1))]
    one, pooled = backbone(), backbone()
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        convert_bn(one, batches)
    convert_bn(pooled, batches, estimator='pooled')
    assert (norms(one)[0].running_var / norms(pooled)[0].running_var).median() < 0.8


@pytest.mark.parametrize(
    ('sizes', 'options'),
    [((1, 1), dict(estimator='pooled')), ((2, 2), {}), ((4, 1), {})],
    ids=['pooled', 'two images', 'one image in the last batch'],
)
def test_others_are_not_warned(sizes, options):
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        report = convert_bn(backbone(), [batch for size in sizes for batch in images(1, size)], **options)
    assert not report.warnings


def test_the_feature_norm_is_that_of_the_pooled_last_map_before_and_after():
    model = backbone()
    batches = images(3, 4)
    norm = lambda: model(batches[-1]).mean((2, 3)).norm(dim=1).mean().item()  # noqa: E731
    before = norm()
    report = convert_bn(model, batches, forward=lambda batch: (model(batch[:1]), model(batch)))
    assert report.feature_norm == pytest.approx(before, rel=1e-5) == pytest.approx(norm(), rel=1e-4)
    assert f'mean norm of the pooled features: {before:.3g}' in str(report)
    assert report.to_dict()['feature_norm'] == report.feature_norm
    flat = nn.Sequential(model, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert convert_bn(flat, batches).feature_norm == pytest.approx(before, rel=1e-4)
    assert convert_bn(model, batches, forward=lambda batch: dict(loss=model(batch).mean())).feature_norm is None
    assert convert_bn(model, batches, mode='stats').feature_norm is None
