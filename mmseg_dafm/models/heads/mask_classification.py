"""Semantic segmentation as mask classification: class masks from a label map, hidden pixels, class scores from masks."""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

# a logit whose sigmoid, cross-entropy against 0 and gradient are all exactly zero in float32
BACKGROUND = -1e4


def class_masks(label: Tensor, num_classes: int, ignore_index: int = 255) -> tuple[Tensor, Tensor]:
    """One binary mask for each class that occurs in a label map.

    Args:
        label: Class of each pixel ``(H, W)``, integer, or ``ignore_index``.
        num_classes: Number of classes C.
        ignore_index: Pixels in no mask.

    Returns:
        Masks ``(N, H, W)`` of 0. and 1., and their classes ``(N,)`` in ascending order; N = 0 if all pixels are ignored.

    Raises:
        ValueError: If a label is neither a class nor ``ignore_index``.
    """
    classes = label.unique()
    classes = classes[classes != ignore_index]
    if len(classes) and not 0 <= int(classes[0]) <= int(classes[-1]) < num_classes:
        raise ValueError(
            f'the ground truth holds the labels {classes.tolist()}, but num_classes={num_classes} and '
            f'ignore_index={ignore_index}: set num_classes, or reduce_zero_label in the data set.'
        )
    return (label == classes[:, None, None]).float(), classes.long()


def hide_ignored(mask_logits: Tensor, ignored: Tensor) -> Tensor:
    """Make ignored pixels confident background, which costs nothing because no mask holds them.

    A cell of the logits is hidden if it and its eight neighbours lie in the ignored region: then no point outside that
    region, wherever it is sampled, is interpolated from a hidden cell (masks at least twice as coarse as labels).

    Args:
        mask_logits: ``(B, Q, h, w)``.
        ignored: True where the label map is to be ignored ``(B, H, W)``.

    Returns:
        The logits, -10,000 and without gradient in hidden cells.
    """
    covered = F.adaptive_avg_pool2d(ignored[:, None].float(), mask_logits.shape[-2:]) == 1
    hidden = -F.max_pool2d(-covered.float(), 3, stride=1, padding=1) == 1
    return mask_logits.masked_fill(hidden, BACKGROUND)


def semantic_scores(class_logits: Tensor, mask_logits: Tensor) -> Tensor:
    r"""Score of each class at each pixel.

    .. math:: s_{chw} = \sum_q \mathrm{softmax}(p_q)_c \, \sigma(m_{qhw}), \quad c \ne \text{no object}

    Args:
        class_logits: p, ``(B, Q, C + 1)``, "no object" last.
        mask_logits: m, ``(B, Q, h, w)``.

    Returns:
        Scores ``(B, C, h, w)``, not negative.

    Source: MaskFormer (Cheng et al., NeurIPS 2021), sec. 3.4, semantic inference.
    """
    # a sum over a hundred queries: not in half precision
    with torch.autocast(mask_logits.device.type, enabled=False):
        return torch.einsum('bqc,bqhw->bchw', class_logits.float().softmax(-1)[..., :-1], mask_logits.float().sigmoid())
