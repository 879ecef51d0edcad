"""Class masks from label maps, and ignored pixels that no sampled point can feel."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from mmseg_dafm.models.heads.hf_mask2former_head import class_masks, hide_ignored

SIZE = (64, 96)


def test_class_masks_are_those_of_the_classes_present():
    label = torch.tensor([[0, 3, 255], [3, 3, 1]])
    masks, classes = class_masks(label, 4)
    assert classes.tolist() == [0, 1, 3]
    assert masks.tolist() == [[[1, 0, 0], [0, 0, 0]], [[0, 0, 0], [0, 0, 1]], [[0, 1, 0], [1, 1, 0]]]
    masks, classes = class_masks(torch.full((2, 3), 7), 4, ignore_index=7)
    assert masks.shape == (0, 2, 3)
    assert classes.dtype == torch.int64
    with pytest.raises(ValueError, match=r'holds the labels \[0, 1, 3\], but num_classes=3 .*reduce_zero_label'):
        class_masks(label, 3)
    with pytest.raises(ValueError, match='holds the labels'):
        class_masks(torch.tensor([[-1, 2]]), 3)


def blocks(seed):
    """An ignored region of random rectangles, one at the border, in 64 x 96 pixels."""
    generator = torch.Generator().manual_seed(seed)
    ignored = torch.zeros(1, *SIZE, dtype=torch.bool)
    ignored[0, :22, 61:] = True
    for _ in range(3):
        top, left = int(torch.randint(0, 40, (), generator=generator)), int(torch.randint(0, 60, (), generator=generator))
        ignored[0, top : top + 23, left : left + 30] = True
    return ignored


@pytest.mark.parametrize('seed', range(4))
def test_hidden_cells_are_those_whose_neighbourhood_is_ignored_and_no_point_outside_sees_them(seed):
    ignored = blocks(seed)
    logits = torch.randn(1, 2, 16, 24, dtype=torch.float64, requires_grad=True)
    shown = hide_ignored(logits, ignored)
    for i in range(16):
        for j in range(24):
            rows, columns = slice(max(4 * i - 4, 0), 4 * i + 8), slice(max(4 * j - 4, 0), 4 * j + 8)
            expected = ignored[0, rows, columns].all()
            assert bool((shown[0, :, i, j] == -1e4).all()) == bool(expected)
    points = torch.rand(1, 4000, 2, dtype=torch.float64)
    valid = ~ignored[0, (points[0, :, 1] * 64).long(), (points[0, :, 0] * 96).long()]
    assert 0 < valid.sum() < 4000
    one, other = (F.grid_sample(x, 2 * points[:, :, None] - 1, align_corners=False)[..., 0] for x in (logits, shown))
    assert torch.equal(one[..., valid], other[..., valid])
    shown.sum().backward()
    assert torch.equal(logits.grad == 0, shown == -1e4)
    assert torch.equal(hide_ignored(logits, torch.zeros_like(ignored)), logits)
