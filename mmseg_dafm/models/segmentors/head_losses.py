"""Losses of a segmentor's heads, for a batch or for each of its images alone."""

from collections.abc import Callable

from mmseg.models.segmentors import EncoderDecoder
from torch import Tensor

from mmseg_dafm.models.layers.domino_norm import conditioned


def head_losses(model: EncoderDecoder, features: tuple[Tensor, ...], data_samples: list) -> dict:
    """Losses of the decode head and of the auxiliary heads.

    Args:
        model: Its heads are used.
        features: What its neck, or its backbone, gave: maps ``(B, C, h, w)``.
        data_samples: ``SegDataSample`` per image.
    """
    losses = dict(model._decode_head_forward_train(features, data_samples))
    if model.with_auxiliary_head:
        losses.update(model._auxiliary_head_forward_train(features, data_samples))
    return losses


def head_losses_per_image(
    model: EncoderDecoder,
    features: tuple[Tensor, ...],
    data_samples: list,
    before: Callable[[int], None],
    domain: Tensor | None = None,
) -> list[dict]:
    """Losses of each image as if it were alone, from features of the whole batch.

    Args:
        model: Its heads are used.
        features: Maps ``(B, C, h, w)``.
        data_samples: ``SegDataSample`` per image.
        before: Called with an image's number before its heads run.
        domain: W ``(B, D)`` for heads that take it.
    """
    found = []
    for i in range(len(data_samples)):
        before(i)
        with conditioned(model, None if domain is None else domain[i : i + 1]):
            found.append(head_losses(model, tuple(feature[i : i + 1] for feature in features), data_samples[i : i + 1]))
    return found
