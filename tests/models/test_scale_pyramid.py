"""ScalePyramid: bilinear interpolation between pixel centres, level by level."""

import pytest
import torch
from mmseg.registry import MODELS


def bilinear(x, scale):
    """Slow oracle: each output pixel from the four input pixels around its centre, edges repeated."""
    height, width = x.shape[-2:]
    rows, columns = int(height * scale), int(width * scale)
    out = torch.zeros(*x.shape[:2], rows, columns, dtype=x.dtype)
    for i in range(rows):
        for j in range(columns):
            v, u = max((i + 0.5) / scale - 0.5, 0), max((j + 0.5) / scale - 0.5, 0)
            top, left = int(v), int(u)
            bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
            a, b = v - top, u - left
            out[..., i, j] = (1 - a) * ((1 - b) * x[..., top, left] + b * x[..., top, right]) + a * (
                (1 - b) * x[..., bottom, left] + b * x[..., bottom, right]
            )
    return out


def test_levels_equal_a_slow_oracle():
    torch.manual_seed(0)
    maps = [torch.randn(2, 3, 5, 8, dtype=torch.float64) for _ in range(4)]
    pyramid = MODELS.build(dict(type='ScalePyramid'))
    outs = pyramid(maps)
    assert isinstance(outs, tuple)
    assert [tuple(out.shape[-2:]) for out in outs] == [(20, 32), (10, 16), (5, 8), (2, 4)]
    for out, x, scale in zip(outs, maps, (4, 2, 1, 0.5), strict=True):
        torch.testing.assert_close(out, bilinear(x, scale))
    assert list(pyramid.parameters()) == []
    corners = MODELS.build(dict(type='ScalePyramid', scales=[2], align_corners=True))(maps[:1])[0]
    assert torch.equal(corners[..., -1, -1], maps[0][..., -1, -1])


def test_a_neck_takes_the_pyramid():
    cfg = dict(type='ScalePyramid', neck=dict(type='FPN', in_channels=[8] * 4, out_channels=6, num_outs=4))
    outs = MODELS.build(cfg)([torch.randn(1, 8, 4, 6) for _ in range(4)])
    assert [tuple(out.shape) for out in outs] == [(1, 6, 16, 24), (1, 6, 8, 12), (1, 6, 4, 6), (1, 6, 2, 3)]


def test_the_inner_neck_gets_the_channels_that_its_config_leaves_out():
    cfg = dict(type='ScalePyramid', scales=(2, 1), in_channels=(8, 4), neck=dict(type='FPN', out_channels=6, num_outs=2))
    assert MODELS.build(cfg).neck.in_channels == [8, 4]
    with pytest.raises(ValueError, match=r'scales=\(2, 1\) do not fit the 3 maps with \[8, 4, 4\] channels'):
        MODELS.build({**cfg, 'in_channels': (8, 4, 4)})


def test_wrong_numbers_are_refused():
    with pytest.raises(ValueError, match=r'got 3 maps for scales=\(4, 2, 1, 0.5\): give one scale per entry of out_indices'):
        MODELS.build(dict(type='ScalePyramid'))([torch.zeros(1, 2, 4, 4)] * 3)
    for scales in ((), (1, 0), (2, -1)):
        with pytest.raises(ValueError, match='must be positive factors'):
            MODELS.build(dict(type='ScalePyramid', scales=scales))
