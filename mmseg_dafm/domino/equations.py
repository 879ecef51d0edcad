"""The equations of Domino on plain tensors: alpha, W, fusion with the class tokens, domain-adaptive normalisation."""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

FUSE_MODES = ('none', 'add', 'sub', 'token')


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


def domain_embedding(alpha: Tensor, descriptions: Tensor, scale: float = 1.0) -> Tensor:
    r"""The domain embedding of each image.

    .. math:: W = \lambda \sum_i \alpha_i d_i

    Args:
        alpha: ``(B, N)``.
        descriptions: Un-normalised description embeddings ``(N, D)``, of the joint or of the pooled space.
        scale: lambda; 1.0 is the paper's.

    Returns:
        W ``(B, D)``.

    Source: Domino, sec. 2.2.
    """
    with torch.autocast(alpha.device.type, enabled=False):
        return scale * (alpha.to(descriptions.dtype) @ descriptions)


def entropy(alpha: Tensor) -> Tensor:
    """Mean entropy of alpha ``(B, N)`` in nats; log N is uniform (W carries no information), 0 is one domain per image."""
    return torch.special.entr(alpha).sum(-1).mean()


def fuse_domain(tokens: Tensor, domain: Tensor | None, mode: str) -> Tensor:
    r"""Combine class tokens with the domain embedding W of each image.

    .. math:: \mathrm{add}: c_k + W, \quad \mathrm{sub}: c_k - W, \quad \mathrm{token}: (c_1, \dots, c_C, W)

    The same W on all class tokens leaves the first cross-attention map unchanged (the softmax is invariant to a shift
    of all keys) and shifts that layer's output by a spatially constant vector; only ``token`` can re-weight attention
    within a layer.

    Args:
        tokens: Class tokens ``(C, D)`` after the text adapter, or ``(B, C, D)``.
        domain: Domain embeddings W ``(B, D)``; ignored by ``none``.
        mode: One of :data:`FUSE_MODES`.

    Returns:
        Context ``(B, C, D)``, or ``(B, C + 1, D)`` for ``token`` (W is the last token); ``(1, C, D)`` for ``none``.

    Raises:
        ValueError: For an unknown mode, a missing W, or a W of another width.

    Source: Domino, sec. 2.3 and Fig. 2.
    """
    if mode not in FUSE_MODES:
        raise ValueError(f'fuse={mode!r} is unknown: use one of {FUSE_MODES}.')
    tokens = tokens if tokens.dim() == 3 else tokens[None]
    if mode == 'none':
        return tokens
    if domain is None:
        raise ValueError(
            f'fuse={mode!r} needs the domain embedding W: use the DomainAwareEncoderDecoder segmentor with a '
            f"domain_embedding, or set fuse='none'."
        )
    if domain.shape[-1] != tokens.shape[-1]:
        raise ValueError(
            f'the domain embedding has {domain.shape[-1]} channels and the class tokens have {tokens.shape[-1]}: '
            f'give the backbone domain_channels={domain.shape[-1]} so that it learns a projection.'
        )
    shift = domain.to(tokens.dtype)[:, None]
    if mode == 'token':
        return torch.cat([tokens.expand(shift.shape[0], -1, -1), shift], dim=1)
    return tokens + shift if mode == 'add' else tokens - shift


def modulate(affine: Tensor, unit: Tensor, gamma: Tensor, mu: Tensor) -> Tensor:
    r"""Domain-adaptive normalisation, from normalised features and the modulation of each image.

    .. math:: f_{adp} = \frac{f - \mu_f}{\sigma_f} \gamma(W) + \mu(W), \quad
        \gamma(W) = w + g(h(W)), \quad \mu(W) = b + m(h(W))

    The affine norm is given as it is and the modulation is added to it, so that a modulation of zero gives exactly the
    affine norm, to the last bit.

    Args:
        affine: ``w (f - mu_f) / sigma_f + b``, ``(B, C, H, W)``.
        unit: ``(f - mu_f) / sigma_f``, ``(B, C, H, W)``.
        gamma: g(h(W)), ``(B, C)``.
        mu: m(h(W)), ``(B, C)``.

    Returns:
        f_adp ``(B, C, H, W)``.

    Source: Domino, eq. 1.
    Deviation: w and b, the affine part of the norm that is replaced; w = 1 and b = 0 at the start.
    """
    return affine + torch.addcmul(mu.to(unit.dtype)[..., None, None], unit, gamma.to(unit.dtype)[..., None, None])
