"""Keep a small copy of the whole image, for the domain embedding."""

import cv2
import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmseg.registry import TRANSFORMS


def domain_image(img: np.ndarray, size: int, to_rgb: bool = True) -> torch.Tensor:
    """Resize a whole image to a square, without a crop.

    Args:
        img: (H, W, 3) uint8, range 0 to 255; BGR where ``to_rgb`` is set.
        size: side of the square in pixels.
        to_rgb: swap the first and the last channel.

    Returns:
        (3, size, size) uint8 RGB, range 0 to 255.

    Raises:
        ValueError: ``img`` is not an (H, W, 3) array of uint8.
    """
    if img.ndim != 3 or img.shape[2] != 3 or img.dtype != np.uint8:
        raise ValueError(
            f'KeepDomainImage needs an (H, W, 3) uint8 image, got shape {img.shape} and {img.dtype}; '
            f'put it right after LoadImageFromFile, without to_float32.'
        )
    # Area interpolation averages all pixels; it means nothing for enlarging, where cv2 falls back to bilinear.
    small = cv2.resize(img, (size, size), interpolation=cv2.INTER_AREA)
    if to_rgb:
        small = small[..., ::-1]
    return torch.from_numpy(np.ascontiguousarray(small.transpose(2, 0, 1)))


@TRANSFORMS.register_module()
class KeepDomainImage(BaseTransform):
    """Store the whole image, small, as ``results['domain_img']`` before the pipeline crops it.

    Put it right after loading. ``PackDomainInputs`` carries the picture to ``data_sample.domain_img``; flips, crops
    and photometric distortions of the pipeline do not touch it.

    Args:
        size: side in pixels, 224 for the usual CLIP towers.
        to_rgb: the image is BGR, as mmcv loads it, and is stored as RGB.

    Source: Domino, section 2.2 (the image encoder sees the image, not a crop).
    """

    def __init__(self, size: int = 224, to_rgb: bool = True) -> None:
        if not isinstance(size, int) or size < 1:
            raise ValueError(f'KeepDomainImage: size must be a positive integer, got {size!r}.')
        self.size = size
        self.to_rgb = to_rgb

    def transform(self, results: dict) -> dict:
        """Add ``domain_img``, (3, size, size) uint8 RGB."""
        results['domain_img'] = domain_image(results['img'], self.size, self.to_rgb)
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(size={self.size}, to_rgb={self.to_rgb})'
