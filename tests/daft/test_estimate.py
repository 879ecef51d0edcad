"""What the one pass in test mode notices: inputs given by name, batches of a single image, the scale of the features."""

import warnings

import pytest
import torch
from torch import nn

from mmseg_dafm.daft import convert_bn
from mmseg_dafm.daft.convert import SINGLE_IMAGES
from tests.daft.networks import Block, Net, images, norms, randomise


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


def compiled(how: str, backend: str = 'aot_eager'):
    """A network that is compiled, or holds a compiled part."""
    torch.compiler.reset()
    torch.manual_seed(0)
    model = randomise(Net())
    if how == 'torch.compile(model)':
        return torch.compile(model, backend=backend)
    if how == 'model.compile()':
        model.compile(backend=backend)
    elif how == 'forward':
        model.forward = torch.compile(model.forward, backend=backend)
    elif how == 'a part':
        model.backbone = torch.compile(model.backbone, backend=backend)
    elif how == 'a part in place':
        model.backbone[2].compile(backend=backend)
    return model


WAYS = ('torch.compile(model)', 'model.compile()', 'forward', 'a part', 'a part in place')


@pytest.mark.parametrize('before', [None, 'test', 'train'])
@pytest.mark.parametrize('how', WAYS)
def test_a_compiled_model_is_converted_as_an_eager_one(how, before):
    plain, model = compiled('nothing'), compiled(how)
    batches = images(4, 6)
    if before:
        # run first: the compiled code knows no hooks
        for each in (plain, model):
            each.train(before == 'train')
            each(batches[0])
    reports = [convert_bn(each, batches) for each in (plain, model)]
    layers = list(zip(norms(plain), norms(model), strict=True))
    assert len(layers) == 6
    for one, other in layers:
        for name in ('running_mean', 'running_var', 'weight', 'bias'):
            torch.testing.assert_close(getattr(other, name), getattr(one, name), rtol=1e-6, atol=1e-6)
    assert [each.batches for each in reports[1].layers.values()] == [4] * 6
    assert not reports[1].skipped
    for mode in (False, True):
        torch.testing.assert_close(model.train(mode)(batches[1]), plain.train(mode)(batches[1]), rtol=1e-4, atol=1e-5)


def test_parts_of_a_compiled_model_have_their_own_names():
    report = convert_bn(compiled('torch.compile(model)'), images(2, 4), ['backbone'])
    assert list(report.layers) == [f'backbone.{i}.bn' for i in range(5)]


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
