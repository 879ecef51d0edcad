"""Resizing whole images to the square that an image tower takes."""

import torch.nn.functional as F  # noqa: N812
from torch import Tensor


def resize_square(images: Tensor, size: int) -> Tensor:
    """Resize images ``(B, C, H, W)`` to ``(B, C, size, size)``, antialiased and without crop; the same ones if they fit."""
    if tuple(images.shape[-2:]) == (size, size):
        return images
    return F.interpolate(images, (size, size), mode='bilinear', align_corners=False, antialias=True)
