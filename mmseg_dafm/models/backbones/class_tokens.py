"""VPD's text adapter."""

import torch
from torch import Tensor, nn


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
