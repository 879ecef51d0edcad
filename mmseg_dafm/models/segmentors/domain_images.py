"""The images that the domain embedding is computed from."""

from collections.abc import Sequence

import torch
from mmengine.model import BaseDataPreprocessor
from torch import Tensor

from mmseg_dafm.models.domain.resize import resize_square

MID = 127.5


def to_unit_rgb(inputs: Tensor, preprocessor: BaseDataPreprocessor) -> Tensor:
    """Undo a data preprocessor's normalisation.

    Args:
        inputs: Network input ``(B, 3, H, W)``.
        preprocessor: The ``SegDataPreProcessor`` that made it.

    Returns:
        RGB images ``(B, 3, H, W)`` in [-1, 1].
    """
    if getattr(preprocessor, '_enable_normalize', False):
        inputs = inputs * preprocessor.std + preprocessor.mean
    # mmsegmentation 1.2.2 names the flag without the underscore; images are loaded as BGR
    if not getattr(preprocessor, '_channel_conversion', getattr(preprocessor, 'channel_conversion', False)):
        inputs = inputs.flip(1)
    return inputs / MID - 1


def kept_images(metas: Sequence[dict]) -> list[Tensor] | None:
    """The whole images ``(3, S, S)`` that KeepDomainImage has put into the meta information, or None if any lacks one."""
    if not metas or any(meta.get('domain_img') is None for meta in metas):
        return None
    return [torch.as_tensor(meta['domain_img']) for meta in metas]


def domain_images(inputs: Tensor, metas: Sequence[dict], preprocessor: BaseDataPreprocessor, size: int, crop: bool) -> Tensor:
    """Choose and prepare the images for the domain embedding.

    Args:
        inputs: Network input ``(B, 3, H, W)``: crops in training, whole images in test.
        metas: Meta information per image; ``domain_img``, the whole image as RGB uint8 ``(3, S, S)`` (see
            KeepDomainImage), is preferred; ``img_shape`` cuts off padding.
        preprocessor: The data preprocessor, whose normalisation is undone.
        size: Side in pixels of the result.
        crop: Use ``inputs`` even if ``domain_img`` is there.

    Returns:
        RGB images ``(B, 3, size, size)`` in [-1, 1].
    """
    kept = kept_images(metas) if not crop else None
    if kept is not None:
        images = torch.stack(kept)
        return resize_square(images.to(inputs.device, inputs.dtype) / MID - 1, size)
    images = to_unit_rgb(inputs, preprocessor)
    shapes = [tuple(meta.get('img_shape', inputs.shape[2:])[:2]) for meta in metas] or [tuple(inputs.shape[2:])] * len(inputs)
    if all(shape == tuple(inputs.shape[2:]) for shape in shapes):
        return resize_square(images, size)
    unpadded = zip(images, shapes, strict=True)
    return torch.cat([resize_square(image[None, :, :height, :width], size) for image, (height, width) in unpadded])
