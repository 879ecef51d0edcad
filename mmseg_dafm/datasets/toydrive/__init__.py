"""Procedurally drawn street scenes with exact labels and five conditions."""

from mmseg_dafm.datasets.toydrive.dataset import ToyDriveDataset
from mmseg_dafm.datasets.toydrive.scene import CONDITIONS, Scene, apply_condition, draw_scene

__all__ = ['CONDITIONS', 'Scene', 'ToyDriveDataset', 'apply_condition', 'draw_scene']
