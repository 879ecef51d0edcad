"""Segmentors."""

from mmseg_dafm.models.segmentors.domain_aware_encoder_decoder import DomainAwareEncoderDecoder

__all__ = ['DomainAwareEncoderDecoder']
