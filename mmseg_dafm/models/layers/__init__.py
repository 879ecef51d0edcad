"""Layers."""

from mmseg_dafm.models.layers.domino_norm import DominoNorm, conditioned

__all__ = ['DominoNorm', 'conditioned']
