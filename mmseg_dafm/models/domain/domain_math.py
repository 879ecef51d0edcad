"""Domino's domain embedding as pure functions: alpha and W."""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor


def domain_alpha(images: Tensor, descriptions: Tensor, temperature: float | Tensor = 1.0) -> Tensor:
    r"""Similarity of each image to each domain description.

    .. math:: \alpha_i = \mathrm{softmax}_i\!\left(\frac{1}{T} \frac{I \cdot d_i}{\lVert I \rVert \lVert d_i \rVert}\right)

    Args:
        images: Image embeddings I ``(B, P)`` in CLIP's joint space.
        descriptions: Description embeddings d ``(N, P)`` in the same space.
        temperature: T > 0. 1.0 is the equation as printed and nearly uniform, because CLIP cosines of one image differ
            by less than about 0.1; 0.01 is CLIP's own logit scale of 100.

    Returns:
        alpha ``(B, N)``, float32 or wider, rows sum to 1.

    Source: Domino, sec. 2.2.
    Deviation: the temperature, which the printed equation lacks; 1.0 gives the equation.
    """
    dtype = torch.promote_types(images.dtype, torch.float32)
    # cosines differ in the third digit, so half precision would decide the order by rounding
    with torch.autocast(images.device.type, enabled=False):
        cosine = F.normalize(images.to(dtype), dim=-1) @ F.normalize(descriptions.to(dtype), dim=-1).T
        return (cosine / temperature).softmax(-1)


def domain_embedding(alpha: Tensor, descriptions: Tensor) -> Tensor:
    r"""The domain embedding of each image.

    .. math:: W = \sum_i \alpha_i d_i

    Args:
        alpha: ``(B, N)``.
        descriptions: Un-normalised description embeddings ``(N, D)``, of the joint or of the pooled space.

    Returns:
        W ``(B, D)``.

    Source: Domino, sec. 2.2.
    """
    with torch.autocast(alpha.device.type, enabled=False):
        return alpha.to(descriptions.dtype) @ descriptions


def entropy(alpha: Tensor) -> Tensor:
    """Mean entropy of alpha ``(B, N)`` in nats; log N is uniform (W carries no information), 0 is one domain per image."""
    return torch.special.entr(alpha).sum(-1).mean()
