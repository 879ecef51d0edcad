"""Models: importing this package registers them."""

from mmseg_dafm.models.backbones import VFMBackbone, VPDBackbone
from mmseg_dafm.models.domain import DomainEmbedding
from mmseg_dafm.models.heads import DominoFPNHead, HFMask2FormerHead
from mmseg_dafm.models.layers import DominoNorm
from mmseg_dafm.models.necks import ScalePyramid
from mmseg_dafm.models.segmentors import DomainAwareEncoderDecoder

__all__ = [
    'DomainAwareEncoderDecoder',
    'DomainEmbedding',
    'DominoFPNHead',
    'DominoNorm',
    'HFMask2FormerHead',
    'ScalePyramid',
    'VFMBackbone',
    'VPDBackbone',
]
