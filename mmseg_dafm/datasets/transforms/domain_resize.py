"""Resize an image to the scale that its data set is tested at."""

from collections.abc import Mapping, Sequence

from mmcv.transforms import BaseTransform
from mmseg.datasets.transforms import Resize
from mmseg.registry import TRANSFORMS


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
