"""Bring a synthetic image to the size of the real label that it shares."""

import mmcv
from mmcv.transforms import BaseTransform


class MatchLabelSize(BaseTransform):
    """Resize a synthetic ``img`` (H', W', 3) to the height and width of ``gt_seg_map`` (H, W); real images pass unchanged.

    ``RealSyntheticMix`` puts it right after the labels are loaded, before anything crops: generators often work at
    half the camera's resolution, and the augmentation must treat real and synthetic samples alike.
    """

    def transform(self, results: dict) -> dict:
        """Resize a synthetic image where its size differs from the label's."""
        height, width = results['gt_seg_map'].shape[:2]
        if results.get('synthetic') and results['img'].shape[:2] != (height, width):
            results['img'] = mmcv.imresize(results['img'], (width, height), interpolation='bilinear')
            results['img_shape'] = results['ori_shape'] = (height, width)
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}()'
