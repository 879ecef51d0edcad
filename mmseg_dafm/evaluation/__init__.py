"""Metrics and their tables; importing the package registers them."""

from mmseg_dafm.evaluation.domain_iou import DomainIoUMetric

__all__ = ['DomainIoUMetric']
