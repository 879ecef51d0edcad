"""Metrics and their tables. Importing this package registers them."""

from mmseg_dafm.evaluation.domain_iou import DomainIoUMetric

__all__ = ['DomainIoUMetric']
