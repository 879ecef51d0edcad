"""Adapters of frozen ViTs: importing this package registers them."""

from mmseg_dafm.models.adapters.adapter import Adapter, build_adapter, trainable_parameters
from mmseg_dafm.models.adapters.adaptformer import AdaptFormer
from mmseg_dafm.models.adapters.lora import LoRA
from mmseg_dafm.models.adapters.rein import Rein
from mmseg_dafm.models.adapters.vpt import VPT
from mmseg_dafm.models.adapters.vqt import VQT

__all__ = ['VPT', 'VQT', 'AdaptFormer', 'Adapter', 'LoRA', 'Rein', 'build_adapter', 'trainable_parameters']
