"""Models: importing this package registers them."""

from mmseg_dafm.models.adapters import VPT, VQT, AdaptFormer, LoRA, Rein
from mmseg_dafm.models.adapters.rein_segmentor import ReinEncoderDecoder
from mmseg_dafm.models.backbones import VFMBackbone, VPDBackbone
from mmseg_dafm.models.domain import DomainEmbedding
from mmseg_dafm.models.heads import DominoFPNHead, HFMask2FormerHead
from mmseg_dafm.models.layers import DominoNorm
from mmseg_dafm.models.necks import ScalePyramid
from mmseg_dafm.models.pretrained import CheckedPretrainedInit
from mmseg_dafm.models.segmentors import DomainAwareEncoderDecoder

__all__ = [
    'VPT',
    'VQT',
    'AdaptFormer',
    'CheckedPretrainedInit',
    'DomainAwareEncoderDecoder',
    'DomainEmbedding',
    'DominoFPNHead',
    'DominoNorm',
    'HFMask2FormerHead',
    'LoRA',
    'Rein',
    'ReinEncoderDecoder',
    'ScalePyramid',
    'VFMBackbone',
    'VPDBackbone',
]
