"""Which labels the Fisher information is taken at."""

from collections.abc import Sequence

import torch
from torch import Tensor

SOURCES = ('gt', 'sample', 'argmax')


def draw_labels(probabilities: Tensor, seeds: Sequence[int]) -> Tensor:
    """Labels drawn from a model's distribution, independently per pixel: they make the *true* Fisher information.

    Args:
        probabilities: (B, K, H, W), non-negative; divided by their sum over K. (The semantic map of mask classification is
            not normalised.)
        seeds: One per image.

    Returns:
        (B, H, W) int64.

    Source: FisherTune, equations 4 and 9.
    """
    drawn = []
    for image, seed in zip(probabilities, seeds, strict=True):
        # drawn on the CPU, so that the labels are the same on every device
        shares = (image / image.sum(0)).flatten(1).cpu().double().cumsum(0)
        number = torch.rand(shares.shape[1], generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        labels = (number > shares).sum(0).clamp(max=len(shares) - 1)
        drawn.append(labels.view(image.shape[1:]))
    return torch.stack(drawn).to(probabilities.device)
