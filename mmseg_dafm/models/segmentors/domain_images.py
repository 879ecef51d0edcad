"""The images that the domain embedding is computed from."""

from collections.abc import Sequence

import torch
from mmengine.model import BaseDataPreprocessor
from torch import Tensor

from mmseg_dafm.domino import MID, from_bytes, to_bytes
from mmseg_dafm.models.domain.image_encoder import ImageEncoder


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
    """The whole images ``(3, h, w)`` that KeepDomainImage has put into the meta information, or None if any lacks one."""
    if not metas or any(meta.get('domain_img') is None for meta in metas):
        return None
    return [torch.as_tensor(meta['domain_img']) for meta in metas]


def domain_images(
    inputs: Tensor, metas: Sequence[dict], preprocessor: BaseDataPreprocessor, encoder: ImageEncoder, crop: bool
) -> Tensor:
    """Choose and prepare the images for the domain embedding.

    Args:
        inputs: Network input ``(B, 3, H, W)``: crops in training, whole images in test.
        metas: Meta information per image; ``domain_img``, the whole image as RGB uint8 ``(3, h, w)`` (see
            KeepDomainImage), is preferred; ``img_shape`` cuts off padding.
        preprocessor: The data preprocessor, whose normalisation is undone.
        encoder: The image tower, which says how its square is made.
        crop: Use ``inputs`` even if ``domain_img`` is there.

    Returns:
        RGB images ``(B, 3, S, S)`` in [-1, 1], S the tower's ``image_size``.

    Raises:
        ValueError: If the short side of a kept image is below S, so that it would be enlarged.
    """
    kept = kept_images(metas) if not crop else None
    if kept is not None:
        for image in kept:
            if min(image.shape[-2:]) < encoder.image_size:
                raise ValueError(
                    f'domain_img has a short side of {min(image.shape[-2:])} pixels and the image tower takes '
                    f'{encoder.image_size}: set KeepDomainImage.size={encoder.image_size} in every pipeline.'
                )
        square = torch.cat([encoder.view(image[None]) for image in kept])
        return from_bytes(square.to(inputs.device), inputs.dtype)
    images = to_bytes(to_unit_rgb(inputs, preprocessor))
    shapes = [tuple(meta.get('img_shape', inputs.shape[2:])[:2]) for meta in metas] or [tuple(inputs.shape[2:])] * len(inputs)
    if all(shape == tuple(inputs.shape[2:]) for shape in shapes):
        square = encoder.view(images)
    else:
        unpadded = zip(images, shapes, strict=True)
        square = torch.cat([encoder.view(image[None, :, :height, :width]) for image, (height, width) in unpadded])
    return from_bytes(square, inputs.dtype)
