"""From class embeddings to cross-attention context: VPD's text adapter and Domino's fusion with the domain embedding."""

import torch
from torch import Tensor, nn

FUSE_MODES = ('none', 'add', 'sub', 'token')


class TextAdapter(nn.Module):
    r"""Refine frozen class embeddings by a small residual MLP.

    .. math:: \tilde c = c + \gamma \odot \mathrm{MLP}(c), \qquad \gamma_0 = 10^{-4}

    Args:
        channels: Width D of the class embeddings.
        gamma: Initial value of the per-channel scale.

    Shapes: ``(C, D)`` to ``(C, D)``.

    Source: VPD, eq. 5 and official implementation.
    """

    def __init__(self, channels: int, gamma: float = 1e-4):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(channels, channels), nn.GELU(), nn.Linear(channels, channels))
        self.gamma = nn.Parameter(torch.full((channels,), gamma))

    def forward(self, embeddings: Tensor) -> Tensor:
        """Return the refined class tokens ``(C, D)``."""
        return embeddings + self.gamma * self.mlp(embeddings)


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
