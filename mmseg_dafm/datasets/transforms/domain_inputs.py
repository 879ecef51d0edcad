"""Transforms of Domino's inputs: sizes per domain, the whole image kept beside the crop, packing."""

import inspect
import logging
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmengine.logging import print_log
from mmseg.datasets.transforms import PackSegInputs, Resize
from mmseg.registry import TRANSFORMS

from mmseg_dafm.domino import resize_short_side


@TRANSFORMS.register_module()
class DomainResize(BaseTransform):
    """mmseg's ``Resize`` with a scale per domain, so that one pipeline serves data sets with test protocols of their own.

    Args:
        scale: (width, height) that an image is fitted into; for domains that are not named, and images without a domain.
        domains: domain -> its (width, height).
        keep_ratio: keep the image's aspect ratio.

    Raises:
        ValueError: a scale is no pair of positive numbers.
    """

    def __init__(
        self,
        scale: Sequence[int],
        domains: Mapping[str, Sequence[int]] | None = None,
        keep_ratio: bool = True,
    ) -> None:
        self.scale, self.domains, self.keep_ratio = tuple(scale), {k: tuple(v) for k, v in (domains or {}).items()}, keep_ratio
        for name, value in {'scale': self.scale, **self.domains}.items():
            if len(value) != 2 or min(value) <= 0:
                raise ValueError(f'DomainResize: {name}={value} must be (width, height), both above 0.')
        self._resizes = {value: Resize(scale=value, keep_ratio=keep_ratio) for value in {self.scale, *self.domains.values()}}

    def transform(self, results: dict) -> dict:
        """Resize ``img``, and ``gt_seg_map`` where it was loaded before."""
        return self._resizes[self.domains.get(results.get('domain'), self.scale)](results)

    def __repr__(self) -> str:
        return f'{type(self).__name__}(scale={self.scale}, domains={self.domains}, keep_ratio={self.keep_ratio})'


# pixels by which resizing may miss the size that the scale factor gives
SLACK = 2


def domain_image(img: np.ndarray, size: int, to_rgb: bool = True) -> torch.Tensor:
    """Make a small copy of a whole image, with its aspect ratio and without a crop.

    Args:
        img: (H, W, 3) uint8, range 0 to 255; BGR where ``to_rgb`` is set.
        size: pixels of the copy's short side.
        to_rgb: swap the first and the last channel.

    Returns:
        (3, h, w) uint8 RGB, range 0 to 255, the shorter of h and w equal to ``size``.

    Raises:
        ValueError: ``img`` is not an (H, W, 3) array of uint8.
    """
    if img.ndim != 3 or img.shape[2] != 3 or img.dtype != np.uint8:
        raise ValueError(
            f'KeepDomainImage needs an (H, W, 3) uint8 image, got shape {img.shape} and {img.dtype}; '
            f'put it right after LoadImageFromFile, without to_float32.'
        )
    small = resize_short_side(torch.from_numpy(np.ascontiguousarray(img)).permute(2, 0, 1)[None], size)[0]
    # a copy of its own, because later transforms may write into the image
    return (small.flip(0) if to_rgb else small).clone(memory_format=torch.contiguous_format)


@TRANSFORMS.register_module()
class KeepDomainImage(BaseTransform):
    """Keep the whole image, small, for W before the pipeline crops it, as ``results['domain_img']``.

    Put it right after loading. ``PackDomainInputs`` carries the picture to ``data_sample.domain_img``; flips, crops
    and photometric distortions of the pipeline do not touch it. The image tower makes its square of the copy, see
    ``image_encoder.resize``; the training, the test and ``explore_domains.py`` resize by the same function. Behind a crop
    it warns once, because it then keeps the crop.

    Args:
        size: pixels of the copy's short side: the tower's ``image_size``, 224 for the usual CLIP towers. A larger copy is
            resized once more, a smaller one is refused.
        to_rgb: the image is BGR, as mmcv loads it, and is stored as RGB.

    Source: Domino, section 2.2 (the image encoder sees the image, not a crop).
    """

    warned = False

    def __init__(self, size: int = 224, to_rgb: bool = True) -> None:
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise ValueError(f'KeepDomainImage: size must be a positive integer, got {size!r}.')
        self.size = size
        self.to_rgb = to_rgb

    def transform(self, results: dict) -> dict:
        """Add ``domain_img``, (3, h, w) uint8 RGB, the shorter side ``size``."""
        self._warn_of_crop(results)
        results['domain_img'] = domain_image(results['img'], self.size, self.to_rgb)
        return results

    def _warn_of_crop(self, results: dict) -> None:
        """Warn, once per process, where an earlier transform has cut the image: nothing else says so."""
        original = results.get('ori_shape')
        if KeepDomainImage.warned or original is None:
            return
        scale = np.broadcast_to(np.asarray(results.get('scale_factor', 1.0), float), 2)[::-1]
        whole, found = np.asarray(original[:2]) * scale, results['img'].shape[:2]
        if (found < whole - SLACK).any():
            KeepDomainImage.warned = True
            print_log(
                f'KeepDomainImage keeps a crop of {found[0]}x{found[1]} pixels, not the whole image: put it before the crop, or '
                'leave it out and set domain_embedding.crop=True.',
                'current',
                logging.WARNING,
            )

    def __repr__(self) -> str:
        return f'{type(self).__name__}(size={self.size}, to_rgb={self.to_rgb})'


DOMAIN_KEYS = ('domain', 'domain_img')
# Read from mmseg, because its releases differ in their defaults.
DEFAULT_KEYS = tuple(inspect.signature(PackSegInputs.__init__).parameters['meta_keys'].default)


@TRANSFORMS.register_module()
class PackDomainInputs(PackSegInputs):
    """``PackSegInputs`` that also carries ``domain`` and ``domain_img`` as meta information.

    Keys that a sample does not have are left out, so the same pipeline serves data sets without domains.

    Args:
        meta_keys: meta information to carry; the default is mmseg's own plus ``'domain'`` and ``'domain_img'``.
    """

    def __init__(self, meta_keys: Sequence[str] = DEFAULT_KEYS + DOMAIN_KEYS) -> None:
        super().__init__(meta_keys=tuple(meta_keys))
