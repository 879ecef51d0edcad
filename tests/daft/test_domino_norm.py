"""Conversion of Domino's norms, whose affine part depends on W as well."""

import copy

import pytest
import torch
from torch import nn

from mmseg_dafm.daft import convert_bn
from mmseg_dafm.models.layers.domino_norm import DominoNorm, conditioned
from tests.daft.networks import images


class Net(nn.Module):
    """A convolution, a DominoNorm with a trained modulation, and a W that depends on the image."""

    def __init__(self, stats: str = 'BN') -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 6, 3), DominoNorm(6, domain_channels=5, hidden_channels=4, stats=stats)
        self.embed = nn.Linear(3, 5)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.7)
        if stats == 'BN':
            self.norm.running_mean.normal_()
            self.norm.running_var.uniform_(0.1, 3)

    def forward(self, x):
        with conditioned(self, self.embed(x.mean((2, 3)))):
            return self.norm(self.conv(x))


@pytest.mark.parametrize(('dtype', 'limit'), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_the_function_is_kept_for_every_w(dtype, limit):
    model = Net().to(dtype).eval()
    batches = [batch.to(dtype) for batch in images(3, 8)]
    other = torch.randn(4, 3, 12, 12, dtype=dtype) * 3
    with torch.no_grad():
        before = model(other)
        report = convert_bn(model, batches)
        torch.testing.assert_close(model(other), before, rtol=limit * 10, atol=limit * 10)
    assert report.verify_error < limit
    assert list(report.layers) == ['norm']
    inputs = torch.cat([model.conv(batch) for batch in batches])
    torch.testing.assert_close(model.norm.running_mean, inputs.mean((0, 2, 3)), rtol=1e-4, atol=1e-4)


def test_train_mode_comes_close_to_the_function():
    model = Net().eval()
    batches = images(4, 32)
    converted = copy.deepcopy(model)
    convert_bn(converted, batches)
    with torch.no_grad():
        wanted = model(batches[0])
        plain, new = copy.deepcopy(model).train()(batches[0]), converted.train()(batches[0])
    assert (new - wanted).norm() < 0.1 * (plain - wanted).norm()


def test_other_statistics_are_no_batch_norm():
    with pytest.raises(ValueError, match='no batch normalisation in the model'):
        convert_bn(Net('IN'), images(1, 4))
