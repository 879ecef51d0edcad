"""Resizing whole images for an image tower: one path for training, test and the domain explorer.

The steps are those of CLIP's own preprocessing: bicubic with antialiasing, rounded to bytes as Pillow rounds, the short side
first. What differs is only how the square is made of the result: by its centre, or by stretching.
"""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

MID = 127.5


def to_bytes(images: Tensor) -> Tensor:
    """Images in [-1, 1] as uint8 in 0 to 255, rounded; values beyond are clipped."""
    return ((images.float() + 1) * MID).round().clamp(0, 255).to(torch.uint8)


def from_bytes(images: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """uint8 images as ``dtype`` in [-1, 1]."""
    return images.to(dtype) / MID - 1


def resize_short_side(images: Tensor, size: int) -> Tensor:
    """Resize images so that the short side has ``size`` pixels, keeping the aspect ratio; the same ones if it has them.

    Args:
        images: uint8 ``(B, C, H, W)``.
        size: Pixels of the short side.

    Returns:
        uint8 ``(B, C, h, w)``; the long side is cut to a whole number of pixels, as torchvision and transformers do.
    """
    height, width = images.shape[-2:]
    if height <= width:
        return _bicubic(images, size, int(size * width / height))
    return _bicubic(images, int(size * height / width), size)


def make_square(images: Tensor, size: int, crop: bool) -> Tensor:
    """Make a square of images whose short side has ``size`` pixels.

    Args:
        images: uint8 ``(B, C, h, w)``.
        size: Side of the square in pixels.
        crop: Take the centre, as CLIP does; else stretch, so that the whole image stays.

    Returns:
        uint8 ``(B, C, size, size)``. An odd rest of the crop is split as torchvision does; transformers may differ by a pixel.
    """
    if not crop:
        return _bicubic(images, size, size)
    top, left = (round((side - size) / 2) for side in images.shape[-2:])
    return images[..., top : top + size, left : left + size]


def _bicubic(images: Tensor, height: int, width: int) -> Tensor:
    """Bicubic with antialiasing as Pillow does it: rows first, each direction rounded to bytes."""
    if tuple(images.shape[-2:]) == (height, width):
        return images
    if images.device.type == 'cpu':
        # torch's kernel for bytes is Pillow's
        return F.interpolate(images, (height, width), mode='bicubic', align_corners=False, antialias=True)
    for shape in ((images.shape[-2], width), (height, width)):
        images = F.interpolate(images.float(), shape, mode='bicubic', align_corners=False, antialias=True).round().clamp(0, 255)
    return images.to(torch.uint8)
